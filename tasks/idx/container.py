"""The bytes of an IDX file out of what holds them: a plain file, a gzip or xz stream, a member of a zip.

Here: opening only what can be read safely, recognising the container by its content, and streaming its bytes with every
failure turned into a `DataError`. Not here: what the bytes mean.
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol, cast

from isal import igzip_lib

from schemas.errors import DataError
from schemas.nearest import did_you_mean
from tasks.idx.diagnosis import likeness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Kind = Literal["raw", "gzip", "xz", "zip"]

EXPECTED: Final = "an IDX file, plain or as gzip, xz or a member of a zip"
AGAIN: Final = "Delete it and download it again"

_GZIP_FAILURE: Final = cast("type[Exception]", igzip_lib.IsalError)  # its stub calls it an instance
_BLOCK: Final = 1 << 18  # compressed bytes read at a time
_FIRST_FEED: Final = 1 << 12


@dataclass(frozen=True)
class Limits:
    """How far a file is believed before its bytes have been seen.

    Attributes:
        deflate_ratio: Most payload bytes a compressed byte of gzip or zip may stand for; deflate cannot exceed 1032.
        xz_ratio: The same for xz, whose runs of one value reach about 7,000.
        xz_memory: Most bytes of memory the xz decoder may take; ``xz -9`` asks for 65 MiB.
        zip_directory: Most bytes of a zip's list of members.
        memory: Most bytes that one item, or a file read whole, may take in memory.
    """

    deflate_ratio: int = 1032
    xz_ratio: int = 10_000
    xz_memory: int = 128 << 20
    zip_directory: int = 4 << 20
    memory: int = 2 << 30


@dataclass(frozen=True)
class Container:
    """An opened container.

    Attributes:
        kind: What the file itself is.
        label: The file's name for messages, with the member's where there is one.
        read: Returns the next bytes of the IDX file, at most as many as asked for; empty at the end and only there.
        exact: Bytes of the IDX file where the container is the file itself, else None.
        most: Bytes of the IDX file that the container can hold at the very most.
    """

    kind: Kind
    label: str
    read: Callable[[int], bytes]
    exact: int | None
    most: int


@contextmanager
def open_container(path: Path, member: str | None, limits: Limits) -> Iterator[Container]:
    """Open ``path``, recognise what it is by its first bytes, and stream the IDX file inside.

    Args:
        path: A regular file or a link to one.
        member: Name of the member, for a zip; may be left out where the zip has one file only.
        limits: Bounds on what compressed data may ask for.

    Raises:
        DataError: It cannot be opened or is damaged; reading raises the same.
    """
    label = shown(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = os.pread(file.fileno(), 8, 0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with _open_member(file, member, label, limits) as container:
                yield container
        elif member is not None:
            found = "not a zip archive, so it has no members"
            raise DataError(found, f"a zip with the member {member!r}", "Leave the member's name out", label)
        else:
            yield _recognised(head, _plain(file, label), size, label, limits) or Container(
                "raw", label, _plain(file, label), size, size
            )


@contextmanager
def open_regular(path: Path) -> Iterator[io.FileIO]:
    """Open a regular file for unbuffered reading, and nothing that could block or act when it is opened.

    Raises:
        DataError: There is no such file, it may not be read, or it is a folder, device, pipe or socket.
    """
    label = shown(path)
    try:
        # Before opening, because opening a pipe or a device can have an effect; after it, because names can change.
        _require_regular(path.stat().st_mode, label)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError("there is no such file", EXPECTED, "Check the name, or download the file", label) from None
    except PermissionError:
        remedy = "Give yourself permission to read it (and to enter the folders on its path)"
        raise DataError("permission to read it is denied", "a readable file", remedy, label) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"it cannot be opened ({reason})", EXPECTED, "Check the name and its links", label) from None
    with io.FileIO(descriptor) as file:
        _require_regular(os.fstat(descriptor).st_mode, label)
        yield file


def shown(path: Path) -> str:
    """Return a path as it can safely be printed."""
    name = str(path)
    return name if name.isprintable() else ascii(name)


def _require_regular(mode: int, label: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds: dict[Callable[[int], bool], str] = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe (FIFO)",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a character device",
        stat.S_ISBLK: "a block device",
    }
    kind = next((name for test, name in kinds.items() if test(mode)), "a special file")
    raise DataError(f"{kind}, not a file", EXPECTED, "Name the IDX file itself; only regular files are opened", label)


def _plain(file: io.FileIO, label: str) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        try:
            return file.read(count) or b""
        except OSError as error:
            found = f"it cannot be read ({error.strerror})"
            raise DataError(found, "a readable file", "Check the disk, or get the file again", label) from None

    return read


# --- gzip and xz: streams of one or more members --------------------------------------------------------------------


class _Decoder(Protocol):
    """What the decoders of isal and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Any, max_length: int = -1) -> bytes: ...  # noqa: ANN401 - any buffer


@dataclass(frozen=True)
class _Codec:
    kind: Kind
    magic: bytes
    member: str
    failure: type[Exception]
    decoder: Callable[[], _Decoder]
    ratio: int


def _codecs(limits: Limits) -> tuple[_Codec, ...]:
    def gzip() -> _Decoder:
        return cast("_Decoder", igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))

    def xz() -> _Decoder:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.xz_memory)

    return (
        _Codec("gzip", b"\x1f\x8b", "gzip member", _GZIP_FAILURE, gzip, limits.deflate_ratio),
        _Codec("xz", b"\xfd7zXZ\0", "xz stream", lzma.LZMAError, xz, limits.xz_ratio),
    )


def _recognised(head: bytes, read: Callable[[int], bytes], size: int, label: str, limits: Limits) -> Container | None:
    """Return the compressed stream that ``head`` begins, or None when it begins none."""
    for codec in _codecs(limits):
        if head.startswith(codec.magic):
            stream = _Decompressed(read, codec, label)
            return Container(codec.kind, label, stream.read, None, codec.ratio * size)
    return None


class _Decompressed:
    """The bytes of a gzip or xz stream, whose members follow each other with nothing between or after them.

    Work is linear in what is read: a member is fed slices that start small and double, so that the unused rest that a
    decoder hands back at a member's end stays below the member's own size (or `_FIRST_FEED`), however many tiny members
    there are. The first slice is never cut short by a block's end: isal 1.9 misreads a gzip header with two optional
    fields or a checksum of its own when it comes in two parts.
    """

    def __init__(self, read: Callable[[int], bytes], codec: _Codec, label: str) -> None:
        self._source = read
        self._codec = codec
        self._label = label
        self._block = b""
        self._at = 0  # position in the block
        self._before = 0  # compressed bytes before the block
        self._start_member()

    def read(self, count: int) -> bytes:
        """Return 1 to ``count`` bytes, or none at the end of the last member, its checksum verified."""
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            feed: memoryview | bytes = self._feed() if self._decoder.needs_input else b""
            try:
                data = self._decoder.decompress(feed, count)
            except self._codec.failure as error:
                self._fail(error)
            if data:
                return data

    def _start_member(self) -> None:
        self._hold(_FIRST_FEED)
        self._decoder = self._codec.decoder()
        self._stride = _FIRST_FEED

    def _hold(self, count: int) -> None:
        """Have ``count`` bytes in the block, or all that are left."""
        while len(self._block) - self._at < count and self._refill():
            pass

    def _feed(self) -> memoryview:
        if self._at == len(self._block) and not self._refill():
            found = f"{_a(self._codec.kind)} stream cut after {self._before:,} bytes"
            raise DataError(found, "a whole stream", f"The download was probably cut. {AGAIN}", self._label)
        piece = memoryview(self._block)[self._at : self._at + self._stride]
        self._at += len(piece)
        self._stride = min(2 * self._stride, _BLOCK)
        return piece

    def _refill(self) -> bool:
        """Make a block of what is left and the next bytes of the source; False at the source's end."""
        more = self._source(_BLOCK)
        self._before += self._at
        self._block = self._block[self._at :] + more
        self._at = 0
        return bool(more)

    def _next_member(self) -> bool:
        """Begin the member that follows the one that has ended; False when nothing follows."""
        self._at -= len(self._decoder.unused_data)
        self._hold(len(self._codec.magic))
        rest = self._block[self._at : self._at + len(self._codec.magic)]
        if not rest:
            self._block, self._at = b"", 0
            self._decoder = _Finished()
            return False
        if rest != self._codec.magic:
            found = f"bytes that are no {self._codec.member} after byte {self._before + self._at:,} (trailing garbage)"
            raise DataError(found, "nothing after the last member", AGAIN, self._label)
        self._start_member()
        return True

    def _fail(self, error: Exception) -> NoReturn:
        text = str(error)
        if "checksum" in text:
            text = "the checksum (CRC) does not match the data"
        elif "Memory usage limit" in text:
            text = "the decoder asks for more memory than is allowed"
        found = f"a damaged {self._codec.kind} stream near byte {self._before + self._at:,}: {text}"
        raise DataError(found, "a whole, undamaged stream", AGAIN, self._label) from error


class _Finished:
    """The decoder after the last member: at its end for ever."""

    eof = True
    needs_input = False
    unused_data = b""

    def decompress(self, data: Any, max_length: int = -1) -> bytes:  # noqa: ANN401, ARG002 - the decoders' signature
        return b""


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "xz" else f"a {kind}"


# --- zip ------------------------------------------------------------------------------------------------------------

_ZIP_FAILURES: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    RuntimeError,  # encrypted, or (by a kind of it) a compression method that zipfile does not know
    OSError,
    ValueError,
    OverflowError,
    LookupError,
)


class BoundedReads(io.BufferedReader):
    """A file that refuses a single read larger than ``most`` bytes: `zipfile` reads a zip's list of members in one."""

    def __init__(self, file: io.FileIO, most: int) -> None:
        super().__init__(file)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to so many bytes."""
        if size is not None and size > self._most:
            raise zipfile.BadZipFile(f"its list of members takes {size:,} bytes")
        return super().read(size)


@contextmanager
def _open_member(file: io.FileIO, member: str | None, label: str, limits: Limits) -> Iterator[Container]:
    """Open a member of a zip: an IDX file, or a gzip or xz stream that holds one."""
    reads = BoundedReads(file, limits.zip_directory)
    try:
        archive, size = _archive(reads, label), os.fstat(file.fileno()).st_size
        info = _choose(archive, member, label)
        label = f"{label}, member {info.filename!r}"
        read = _member_reader(archive, info, label)
        held = min(info.compress_size, size)
        head, read = _peeked(read)
        inner = _recognised(head, read, held, label, limits)
        most = limits.deflate_ratio * held
        yield Container("zip", label, inner.read if inner else read, None, min(most, inner.most) if inner else most)
    finally:
        reads.detach()


def _archive(reads: BoundedReads, label: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(reads)
    except _ZIP_FAILURES as error:
        found = f"a zip archive that is cut or damaged ({error})"
        raise DataError(found, EXPECTED, AGAIN, label) from error


def _choose(archive: zipfile.ZipFile, member: str | None, label: str) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    names = [info.filename for info in files]
    if member is None and len(files) != 1:
        found = _listing(names)
        raise DataError(found, "the name of one member", "Say which member to read", label)
    wanted = names[0] if member is None else member
    if "\\" in wanted or wanted.startswith("/") or ".." in PurePosixPath(wanted).parts or wanted[1:2] == ":":
        found = f"the member name {wanted!r}, which leads out of the archive"
        raise DataError(found, "a plain relative name", "Do not trust this archive; get it from its publisher", label)
    chosen = [info for info in files if info.filename == wanted]
    if len(chosen) != 1:
        meant = did_you_mean(wanted, names[:1000] if not chosen else (), "Check the member's name and the archive")
        found = f"{len(chosen) or 'no'} member{'s' if chosen else ''} named {wanted!r} in {_listing(names)}"
        raise DataError(found, "one member of that name", meant, label)
    return chosen[0]


def _listing(names: list[str]) -> str:
    """Say what a zip holds, its first names safe to print."""
    if not names:
        return "a zip archive without files"
    if all(name.endswith(".npy") for name in names):
        return f"a NumPy .npz archive of {len(names)} arrays"
    return f"a zip archive of {len(names)} files: {', '.join(repr(n) for n in names[:5])}{', …' * (len(names) > 5)}"


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Callable[[int], bytes]:
    if info.flag_bits & 1:
        raise DataError("an encrypted member", "a member without password", "Extract it yourself first", label)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found = f"a member compressed by method {info.compress_type}"
        raise DataError(found, "stored or deflated members", "Extract it yourself first", label)

    def fail(error: Exception) -> NoReturn:
        found = f"a zip member that is cut or damaged ({error or 'it ends early'})"
        raise DataError(found, "a whole, undamaged member", AGAIN, label) from error

    try:
        stream = archive.open(info)
    except _ZIP_FAILURES as error:
        fail(error)

    def read(count: int) -> bytes:
        try:
            return stream.read(min(count, _BLOCK))
        except _ZIP_FAILURES as error:
            fail(error)

    return read


def _peeked(read: Callable[[int], bytes]) -> tuple[bytes, Callable[[int], bytes]]:
    """Return the first bytes of a stream and a reader that begins with them again."""
    head = read(8)
    waiting = [head] if head else []

    def again(count: int) -> bytes:
        if not waiting:
            return read(count)
        first = waiting.pop()
        if len(first) > count:
            waiting.append(first[count:])
        return first[:count]

    return head, again


def diagnosis(kind: Kind, head: bytes) -> str:
    """Say what a container of this kind holds, given the first bytes of its content."""
    inside = likeness(head)
    return inside if kind == "raw" else f"{_a(kind)} container that holds {inside}"
