"""IDX files that are wrong in their headers or lengths, or no IDX at all: what is said of each, and at what cost."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from idx_files import GOOD, GZ, IMAGES, LABELS, drain, header, patched, rejected, run, zipped

from schemas.errors import DataError
from tasks.idx import open_idx, read_idx

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left_behind")]


def npy() -> bytes:
    target = io.BytesIO()
    np.save(target, IMAGES)
    return target.getvalue()


def npz() -> bytes:
    target = io.BytesIO()
    np.savez(target, x=IMAGES, y=IMAGES)
    return target.getvalue()


REJECTED: dict[str, tuple[bytes, str]] = {
    # what broken downloads and renamed files are
    "empty": (b"", "an empty file"),
    "html": (b"<!DOCTYPE html>\n<html><body>Sign in", 'an HTML page \\(starts with "<!DOCTYPE html>"\\)'),
    "html, indented": (b"\xef\xbb\xbf \n\t<HTML lang=en>", 'an HTML page \\(starts with "<HTML lang=en>"\\)'),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document"),
    "json": (b'{"message": "Not Found"}', "a JSON text"),
    "404": (b"404: Not Found", 'text "404: Not Found"'),
    "csv": (b"label,pixel0,pixel1\n5,0,0\n", 'text "label,pixel0,pixel1"'),
    "terminal escapes": ("Zugriff verweigert: \u202e\u00e9".encode(), 'text "Zugriff verweigert: \\?é"'),
    "utf-16": ("label".encode("utf-16"), "UTF-16 text"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s9--0.gz\n", "a git-annex pointer"),
    "npy": (npy(), "a NumPy .npy file"),
    "npz": (npz(), "a NumPy .npz archive of 2 arrays"),
    "base64": (b"AAAIAwAA6mAAAAAcAAAAHA==", "IDX data encoded as base64"),
    "base64 gz": (b"H4sIAAAAAAAAA2NgYGAA", "gzip data encoded as base64"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive"),
    "rar": (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
    "bzip2": (bz2.compress(GOOD), "a bzip2 stream"),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\0", "a Zstandard stream"),
    "lzma alone": (lzma.compress(GOOD, lzma.FORMAT_ALONE), "data of an unknown kind \\(starts with the bytes 5d"),
    "zlib": (zlib.compress(GOOD), "data of an unknown kind \\(starts with the bytes 78 9c"),
    "tar": (b"train-images".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "a PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0", "a JPEG picture"),
    "parquet": (b"PAR1\x15\x04", "a Parquet file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "mat": (b"MATLAB 5.0 MAT-file", "a MATLAB .mat file"),
    "pickle": (b"\x80\x04\x95", "a Python pickle"),
    "sqlite": (b"SQLite format 3\0", "an SQLite database"),
    "zeros": (bytes(100), "nothing but zero bytes"),
    "gzip of html": (gzip.compress(b"<html>"), "a gzip container that holds an HTML page"),
    "gzip of gzip": (gzip.compress(GZ), "a gzip container that holds a gzip stream"),
    "gzip of zip": (gzip.compress(zipped(("a", GOOD))), "a gzip container that holds a zip archive"),
    "gzip of nothing": (gzip.compress(b""), "a gzip container that holds an empty file"),
    "xz of npy": (lzma.compress(npy()), "an xz container that holds a NumPy .npy file"),
    # headers
    "magic byte 0": (patched(GOOD, 0, b"\x01"), "starts with the bytes 01 00 08 03"),
    "magic byte 1": (patched(GOOD, 1, b"\x01"), "starts with the bytes 00 01 08 03"),
    "type 0x0A": (patched(GOOD, 2, b"\x0a"), "the unknown type code 0x0A"),
    "type 0x00": (patched(GOOD, 2, b"\0"), "the unknown type code 0x00"),
    "type 0xFF": (patched(GOOD, 2, b"\xff"), "the unknown type code 0xFF"),
    "another type": (patched(GOOD, 2, b"\x0c"), "60 × 7 × 5 of int32 .*6,300 bytes missing"),
    "rank 0": (patched(GOOD, 3, b"\0"), "an IDX header of rank 0"),
    "rank 2": (patched(GOOD, 3, b"\2"), "1,684 bytes too many"),
    "rank 4": (patched(GOOD, 3, b"\4"), "bytes missing"),
    "rank 65": (header(*[1] * 65) + b"\0", "rank 65.* at most 64"),
    "rank 255": (header(*[1] * 255) + b"\0", "rank 255"),
    "little-endian": (b"\x03\x08\0\0" + struct.pack("<3I", 60, 7, 5) + IMAGES.tobytes(), "little-endian order"),
    "one item more": (patched(GOOD, 4, struct.pack(">I", 61)), "61 × 7 × 5 of uint8 .*35 bytes missing"),
    "one item less": (patched(GOOD, 4, struct.pack(">I", 59)), "35 bytes too many \\(trailing bytes\\)"),
    "no items": (patched(GOOD, 4, struct.pack(">I", 0)), "2,100 bytes too many"),
    "items without elements": (header(60, 0, 5), "items have no elements"),
    "2^32-1 items without elements": (header(2**32 - 1, 0), "items have no elements"),
    "product 2^32": (header(2**16, 2**8, 2**8), "4,294,967,312 bytes with the header"),
    "product 2^32 + 2100": (header(2**32 - 1, 1) + bytes(2100), "4,294,967,307 bytes with the header"),
    "product 2^64": (header(2**16, 2**16, 2**16, 2**16), "18,446,744,073,709,551,636 bytes with the header"),
    "item 2^64": (header(1, 2**31, 2**31, 4), "items take 2\\^63 bytes or more"),
    "no item of 2^64": (header(0, 2**31, 2**31, 4), "items take 2\\^63 bytes or more"),
    "no item of 2^60": (header(0, 2**30, 2**30), "items of 1,152,921,504,606,846,976 bytes"),
    "rank 64 of 2^32-1": (header(*[2**32 - 1] * 64), "items take 2\\^63 bytes or more"),
    "gzip, product 2^64": (gzip.compress(header(*[2**16] * 4)), "more than a compressed file of this size can hold"),
    "xz, product 2^64": (lzma.compress(header(*[2**16] * 4)), "more than a compressed file of this size can hold"),
    "gzip, 2^32-1 items": (gzip.compress(header(2**32 - 1)), "more than a compressed file of this size can hold"),
    # lengths
    "cut payload": (GOOD[:-1], "1 byte missing"),
    "trailing byte": (GOOD + b"\0", "1 byte too many \\(trailing bytes\\)"),
    "crlf": (GOOD.replace(b"\n", b"\r\n"), "too many \\(trailing bytes\\)"),
    "through utf-8": (GOOD.decode("utf-8", "replace").encode(), "too many \\(trailing bytes\\)"),
    "gzip, cut payload": (gzip.compress(GOOD[:-1]), "60 × 7 × 5 of uint8 .* but the data ends after 2,115 bytes"),
    "gzip, trailing byte": (gzip.compress(GOOD + b"\0"), "more bytes after the 2,116"),
    "xz, trailing byte": (lzma.compress(GOOD + b"\0"), "more bytes after the 2,116"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_not_idx_is_named(tmp_path: Path, case: str) -> None:
    data, text = REJECTED[case]
    (tmp_path / "file").write_bytes(data)
    rejected(tmp_path / "file", text)


@pytest.mark.parametrize("kept", range(1, 16))
def test_every_cut_of_the_header(tmp_path: Path, kept: int) -> None:
    (tmp_path / "file").write_bytes(GOOD[:kept])
    rejected(tmp_path / "file", f"an IDX header cut after {kept} (bytes?|of its 16 bytes)")
    (tmp_path / "file").write_bytes(gzip.compress(GOOD[:kept]))
    rejected(tmp_path / "file", f"an IDX header cut after {kept} ")


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("at", range(4))
def test_every_bit_of_the_magic(tmp_path: Path, at: int, bit: int) -> None:
    """A single wrong bit is refused, but for the one that makes uint8 int8: such a file is as right as the other."""
    (tmp_path / "file").write_bytes(patched(GOOD, at, bytes([GOOD[at] ^ 1 << bit])))
    if (at, bit) == (2, 0):
        np.testing.assert_array_equal(read_idx(tmp_path / "file"), IMAGES.view(np.int8))
    else:
        texts = (
            "starts with the bytes",
            "unknown type code",
            "missing",
            "too many",
            "rank",
            "2\\^63 bytes or more",
        )
        with pytest.raises(DataError, match="|".join(texts)):
            drain(tmp_path / "file")


def test_images_and_labels_are_not_confused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LABELS)
    (tmp_path / "other").write_bytes(GZ)
    with (
        pytest.raises(DataError, match=r"labels \(rank 1, 60 of uint8\) where images were expected"),
        open_idx(tmp_path / "file", expect="images"),
    ):
        pass
    with pytest.raises(DataError, match=r"rank 3, 60 × 7 × 5 of uint8\) where labels were expected.*swapped"):
        read_idx(tmp_path / "other", expect="labels")
    assert read_idx(tmp_path / "file", expect="labels").shape == (60,)
    assert read_idx(tmp_path / "other", expect="images").shape == (60, 7, 5)


# --- memory, and files that change ----------------------------------------------------------------------------------


IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from schemas.errors import DataError
from tasks.idx import describe, open_idx, read_idx
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (160 << 20),) * 2)
def drain(path, items):
    with open_idx(path) as reader:
        for batch in reader.batches(items):
            pass
for read in (read_idx, describe, lambda path: drain(path, 1000), lambda path: drain(path, 100_000_000)):
    try:
        read(Path(sys.argv[1]))
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((900_000_000,), "but the data ends after 2,000,008 bytes"),  # within deflate's ratio for the padding
        ((30, 30_000_000), "but the data ends after 2,000,012 bytes"),
        ((1, 900_000_000), "but the data ends after 2,000,012 bytes"),
        ((2**32 - 1, 2**20), "more than a compressed file of this size can hold"),
    ],
)
def test_a_lying_header_allocates_nothing(tmp_path: Path, shape: tuple[int, ...], text: str) -> None:
    """A gigabyte is promised, two megabytes are there, and the process may take 160 MB."""
    noise = np.random.default_rng(3).bytes(2_000_000)
    (tmp_path / "file").write_bytes(gzip.compress(header(*shape) + noise, 1))
    done = run(IN_LITTLE_MEMORY, str(tmp_path / "file"))
    assert done.stdout.count(text) == 4, done.stdout + done.stderr


@pytest.mark.parametrize("shape", [(2**32 - 1, 2**8), (1, 2**31, 2**8)])
def test_a_sparse_file_of_a_terabyte_is_not_taken_into_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Its header is honest, so it can be streamed; but whole, or an item of it, it cannot be held."""
    with (tmp_path / "file").open("wb") as file:
        file.write(header(*shape))
        try:
            os.truncate(file.fileno(), 4 + 4 * len(shape) + int(np.prod(shape, dtype=object)))
        except OSError:
            pytest.fail("the file system of the tests holds no sparse files")
    with pytest.raises(DataError, match=r"where a file is read whole|items of at most 2,147,483,648 bytes"):
        read_idx(tmp_path / "file")


def test_a_file_that_is_cut_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(header(3000, 1000) + bytes(3_000_000))
    with open_idx(path) as reader:
        stream = reader.batches(1000)
        next(stream)
        os.truncate(path, 2_500_000)
        with pytest.raises(DataError, match="but the data ends after 2,500,000 bytes"):
            list(stream)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    with open_idx(path) as reader:
        path.write_bytes(GOOD + b"more")
        with pytest.raises(DataError, match="more bytes after the 2,116"):
            list(reader.batches(100))
