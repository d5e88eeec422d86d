"""Containers that are cut, damaged, nested or bombs, zip members, and names that stand for no regular file.

What is said of each, and that nothing hangs, leaks or stays behind.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import resource
import socket
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx_files import GOOD, GZ, IMAGES, LABELS, XZ, drain, header, patched, rejected, run, zipped

from schemas.errors import DataError
from tasks.idx import Limits, read_idx

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("nothing_left_behind")]


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
}

ZEROS = 50_000_000
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {  # packed when their test runs, since that takes a while
    "gzip bomb": (lambda: gzip.compress(GOOD + bytes(ZEROS), 1), "more bytes after the 2,116"),
    "gzip bomb without header": (
        lambda: gzip.compress(bytes(ZEROS), 1),
        "a gzip container that holds nothing but zero",
    ),
    "xz bomb": (lambda: lzma.compress(GOOD + bytes(ZEROS), preset=0), "more bytes after the 2,116"),
    "zip of gzip bomb": (lambda: zipped(("a", gzip.compress(GOOD + bytes(ZEROS), 1))), "more bytes after the 2,116"),
    "gzip bomb in gzip in zip": (
        lambda: zipped(("a", gzip.compress(header(ZEROS) + bytes(ZEROS)))),
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


@pytest.mark.parametrize("case", REJECTED)
def test_a_broken_container_is_named(tmp_path: Path, case: str) -> None:
    data, text = REJECTED[case]
    (tmp_path / "file").write_bytes(data)
    rejected(tmp_path / "file", text)


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused(tmp_path: Path, case: str) -> None:
    pack, text = BOMBS[case]
    (tmp_path / "file").write_bytes(pack())
    rejected(tmp_path / "file", text)


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_unusual_and_right_is_read(tmp_path: Path, case: str) -> None:
    (tmp_path / "file").write_bytes(ACCEPTED[case])
    assert drain(tmp_path / "file") == IMAGES.tobytes()


def gzip_with_everything(data: bytes) -> bytes:
    """A member whose header has all that RFC 1952 allows, with the header's own checksum."""
    head = b"\x1f\x8b\x08\x1e" + bytes(5) + b"\xff" + b"\4\0abcd" + b"a name\0" + b"a comment\0"
    return head + (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + gzip.compress(data, 0, mtime=0)[10:]


@pytest.mark.parametrize("before", [1, 8, 10, 13, 17, 25, 34])
def test_a_header_across_the_end_of_a_block(tmp_path: Path, before: int) -> None:
    content = header(300_000) + bytes(range(250)) * 1_200
    first, second = content[:261_000], content[261_000:]
    bare = len(gzip.compress(first, 0))
    name = b"n" * (2**18 - before - bare - 1)
    plain = gzip.compress(first, 0, mtime=0)
    (tmp_path / "file").write_bytes(
        patched(plain, 3, b"\x08")[:10] + name + b"\0" + plain[10:] + gzip_with_everything(second)
    )
    assert read_idx(tmp_path / "file").tobytes() == content[8:]


def test_a_long_header_inside_of_a_zip(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(zipped(("a", gzip_with_everything(GOOD))))
    assert read_idx(tmp_path / "file").shape == IMAGES.shape


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


@given(data=st.data())
@settings(
    max_examples=4 * settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
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
        (process_file, "bytes missing|data of an unknown kind|text"),
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


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_bomb_is_read_no_further_than_one_byte_too_many(tmp_path: Path) -> None:
    """600 MB of zeros follow the payload; decoding them all would take far longer than refusing them."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    begun = packer.compress(GOOD) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it can be repeated
    (tmp_path / "file").write_bytes(begun + 60 * zeros + packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(DataError, match="more bytes after the 2,116"):
        drain(tmp_path / "file")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 0.1


def test_tiny_members_take_linear_time(tmp_path: Path) -> None:
    """A quarter of a million empty members in one stream; work that grew with their square would take minutes."""
    (tmp_path / "file").write_bytes(gzip.compress(b"", mtime=0) * 250_000 + GZ)
    assert drain(tmp_path / "file") == IMAGES.tobytes()
