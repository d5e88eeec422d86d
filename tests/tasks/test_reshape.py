"""Reshape: rows keep their place for every layout, scan, type and T, by NumPy's own reshape as the oracle."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import both, dataset_of, drawn, labels_of, objects, parsed, receipt_of, signed, silent, staged

from schemas.configuration import Layout, Reshape, Scan
from schemas.errors import ConfigurationError, DataError, StorageError
from schemas.ledger import CountsBrokenError
from tasks.arrays import X_FILE, open_arrays
from tasks.receipts import demand_seal, keep_receipt, open_receipt
from tasks.reshape import reshape, sealed
from tasks.store import Store
from tasks.validate import validate, validated

if TYPE_CHECKING:
    from schemas.handles import Handle, Sequences, Table

SCANS: tuple[Scan, ...] = ("rows", "columns", "permuted")
TYPES = ("u1", "i1", "i2", "i4", "f4", "f8")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def scanned(images: np.ndarray[Any, Any], chosen: Reshape) -> np.ndarray[Any, Any]:
    """The pixels (N, pixels) in scan order, by NumPy alone."""
    n = len(images)
    if chosen.scan == "rows":
        return images.reshape(n, -1)
    if chosen.scan == "columns":
        return images.reshape(n, *grid(images.shape[1:])).swapaxes(1, 2).reshape(n, -1)
    generator = np.random.PCG64(chosen.scan_seed)
    draws = np.array([generator.random_raw() for _ in range(images[0].size)], dtype=np.uint64)
    return images.reshape(n, -1)[:, np.argsort(draws, kind="stable")]


def grid(item: tuple[int, ...]) -> tuple[int, int, int]:
    """Rows, columns, channels; every width of a vector is tried."""
    axes = tuple(size for size in item if size > 1)
    if len(axes) == 3 and axes[-1] <= 4:
        return axes  # type: ignore[return-value] # three
    if len(axes) > 1:
        return math.prod(axes[:-1]), axes[-1], 1
    pixels = math.prod(axes)
    return *min(((t, pixels // t) for t in range(1, pixels + 1) if pixels % t == 0), key=lambda s: abs(s[0] - s[1])), 1


def expected(
    images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], chosen: Reshape
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sequences and targets by NumPy's reshape."""
    flat, t = scanned(images, chosen), chosen.timesteps
    if chosen.layout == "pixels":
        return flat.reshape(len(flat), t, -1), labels
    kept = len(flat) // t * t
    return flat[:kept].reshape(-1, t, flat.shape[1]), labels[:kept].reshape(-1, t)


def require_equal(store: Store, sequences: Sequences, x: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> None:
    found_x, found_targets = open_arrays(store, sequences)
    assert sequences.x.shape == found_x.shape
    assert sequences.targets.shape == found_targets.shape
    np.testing.assert_array_equal(found_x, x)
    np.testing.assert_array_equal(found_targets, targets.astype("i4"))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(("layout", "timesteps"), [("pixels", 8), ("frames", 5)])
def test_rows_keep_their_place(store: Store, layout: Layout, timesteps: int, scan: Scan, dtype: str) -> None:
    tables = both(store, 40, (4, 6), dtype)
    chosen = Reshape(layout=layout, timesteps=timesteps, scan=scan, scan_seed=3)
    receipt = signed(store, tables)
    for table, n, seed in zip(tables, (40, 20), (0, 7), strict=True):
        sequences = sealed(store, table, receipt, chosen, silent)
        require_equal(store, sequences, *expected(drawn(n, (4, 6), dtype, seed), labels_of(n, seed), chosen))
        ledger = demand_seal(store, sequences).ledger
        ledger.verify()
        assert ledger.count(table.split, "images in sequences") == n
        assert ledger.count(table.split, "sequences") == (n if layout == "pixels" else n // 5)


STORED = [(4, 6), (24,), (1, 4, 6), (4, 6, 1)]


@pytest.mark.parametrize("item", STORED)
def test_columns_are_those_of_the_image_however_it_is_stored(store: Store, item: tuple[int, ...]) -> None:
    """Unless T is given, a step is a column: six of four pixels."""
    tables = both(store, 20, item)
    found, _ = open_arrays(store, sealed(store, tables[0], signed(store, tables), Reshape(scan="columns"), silent))
    np.testing.assert_array_equal(found, drawn(20, item).reshape(20, 4, 6).transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("item", "axes"), [((5, 6, 3), (0, 2, 1, 3)), ((3, 5, 6), (0, 3, 1, 2))], ids=["channels last", "channels first"]
)
def test_a_column_of_an_image_in_colour_has_all_channels(
    store: Store, item: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    """Of each pixel together where they are stored together, else of one plane after the other."""
    tables = both(store, 20, item)
    found, _ = open_arrays(store, sealed(store, tables[0], signed(store, tables), Reshape(scan="columns"), silent))
    np.testing.assert_array_equal(found, drawn(20, item).transpose(axes).reshape(20, 6, 15))


def test_every_t_of_a_scan_shares_one_array(store: Store) -> None:
    tables = both(store, 20, (4, 6))
    receipt = signed(store, tables)
    for scan in SCANS:
        handles = [
            sealed(store, tables[0], receipt, Reshape(timesteps=t, scan=scan), silent).x
            for t in range(1, 25)
            if 24 % t == 0
        ]
        handles.append(sealed(store, tables[0], receipt, Reshape(layout="frames", timesteps=5, scan=scan), silent).x)
        assert len({(handle.place, handle.digest) for handle in handles}) == 1
        assert len({handle.shape for handle in handles}) == len(handles)
        assert [handle.rows for handle in handles] == [20] * (len(handles) - 1) + [4]
    assert len(objects(store, "sequences")) == len(SCANS)


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[tuple[int, ...], int, str, Reshape]:
    """A shape of at least one dimension an item, a type, and settings whose T fits."""
    item = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    n = draw(st.integers(1, 12))
    layout = draw(st.sampled_from(["pixels", "frames"]))
    pixels = math.prod(item)
    steps = [t for t in range(1, pixels + 1) if pixels % t == 0] if layout == "pixels" else list(range(1, n + 1))
    remainder = "drop" if layout == "frames" else "error"
    chosen = Reshape.model_validate(
        {
            "layout": layout,
            "timesteps": draw(st.sampled_from(steps)),
            "scan": draw(st.sampled_from(SCANS)),
            "scan_seed": draw(st.integers(0, 2**32)),
            "remainder": remainder,
        }
    )
    return item, n, draw(st.sampled_from(TYPES)), chosen


@settings(max_examples=settings.default.max_examples // 4, deadline=None)
@given(case=small_cases(), seed=st.integers(0, 99))
def test_any_shape_type_and_t(tmp_path_factory: pytest.TempPathFactory, case: Any, seed: int) -> None:  # noqa: ANN401
    item, n, dtype, chosen = case
    store = Store(tmp_path_factory.mktemp("case"))
    images, labels = drawn(n, item, dtype, seed), labels_of(n, seed)
    tables = parsed(store, images, labels), parsed(store, images, labels, "test")
    sequences = sealed(store, tables[0], signed(store, tables), chosen, silent)
    require_equal(store, sequences, *expected(images, labels, chosen))
    assert demand_seal(store, sequences).ledger.count("train", "dropped") == (
        n % chosen.timesteps if chosen.layout == "frames" else 0
    )


def test_memory_order_of_many_batches(store: Store) -> None:
    """More rows than one batch of the table and of the witness, of several row groups' worth of batches."""
    n = 20_003
    images = np.arange(n * 4, dtype="i4").reshape(n, 2, 2)
    tables = parsed(store, images, labels_of(n)), parsed(store, images[:10], labels_of(10), "test")
    chosen = Reshape(layout="frames", timesteps=7, remainder="drop", scan="columns")
    sequences = sealed(store, tables[0], signed(store, tables), chosen, silent)
    require_equal(store, sequences, *expected(images, labels_of(n), chosen))


def refused(store: Store, tables: tuple[Table, Table], chosen: Reshape, kind: type[Exception] = DataError) -> Exception:
    """The error of reshaping train; nothing of it may stay in the store."""
    receipt = signed(store, tables)
    before = objects(store)
    with pytest.raises(kind) as caught:
        sealed(store, tables[0], receipt, chosen, silent)
    assert objects(store) == before
    assert staged(store) == []
    return caught.value


def test_3750_sequences_against_60000_targets(store: Store) -> None:
    """The very case, in its very numbers, with images of 1 × 4 pixels."""
    images, labels = drawn(60_000, (1, 4)), labels_of(60_000)
    tables = parsed(store, images, labels), parsed(store, images[:16], labels[:16], "test")
    error = refused(store, tables, Reshape(layout="frames", timesteps=16, targets="one per image"))
    assert isinstance(error, CountsBrokenError)
    assert error.equation == "sequences = targets"
    assert error.found == ("reshape, train split: 3,750 (sequences) against 60,000 (targets), a ratio of 16")
    assert error.remedy.startswith("Probably 16 consecutive images were grouped into one sequence while the labels ")


def test_the_same_case_small(store: Store) -> None:
    error = refused(store, both(store, 32), Reshape(layout="frames", timesteps=16, targets="one per image"))
    assert "2 (sequences) against 32 (targets), a ratio of 16" in str(error)


def test_the_answer_to_that_case_holds(store: Store) -> None:
    tables = both(store, 32)
    sequences = sealed(store, tables[0], signed(store, tables), Reshape(layout="frames", timesteps=16), silent)
    assert (sequences.x.shape, sequences.targets.shape) == ((2, 16, 24), (2, 16))


def test_a_t_that_does_not_divide_the_pixels_lists_those_that_do(store: Store) -> None:
    error = refused(store, both(store, 20), Reshape(timesteps=5), ConfigurationError)
    assert "reshape.timesteps = 5 does not divide the 24 pixels of an image" in str(error)
    assert "one of 1, 2, 3, 4, 6, 8, 12, 24" in str(error)


def test_frames_that_are_left_over_are_refused(store: Store) -> None:
    error = refused(store, both(store, 40), Reshape(layout="frames", timesteps=16))
    assert str(error) == (
        "reshape, train split: 40 images are no multiple of T = 16: 8 would be left over after 2 sequences. "
        "Expected: a T that divides the number of images of both splits. "
        "Choose another reshape.timesteps, or set reshape.remainder = 'drop' to drop the last ones on record."
    )


def test_frames_that_are_dropped_stand_in_the_ledger(store: Store) -> None:
    tables = both(store, 40)
    chosen = Reshape(layout="frames", timesteps=16, remainder="drop")
    ledger = demand_seal(store, sealed(store, tables[0], signed(store, tables), chosen, silent)).ledger
    ledger.verify()
    stations = ("table rows", "sequences", "images in sequences", "labels in targets", "dropped")
    assert [ledger.count("train", station) for station in stations] == [40, 2, 32, 32, 8]


def test_fewer_frames_than_one_sequence_are_refused(store: Store) -> None:
    """Dropping everything is no way of dropping the rest."""
    error = refused(store, both(store, 20), Reshape(layout="frames", timesteps=21, remainder="drop"))
    assert "reshape, train split: 20 images are too few for one sequence of T = 21. " in str(error)


def test_a_table_that_was_not_validated_is_refused(store: Store) -> None:
    tables = both(store, 20)
    receipt = signed(store, tables)
    other = parsed(store, drawn(20, seed=99), labels_of(20))
    with pytest.raises(DataError, match="is not the one that was validated"):
        sealed(store, other, receipt, Reshape(timesteps=4), silent)


def test_a_receipt_that_was_changed_is_refused(store: Store) -> None:
    """Its files are whole; its words are not the ones that were signed."""
    tables = both(store, 20)
    forged = keep_receipt(
        store, receipt_of(store, tables).model_copy(update={"dataset": "other", "signature": "0" * 64})
    )
    with pytest.raises(DataError, match="the receipt's signature does not fit its content"):
        sealed(store, tables[0], forged, Reshape(timesteps=4), silent)


def test_a_table_damaged_after_validation_is_refused(store: Store) -> None:
    tables = both(store, 20)
    receipt = signed(store, tables)
    path = store.root / tables[0].table.place / "samples.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="an output of kind 'table' is damaged: its bytes have changed"):
        sealed(store, tables[0], receipt, Reshape(timesteps=4), silent)
    assert staged(store) == []


def test_the_seal_is_of_these_arrays_and_no_others(store: Store) -> None:
    tables = both(store, 20)
    receipt = signed(store, tables)
    one = sealed(store, tables[0], receipt, Reshape(timesteps=4), silent)
    two = sealed(store, tables[0], receipt, Reshape(timesteps=4, scan="columns"), silent)
    seal = demand_seal(store, one).seals[0]
    assert (seal.x, seal.targets, seal.table, seal.shape) == (
        one.x.digest, one.targets.digest, tables[0].table.digest, (20, 4, 6),
    )  # fmt: skip
    assert seal.proof == "20 images and 20 labels recomputed from the raw IDX bytes, SHA-256 of both arrays equal"
    with pytest.raises(DataError, match="are not the ones that reshape sealed"):
        demand_seal(store, one.model_copy(update={"x": two.x}))
    with pytest.raises(DataError, match="are not the ones that reshape sealed"):
        demand_seal(store, one.model_copy(update={"receipt": receipt}))


def test_damaged_sequences_are_not_opened(store: Store) -> None:
    tables = both(store, 20)
    sequences = sealed(store, tables[0], signed(store, tables), Reshape(timesteps=4), silent)
    path = store.root / sequences.x.place / X_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="it has 607 bytes instead of 608"):
        open_arrays(store, sequences)


def test_tasks_reuse_and_keep_equal_splits_apart(store: Store) -> None:
    """Both splits are the same data here, so that only their names tell them apart."""
    images, labels = drawn(20), labels_of(20)
    tables = parsed(store, images, labels), parsed(store, images, labels, "test")
    receipt: Handle = validate.fn(store.root, dataset_of(), tables)
    chosen = Reshape(timesteps=4)
    made = [reshape.fn(store.root, table, receipt, chosen) for table in tables]
    assert [sequences.split for sequences in made] == ["train", "test"]
    assert [demand_seal(store, sequences).seals[0].split for sequences in made] == ["train", "test"]
    assert made[0].x == made[1].x
    before = objects(store)
    assert [reshape.fn(store.root, table, receipt, chosen) for table in tables] == made
    assert objects(store) == before


def test_labels_that_begin_at_one_become_classes_from_zero(store: Store) -> None:
    labels = (labels_of(20) + 1).astype("u1")
    tables = parsed(store, drawn(20), labels), parsed(store, drawn(20, seed=7), labels, "test")
    receipt = validated(store, dataset_of(first_label=1), tables, silent)
    assert open_receipt(store, receipt).labels.first == 1
    sequences = sealed(store, tables[0], receipt, Reshape(timesteps=4), silent)
    require_equal(store, sequences, drawn(20).reshape(20, 4, 6), labels_of(20))


@pytest.mark.parametrize("column", [0, 3])
def test_labels_in_a_column(store: Store, column: int) -> None:
    """As QMNIST has them: rows of eight 32-bit integers, of which one is the class."""
    rows = np.random.default_rng(5).integers(100, 10_000, (20, 8)).astype("i4")
    rows[:, column] = labels_of(20)
    tables = parsed(store, drawn(20), rows, column=column), parsed(store, drawn(20, seed=7), rows, "test", column)
    sequences = sealed(store, tables[0], signed(store, tables), Reshape(timesteps=4), silent)
    require_equal(store, sequences, drawn(20).reshape(20, 4, 6), labels_of(20))


PEAK = """
import struct, sys
from pathlib import Path
import numpy as np
from samples import dataset_of, drawn, labels_of, parsed, silent
from schemas.configuration import Reshape
from schemas.handles import SourceFile
from tasks.idx import IdxWriter
from tasks.parse import to_table
from tasks.reshape import sealed
from tasks.seals import sha256_file
from tasks.store import Store
from tasks.validate import validated
store, n = Store(Path(sys.argv[1])), int(sys.argv[2])
def streamed(role, item, block):
    with store.staging() as folder:
        with IdxWriter(folder / role, "u1", item) as writer:
            for _ in range(n // len(block)):
                writer.write(block)
        digest = sha256_file(folder / role)
        handle = store.commit(folder, kind="idx", digest=digest, rows=n, shape=(n, *item), dtype="|u1")
    return SourceFile(split="train", role=role, name=role, idx=handle, verified="recorded", source="a test")
files = streamed("images", (28, 28), drawn(6_000, (28, 28))), streamed("labels", (), labels_of(6_000))
train = to_table(store, "train", *files, None, silent)
tables = train, parsed(store, drawn(10, (28, 28)), labels_of(10), "test")
receipt = validated(store, dataset_of(), tables, silent)
print(sealed(store, train, receipt, Reshape(timesteps=28, scan="columns"), silent).x.shape[0])
# not getrusage: that remembers what the parent held when it started this process
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
def test_memory_of_validate_reshape_and_witness_does_not_grow(tmp_path: Path) -> None:
    """120,000 more images are 94 MB more in IDX, table and array; in both cases several batches are under way."""
    here, peaks = Path(__file__).parent, []
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{here.parent.parent}:{here}"}
    for n in (120_000, 240_000):
        command = [sys.executable, "-c", PEAK, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        rows, peak = map(int, done.stdout.split())
        assert rows == n
        peaks.append(peak)
        shutil.rmtree(tmp_path / str(n))
    assert peaks[1] - peaks[0] < 60, peaks
