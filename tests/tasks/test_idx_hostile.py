"""IDX files that are wrong, broken or hostile: what is said of each, and that nothing hangs, leaks or stays behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from tasks.idx import Limits, describe, open_idx, read_idx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(7).integers(0, 256, (60, 7, 5), np.uint8)


def header(*shape: int, code: int = 0x08, rank: int | None = None) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape) if rank is None else rank, *shape)


GOOD = header(60, 7, 5) + IMAGES.tobytes()
LABELS = header(60) + bytes(60)
GZ = gzip.compress(GOOD, mtime=0)
XZ = lzma.compress(GOOD)


def npy() -> bytes:
    target = io.BytesIO()
    np.save(target, IMAGES)
    return target.getvalue()


def npz() -> bytes:
    target = io.BytesIO()
    np.savez(target, x=IMAGES, y=IMAGES)
    return target.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def stored_gzip(data: bytes) -> bytes:
    """Return gzip whose data stands in the clear, so that a byte of it can be changed alone."""
    return gzip.compress(data, 0, mtime=0)


def named_gzip(name: bytes) -> bytes:
    return patched(GZ, 3, b"\x08")[:10] + name + b"\0" + GZ[10:]


ENCRYPTED = bytearray(zipped(("a", GOOD)))
for flags in (6, ENCRYPTED.rindex(b"PK\x01\x02") + 8):
    ENCRYPTED[flags] |= 1
CRC = "the checksum \\(CRC\\) does not match"

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
    "another type": (patched(GOOD, 2, b"\x0c"), "60 × 7 × 5 of int32 .*6,300 bytes are missing"),
    "rank 0": (patched(GOOD, 3, b"\0"), "an IDX header of rank 0"),
    "rank 2": (patched(GOOD, 3, b"\2"), "1,684 bytes too many"),
    "rank 4": (patched(GOOD, 3, b"\4"), "bytes are missing"),
    "rank 65": (header(*[1] * 65) + b"\0", "rank 65.* at most 64"),
    "rank 255": (header(*[1] * 255) + b"\0", "rank 255"),
    "little-endian": (b"\x03\x08\0\0" + struct.pack("<3I", 60, 7, 5) + IMAGES.tobytes(), "little-endian order"),
    "one item more": (patched(GOOD, 4, struct.pack(">I", 61)), "61 × 7 × 5 of uint8 .*35 bytes are missing"),
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
    "cut payload": (GOOD[:-1], "1 bytes are missing"),
    "trailing byte": (GOOD + b"\0", "1 bytes too many \\(trailing bytes\\)"),
    "crlf": (GOOD.replace(b"\n", b"\r\n"), "too many \\(trailing bytes\\)"),
    "through utf-8": (GOOD.decode("utf-8", "replace").encode(), "too many \\(trailing bytes\\)"),
    "gzip, cut payload": (gzip.compress(GOOD[:-1]), "60 × 7 × 5 of uint8 .* but the data ends after 2,115 bytes"),
    "gzip, trailing byte": (gzip.compress(GOOD + b"\0"), "more bytes after the 2,116"),
    "xz, trailing byte": (lzma.compress(GOOD + b"\0"), "more bytes after the 2,116"),
    # containers
    "gzip then garbage": (GZ + b"garbage", f"after byte {len(GZ):,} \\(trailing garbage\\)"),
    "gzip then zeros": (GZ + bytes(512), "trailing garbage"),
    "gzip then half a magic": (GZ + b"\x1f", "trailing garbage"),
    "gzip then cut gzip": (GZ + GZ[:9], f"a gzip stream cut after {len(GZ) + 9:,} bytes"),
    "gzip twice": (GZ + GZ, "more bytes after the 2,116"),
    "xz then garbage": (XZ + b"garbage", "trailing garbage"),
    "xz then padding": (XZ + bytes(4), "trailing garbage"),
    "gzip, bad crc": (patched(GZ, len(GZ) - 8, b"\0\0\0\0"), CRC),
    "gzip, bad length": (patched(GZ, len(GZ) - 4, b"\0\0\0\0"), CRC),
    "gzip, changed byte": (patched(stored_gzip(GOOD), 99, b"\xa5\x5a"), CRC),
    "gzip, other method": (patched(GZ, 2, b"\7"), "a damaged gzip stream"),
    "gzip, bad deflate": (patched(GZ, 10, b"\xff\xff\xff"), "a damaged gzip stream near byte"),
    "xz, changed byte": (patched(XZ, len(XZ) // 2, b"\xa5\x5a"), "a damaged xz stream near byte"),
    "xz, memory": (lzma.compress(GOOD, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]), "more memory than"),
    "zip of nothing": (zipped(), "a zip archive without files"),
    "zip, two files": (zipped(("a", GOOD), ("b", GOOD)), "a zip archive of 2 files: 'a', 'b'"),
    "zip of zip": (zipped(("a", zipped(("b", GOOD)))), "a zip container that holds a zip archive"),
    "zip of gzip of gzip": (zipped(("a", gzip.compress(GZ))), "a zip container that holds a gzip stream"),
    "zip of html": (zipped(("a", b"<html>")), "a zip container that holds an HTML page"),
    "zip, cut": (zipped(("a", GOOD))[:-30], "a zip archive that is cut or damaged"),
    "zip, only its magic": (b"PK\x03\x04", "a zip archive that is cut or damaged"),
    "zip, changed data": (
        patched(zipped(("a", GOOD), method=zipfile.ZIP_STORED), 99, b"\xa5\x5a"),
        "a zip member that is cut or damaged \\(Bad CRC",
    ),
    "zip, encrypted": (bytes(ENCRYPTED), "an encrypted member"),
    "zip, bzip2": (zipped(("a", GOOD), method=zipfile.ZIP_BZIP2), "compressed by method 12"),
    "zip, lzma": (zipped(("a", GOOD), method=zipfile.ZIP_LZMA), "compressed by method 14"),
    "zip, ..": (zipped(("../a", GOOD)), "'../a', which leads out of the archive"),
    "zip, inner ..": (zipped(("a/../../b", GOOD)), "which leads out of the archive"),
    "zip, absolute": (zipped(("/etc/a", GOOD)), "which leads out of the archive"),
    "zip, backslash": (zipped(("..\\a", GOOD)), "which leads out of the archive"),
    "zip, drive": (zipped(("C:a", GOOD)), "which leads out of the archive"),
    "zip of gzip, cut": (zipped(("a", GZ[:-20])), f"member 'a': a gzip stream cut after {len(GZ) - 20:,} bytes"),
    "zip, trailing byte": (zipped(("a", GOOD + b"\0")), "more bytes after the 2,116"),
    # bombs
    "gzip bomb": (gzip.compress(GOOD + bytes(50_000_000)), "more bytes after the 2,116"),
    "gzip bomb without header": (gzip.compress(bytes(50_000_000)), "a gzip container that holds nothing but zero"),
    "xz bomb": (lzma.compress(GOOD + bytes(50_000_000), preset=0), "more bytes after the 2,116"),
    "zip of gzip bomb": (zipped(("a", gzip.compress(GOOD + bytes(50_000_000)))), "more bytes after the 2,116"),
    "gzip bomb in gzip in zip": (
        zipped(("a", gzip.compress(header(50_000_000) + bytes(50_000_000)))),
        "more than a compressed file of this size can hold",
    ),
}

ACCEPTED: dict[str, bytes] = {
    "plain": GOOD,
    "gzip": GZ,
    "gzip with a name": named_gzip(b"train-images-idx3-ubyte"),
    "gzip with a name of a megabyte": named_gzip(b"x" * 1_000_000),
    "gzip with a name that leads out": named_gzip(b"../../etc/passwd"),
    "gzip of a member a byte": b"".join(gzip.compress(GOOD[at : at + 1]) for at in range(len(GOOD))),
    "gzip with empty members": gzip.compress(b"") * 1000 + GZ + gzip.compress(b"") * 1000,
    "gzip, header and payload apart": gzip.compress(GOOD[:16]) + gzip.compress(GOOD[16:]),
    "gzip not compressed": stored_gzip(GOOD),
    "xz": XZ,
    "xz without check": lzma.compress(GOOD, check=lzma.CHECK_NONE),
    "xz of the largest preset": lzma.compress(GOOD, preset=9),
    "xz streams": lzma.compress(GOOD[:3]) + lzma.compress(b"") + lzma.compress(GOOD[3:]),
    "zip": zipped(("a", GOOD)),
    "zip of gzip": zipped(("a", GZ)),
    "zip of xz": zipped(("a", XZ), method=zipfile.ZIP_STORED),
}


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """The folder holds afterwards what the test put there, and no file stays open."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - what counts is the number
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "link", "other", "folder"}
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


def rejected(path: Path, text: str, member: str | None = None) -> DataError:
    """Read ``path`` every way there is; each raises the same clear error, soon."""
    begun = time.monotonic()
    for read in (lambda: drain(path, member), lambda: describe(path, member), lambda: read_idx(path, member=member)):
        with pytest.raises(DataError, match=text) as caught:
            read()
    assert time.monotonic() - begun < 20
    error = caught.value
    assert str(path) in str(error)
    assert all((error.found, error.expected, error.remedy))
    assert error.exit_code == 3
    assert str(error).isprintable()
    assert len(str(error)) < 800
    return error


def drain(path: Path, member: str | None = None, items: int = 7) -> bytes:
    with open_idx(path, member=member) as reader:
        return b"".join(batch.tobytes() for batch in reader.batches(items))


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_not_idx_is_named(tmp_path: Path, case: str) -> None:
    data, text = REJECTED[case]
    (tmp_path / "file").write_bytes(data)
    rejected(tmp_path / "file", text)


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_unusual_and_right_is_read(tmp_path: Path, case: str) -> None:
    (tmp_path / "file").write_bytes(ACCEPTED[case])
    assert drain(tmp_path / "file") == IMAGES.tobytes()


@pytest.mark.parametrize("kept", range(1, 16))
def test_every_cut_of_the_header(tmp_path: Path, kept: int) -> None:
    (tmp_path / "file").write_bytes(GOOD[:kept])
    rejected(tmp_path / "file", f"an IDX header cut after {kept} (bytes?|of its 16 bytes)")
    (tmp_path / "file").write_bytes(gzip.compress(GOOD[:kept]))
    rejected(tmp_path / "file", f"an IDX header cut after {kept} ")


def test_every_cut_of_a_gzip_stream(tmp_path: Path) -> None:
    assert len(GZ) > 2000
    for kept in range(2, len(GZ), 7):
        (tmp_path / "file").write_bytes(GZ[:kept])
        with pytest.raises(DataError, match=f"a gzip stream cut after {kept:,} bytes"):
            drain(tmp_path / "file")


def test_every_cut_of_an_xz_stream(tmp_path: Path) -> None:
    for kept in range(6, len(XZ), 7):
        (tmp_path / "file").write_bytes(XZ[:kept])
        with pytest.raises(DataError, match=f"an xz stream cut after {kept:,} bytes"):
            drain(tmp_path / "file")


def test_every_cut_of_a_zip(tmp_path: Path) -> None:
    data = zipped(("a", GZ))
    for kept in range(4, len(data), 7):
        (tmp_path / "file").write_bytes(data[:kept])
        with pytest.raises(DataError, match="zip archive that is cut or damaged"):
            drain(tmp_path / "file")


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
            "are missing",
            "too many",
            "rank",
            "2\\^63 bytes or more",
        )
        with pytest.raises(DataError, match="|".join(texts)):
            drain(tmp_path / "file")


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_goes_through_a_checksum_or_raises_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes replaced, removed or inserted anywhere: either refused by a `DataError`, or the payload is what it was."""
    whole = data.draw(st.sampled_from([GZ, XZ, zipped(("a", GOOD)), zipped(("a", GZ)), stored_gzip(GOOD)]))
    at = data.draw(st.integers(0, 60) | st.integers(0, len(whole)) | st.integers(len(whole) - 120, len(whole)))
    end = at + data.draw(st.integers(0, 4))
    (tmp_path / "file").write_bytes(whole[:at] + data.draw(st.binary(max_size=4)) + whole[end:])
    try:
        payload = drain(tmp_path / "file")
    except DataError as error:
        assert str(tmp_path / "file") in str(error)  # noqa: PT017 - most cases raise, and some rightly do not
    else:
        assert payload == IMAGES.tobytes()


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


# --- what a name can stand for --------------------------------------------------------------------------------------


def nothing(path: Path) -> None:
    """Make no file."""


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    # By a relative name, since a socket's name may have 107 bytes only.
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def long_loop(path: Path) -> None:
    path.symlink_to("link")
    (path.parent / "link").symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def under_a_file(path: Path) -> None:
    path.parent.joinpath("other").touch()
    path.symlink_to("other/deeper")


def process_file(path: Path) -> None:
    path.symlink_to("/proc/self/stat")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (nothing, "there is no such file"),
        (dangling, "there is no such file"),
        (folder, "a folder, not a file"),
        (fifo, "a pipe \\(FIFO\\), not a file"),
        (device, "a character device, not a file"),
        (unix_socket, "a socket, not a file"),
        (loop, "cannot be opened \\(Too many levels of symbolic links\\)"),
        (long_loop, "cannot be opened \\(Too many levels of symbolic links\\)"),
        (under_a_file, "cannot be opened \\(Not a directory\\)"),
        (process_file, "bytes are missing|data of an unknown kind|text"),
    ],
)
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None], text: str) -> None:
    make(tmp_path / "file")
    rejected(tmp_path / "file", text)


def test_a_name_too_long_or_with_a_null_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="File name too long"):
        drain(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match="null"):
        drain(tmp_path / "a\0b")


def test_a_name_is_printed_safely(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        drain(tmp_path / "red\x1b[31m\nname")
    assert str(caught.value).isprintable()


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Run as another user where the tests run as root, whom no permission stops."""
    (tmp_path / "file").write_bytes(GOOD)
    (tmp_path / "file").chmod(0)
    tmp_path.chmod(0o711)
    code = """
import os, sys
from pathlib import Path
from schemas.errors import DataError
from tasks.idx import read_idx
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
try:
    read_idx(Path("file"))
except DataError as error:
    print(error)
"""
    done = run(code, str(tmp_path))
    assert "permission to read it is denied" in done.stdout, done.stderr


# --- zip members ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("b", "no member named 'b' in a zip archive of 3 files"),
        ("gzip/letters-imagse", "Did you mean 'gzip/letters-images'"),
        ("../a", "leads out of the archive"),
        ("/a", "leads out of the archive"),
        ("gzip/", "no member named"),
        ("", "no member named"),
    ],
)
def test_a_member_that_cannot_be_is_refused(tmp_path: Path, member: str, text: str) -> None:
    data = zipped(("a", GOOD), ("gzip/", b""), ("gzip/letters-images", GZ), ("../a", GOOD))
    (tmp_path / "file").write_bytes(data)
    rejected(tmp_path / "file", text, member)


def test_a_member_beside_hostile_ones_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(zipped(("../a", b"x"), ("/b", b"x"), ("good", GZ)))
    assert drain(tmp_path / "file", "good") == IMAGES.tobytes()


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        (tmp_path / "file").write_bytes(zipped(("a", GOOD), ("a", LABELS)))
    rejected(tmp_path / "file", "2 members named 'a'", "a")


def test_members_are_those_of_a_zip(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(GZ)
    rejected(tmp_path / "file", "not a zip archive, so it has no members", "a")


def test_a_member_whose_name_is_empty_is_no_crash(tmp_path: Path) -> None:
    data = zipped(("a", GOOD))
    at = data.rindex(b"PK\x01\x02")
    unnamed = patched(patched(data, at + 28, b"\0"), at + 32, b"\1")  # the name becomes a comment
    (tmp_path / "file").write_bytes(unnamed)
    rejected(tmp_path / "file", "a zip member that is cut or damaged")


def test_a_zip_with_an_endless_list_of_members_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}-{'x' * 60}", b"")
    (tmp_path / "file").write_bytes(target.getvalue())
    with pytest.raises(DataError, match="its list of members takes"):
        read_idx(tmp_path / "file", limits=Limits(zip_directory=100_000))


# --- memory and time ------------------------------------------------------------------------------------------------


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from schemas.errors import DataError
from tasks.idx import describe, open_idx, read_idx
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (160 << 20),) * 2)
def drain(path):
    with open_idx(path) as reader:
        for batch in reader.batches(int(sys.argv[2])):
            pass
for read in (read_idx, describe, drain):
    try:
        read(Path(sys.argv[1]))
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize("items", [1000, 100_000_000])
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((900_000_000,), "but the data ends after 2,000,008 bytes"),  # within deflate's ratio for the padding
        ((30, 30_000_000), "but the data ends after 2,000,012 bytes"),
        ((1, 900_000_000), "but the data ends after 2,000,012 bytes"),
        ((2**32 - 1, 2**20), "more than a compressed file of this size can hold"),
    ],
)
def test_a_lying_header_allocates_nothing(tmp_path: Path, shape: tuple[int, ...], text: str, items: int) -> None:
    """A gigabyte is promised, two megabytes are there, and the process may take 160 MB."""
    noise = np.random.default_rng(3).bytes(2_000_000)
    (tmp_path / "file").write_bytes(gzip.compress(header(*shape) + noise, 1))
    done = run(IN_LITTLE_MEMORY, str(tmp_path / "file"), str(items))
    assert done.stdout.count(text) == 3, done.stdout + done.stderr


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


def test_a_bomb_is_read_no_further_than_one_byte_too_many(tmp_path: Path) -> None:
    """600 MB of zeros follow the payload; decoding them all would take far longer than refusing them."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (tmp_path / "file").open("wb") as file:
        file.write(packer.compress(GOOD))
        for _ in range(60):
            file.write(packer.compress(bytes(10_000_000)))
        file.write(packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(DataError, match="more bytes after the 2,116"):
        drain(tmp_path / "file")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 0.1


def test_tiny_members_take_linear_time(tmp_path: Path) -> None:
    """A quarter of a million empty members in one stream; work that grew with their square would take minutes."""
    (tmp_path / "file").write_bytes(gzip.compress(b"", mtime=0) * 250_000 + GZ)
    assert drain(tmp_path / "file") == IMAGES.tobytes()


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
