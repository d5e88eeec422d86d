"""IDX files that are right, against NumPy and the standard library's compressors: every type, rank and container."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.errors import DataError, StorageError
from tasks.idx import IdxHeader, IdxWriter, describe, open_idx, read_idx, write_idx

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CONTAINERS = ("raw", "gzip", "xz", "zip", "zip of gzip", "zip of xz", "gzip members", "xz streams")
BLOCKS = np.random.default_rng(5).integers(0, 256, (4000, 20, 13), np.uint8)
ROOT = Path(__file__).parents[2]

# One folder serves all examples of a property: each writes the same names anew.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def arrays(draw: st.DrawFn, least_items: int = 0) -> tuple[int, NDArray[Any]]:
    """Return a type code and an array of that type, rank 1 to 5."""
    code = draw(st.sampled_from(sorted(CODES)))
    item = draw(st.lists(st.integers(1, 4), max_size=4))
    shape = (draw(st.integers(least_items, 9)), *item)
    return code, draw(hnp.arrays(np.dtype(CODES[code]), shape))


def spell(code: int, array: NDArray[Any]) -> bytes:
    """Return the file by the format's definition, without the code under test."""
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def store(path: Path, data: bytes, container: str) -> None:
    """Put ``data`` into a container of the standard library's making; names say nothing of the content."""
    half = len(data) // 2
    packed = {
        "gzip": lambda: gzip.compress(data),
        "xz": lambda: lzma.compress(data),
        "gzip members": lambda: gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:]),
        "xz streams": lambda: lzma.compress(data[:half]) + lzma.compress(data[half:]),
    }
    if not container.startswith("zip"):
        path.write_bytes(packed.get(container, lambda: data)())
        return
    inner = packed.get(container.removeprefix("zip of "), lambda: data)()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gzip/readme.txt", "not this one")
        archive.writestr("gzip/letters-images", inner)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def member_of(container: str) -> str | None:
    return "gzip/letters-images" if container.startswith("zip") else None


@pytest.mark.parametrize("container", CONTAINERS)
@given(case=arrays(), items=st.integers(1, 12))
@relaxed
def test_batches_are_what_numpy_reads(
    tmp_path: Path, container: str, case: tuple[int, NDArray[Any]], items: int
) -> None:
    code, array = case
    data = spell(code, array)
    path = tmp_path / "file"
    store(path, data, container)
    oracle = np.frombuffer(data, CODES[code], offset=4 + 4 * array.ndim).reshape(array.shape)

    with open_idx(path, member=member_of(container)) as reader:
        batches = list(reader.batches(items))
        assert reader.container == container.partition(" ")[0]
        assert reader.header.shape == array.shape
        assert reader.header.dtype == np.dtype(CODES[code])
        assert reader.payload_sha256() == hashlib.sha256(data).hexdigest()
    assert [len(batch) for batch in batches] == [min(items, len(array) - at) for at in range(0, len(array), items)]
    assert all(batch.dtype == np.dtype(CODES[code]) and batch.shape[1:] == array.shape[1:] for batch in batches)
    assert b"".join(batch.tobytes() for batch in batches) == oracle.tobytes()


@pytest.fixture(scope="module", params=CONTAINERS)
def many_blocks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A container and a file in it: 4,000 items of random bytes, so that there are many blocks however compressed."""
    path = tmp_path_factory.mktemp("blocks") / "file"
    store(path, spell(0x08, BLOCKS), request.param)
    return request.param, path


@pytest.mark.parametrize("items", [1, 300, 1000, 2000, 3500, 10_000])
def test_files_of_many_blocks_come_through_whole(many_blocks: tuple[str, Path], items: int) -> None:
    container, path = many_blocks
    with open_idx(path, member=member_of(container)) as reader:
        # Pieces are let go as a stage would, while their digest may still be under way.
        assert b"".join(batch.tobytes() for batch in reader.batches(items)) == BLOCKS.tobytes()
        assert reader.payload_sha256() == hashlib.sha256(spell(0x08, BLOCKS)).hexdigest()


@given(case=arrays(), size=st.integers(1, 4000))
@relaxed
def test_chunks_are_whole_items(tmp_path: Path, case: tuple[int, NDArray[Any]], size: int) -> None:
    code, array = case
    path = tmp_path / "file"
    store(path, spell(code, array), "gzip")
    with open_idx(path) as reader:
        chunks = list(reader.chunks(size))
        item = reader.header.item_bytes
    assert b"".join(chunks) == array.tobytes()
    assert all(len(chunk) % item == 0 and len(chunk) <= max(size, item) for chunk in chunks)


@given(case=arrays(), native=st.booleans(), compress=st.booleans(), items=st.integers(1, 9))
@relaxed
def test_what_is_written_is_the_format_byte_for_byte(
    tmp_path: Path, case: tuple[int, NDArray[Any]], native: bool, compress: bool, items: int
) -> None:
    code, array = case
    given_array = array.astype(array.dtype.newbyteorder("=")) if native else array
    path = tmp_path / "written"
    with IdxWriter(path, given_array.dtype, array.shape[1:], compress=compress) as writer:
        for at in range(0, len(array), items):
            writer.write(given_array[at : at + items])
    written = path.read_bytes()
    plain = gzip.decompress(written) if compress else written
    # NaN payloads may change in conversion, so floats are compared as numbers.
    assert plain[: 4 + 4 * array.ndim] == spell(code, array)[: 4 + 4 * array.ndim]
    np.testing.assert_array_equal(np.frombuffer(plain, CODES[code], offset=4 + 4 * array.ndim), array.reshape(-1))
    np.testing.assert_array_equal(read_idx(path), array)
    assert names(tmp_path) == ["written"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_that_are_not_contiguous_are_written_in_c_order(tmp_path: Path, order: Literal["C", "F"]) -> None:
    array = np.asarray(np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5), order=order)[:, ::2, ::-1]
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


@given(
    code=st.sampled_from(sorted(CODES)),
    items=st.integers(0, 2**32 - 1),
    item=st.lists(st.integers(1, 2**32 - 1), max_size=1),
)
def test_header_sizes_are_exact_beyond_machine_words(code: int, items: int, item: list[int]) -> None:
    header = IdxHeader(np.dtype(CODES[code]), (items, *item))
    assert header.encode() == struct.pack(f">HBB{1 + len(item)}I", 0, code, 1 + len(item), items, *item)
    assert header.size == len(header.encode())
    assert header.payload_bytes == items * math.prod(item) * np.dtype(CODES[code]).itemsize
    assert (header.items, header.item_shape) == (items, tuple(item))


@pytest.mark.parametrize("dtype", ["u2", "u4", "i8", "u8", "f2", "c8", "?", "S3", "U2", "O", "M8[s]"])
def test_types_that_idx_lacks_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DataError, match="uint8, int8, int16, int32, float32 or float64"):
        write_idx(tmp_path / "a", np.zeros(3, dtype))
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((), "rank 0"), ((1,) * 65, "rank 65"), ((2**32,), "4294967296"), ((1, 0), "no elements"), ((-1,), "-1")],
)
def test_shapes_that_idx_cannot_state_are_refused(shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(DataError, match=text):
        IdxHeader(np.dtype("u1"), shape)


def test_files_without_items_have_no_batches(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((0, 28, 28), np.uint8))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)
    with open_idx(tmp_path / "a") as reader:
        assert list(reader.batches(10)) == []


@pytest.mark.parametrize("compress", [False, True])
def test_equal_arrays_give_equal_files_with_the_rights_of_any_new_file(tmp_path: Path, compress: bool) -> None:
    array = np.arange(50_000, dtype=np.int32)
    write_idx(tmp_path / "a", array, compress=compress)
    write_idx(tmp_path / "b", array, compress=compress)
    (tmp_path / "c").touch()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "c").stat().st_mode)


def test_gzip_that_is_written_passes_the_system_gzip(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 9, (3000, 28, 28), np.uint8)
    write_idx(tmp_path / "a.gz", array, compress=True)
    assert subprocess.run(["gzip", "-t", tmp_path / "a.gz"], check=True, capture_output=True).stderr == b""


@pytest.mark.parametrize("compress", [False, True])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, compress: bool) -> None:
    (tmp_path / "a").write_text("before")

    def fail() -> None:
        with IdxWriter(tmp_path / "a", np.uint8, (2,), compress=compress) as writer:
            writer.write(np.zeros((3, 2), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "before"


@pytest.mark.parametrize("bad", [np.zeros((3, 3), np.uint8), np.zeros((3, 2), np.int8), np.array(3, np.uint8)])
def test_a_writer_refuses_items_of_another_kind(tmp_path: Path, bad: NDArray[Any]) -> None:
    with (
        pytest.raises(DataError, match=r"items of shape \(2\) of uint8"),
        IdxWriter(tmp_path / "a", np.uint8, (2,)) as writer,
    ):
        writer.write(bad)
    assert not names(tmp_path)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "a", tmp_path / "folder"):
        with pytest.raises(StorageError, match="cannot be written"):
            write_idx(path, np.zeros(3, np.uint8))
    assert names(tmp_path) == ["folder"]


def test_a_full_disk_is_reported_and_nothing_stays(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from schemas.errors import StorageError
from tasks.idx import write_idx
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_idx(Path(sys.argv[1]), np.zeros(1_000_000, np.uint8))
except StorageError as error:
    print(error)
"""
    done = run(code, str(tmp_path / "a"))
    assert "it cannot be written (File too large)" in done.stdout, done.stderr
    assert not names(tmp_path)


def test_a_reader_gives_digests_of_whole_files_only(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((4, 2), np.uint8))
    with open_idx(tmp_path / "a") as reader:
        stream = reader.batches(2)
        next(stream)
        with pytest.raises(RuntimeError, match="read to its end"):
            reader.payload_sha256()
        with pytest.raises(RuntimeError, match="streams its file once"):
            next(reader.batches(2))
        list(stream)
    assert reader.payload_sha256() == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_a_reader_does_not_outlive_its_context(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((4, 2), np.uint8))
    with open_idx(tmp_path / "a") as reader:
        stream = reader.batches(1)
        next(stream)
    with pytest.raises(RuntimeError, match="closed"):
        next(stream)
    with open_idx(tmp_path / "a") as reader, pytest.raises(ValueError, match="0 items"):
        next(reader.batches(0))


def test_links_are_followed_and_names_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "t10k-images.gz.npy").write_bytes(spell(0x08, np.arange(6, dtype="u1")))
    (tmp_path / "link").symlink_to("t10k-images.gz.npy")
    assert read_idx(tmp_path / "link", expect="labels").tolist() == [0, 1, 2, 3, 4, 5]


def test_the_only_file_of_a_zip_needs_no_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.mkdir("gzip")
        archive.writestr("gzip/labels.gz", gzip.compress(spell(0x08, np.arange(4, dtype="u1"))))
    assert read_idx(tmp_path / "z").tolist() == [0, 1, 2, 3]


@given(case=arrays(least_items=1), container=st.sampled_from(CONTAINERS))
@relaxed
def test_a_description_agrees_with_numpy(tmp_path: Path, case: tuple[int, NDArray[Any]], container: str) -> None:
    code, array = case
    data = spell(code, array)
    store(tmp_path / "a", data, container)
    told = describe(tmp_path / "a", member_of(container))
    finite = array[np.isfinite(array)].astype(np.float64)

    assert (told.container, told.dtype, told.shape) == (container.partition(" ")[0], array.dtype.name, array.shape)
    assert (told.items, told.payload_bytes) == (len(array), array.nbytes)
    assert told.payload_sha256 == hashlib.sha256(data).hexdigest()
    assert told.container_sha256 == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()
    assert told.not_finite == array.size - finite.size
    assert told.minimum == (finite.min() if finite.size else None)
    assert told.maximum == (finite.max() if finite.size else None)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = finite.mean() if finite.size else np.nan
    if np.isfinite(mean):
        assert told.mean == pytest.approx(mean, rel=1e-9, abs=1e-9 * np.abs(finite).max())
    else:
        assert told.mean is None
    if array.ndim == 1 and array.dtype.kind in "iu":
        values, times = np.unique(array, return_counts=True)
        assert told.label_counts == dict(zip(values.tolist(), times.tolist(), strict=True))
        assert told.guess == "labels"
    else:
        assert told.label_counts is None


@pytest.mark.parametrize(
    ("shape", "dtype", "guess"),
    [
        ((3,), "u1", "labels"),
        ((3,), "f4", "other"),
        ((3, 784), "u1", "images"),
        ((3, 8), "i4", "other"),
        ((3, 2, 2), "u1", "images"),
        ((3, 2, 2, 3), "f4", "images"),
    ],
)
def test_the_guess_goes_by_rank_and_type(tmp_path: Path, shape: tuple[int, ...], dtype: str, guess: str) -> None:
    write_idx(tmp_path / "a", np.zeros(shape, dtype))
    assert describe(tmp_path / "a").guess == guess


def test_labels_of_too_many_kinds_are_not_counted(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.arange(1000, dtype=np.int32))
    write_idx(tmp_path / "b", np.arange(1001, dtype=np.int32))
    assert len(describe(tmp_path / "a").label_counts or {}) == 1000
    assert describe(tmp_path / "b").label_counts is None


@pytest.mark.slow
@pytest.mark.parametrize("compress", [False, True])
def test_memory_is_flat_in_the_number_of_items(tmp_path: Path, compress: bool) -> None:
    """600 MB of images pass through a process that may grow by 64 MB."""
    images = np.random.default_rng(0).integers(0, 4, (10_000, 28, 28), np.uint8)
    with IdxWriter(tmp_path / "a", np.uint8, (28, 28), compress=compress) as writer:
        for _ in range(77):
            writer.write(images)
    code = """
import sys
from pathlib import Path
from tasks.idx import open_idx
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
with open_idx(Path(sys.argv[1])) as reader:
    rows = sum(len(batch) for batch in reader.batches(1000))
print(rows, (peak() - before) // 1024)
"""
    rows, grown = run(code, str(tmp_path / "a")).stdout.split()
    assert int(rows) == 770_000
    assert int(grown) < 64


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
