"""Reading IDX files: header first, judged against what the file can hold, then the payload in whole items.

Here: the streaming reader and the small whole-file one. Not here: containers and how they are recognised
(container), what the values mean (the stages).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from schemas.errors import DataError
from tasks.idx.container import AGAIN, EXPECTED, Container, Kind, Limits, diagnosis, open_container
from tasks.idx.diagnosis import HEAD_SIZE
from tasks.idx.header import MAGIC_SIZE, MAX_HEADER_SIZE, IdxHeader, decode, header_size, is_magic
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

Expect = Literal["images", "labels"]

DEFAULT_LIMITS: Final = Limits()
_HEAD: Final = max(HEAD_SIZE, MAX_HEADER_SIZE)
_STEP: Final = 1 << 20  # bytes asked of the container at a time
_WORTH_A_THREAD: Final = 1 << 18


@contextmanager
def open_idx(
    path: Path,
    *,
    member: str | None = None,
    expect: Expect | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[IdxReader]:
    """Open an IDX file, plain or compressed, whatever its name says.

    Args:
        path: The file; only regular files (or links to them) are opened.
        member: Name of the member where the file is a zip; may be left out where the zip holds one file.
        expect: ``images`` demands rank 2 and up, ``labels`` rank 1.
        limits: How far a compressed file is believed.

    Yields:
        A reader whose header has been judged against what the file can hold.

    Raises:
        DataError: The file is anything but an IDX file; reading on raises the same.
    """
    with open_container(path, member, limits) as container, ThreadPoolExecutor(1, "idx-digest") as pool:
        head = _read(container.read, _HEAD)
        header = _header(head, container)
        if expect is not None:
            _require_kind(header, expect, container.label)
        _require_believable(header, container, limits)
        reader = IdxReader(header, container, head[header.size :], _Digest(pool, head[: header.size]))
        try:
            yield reader
        finally:
            reader.close()


def read_idx(
    path: Path, *, member: str | None = None, expect: Expect | None = None, limits: Limits = DEFAULT_LIMITS
) -> NDArray[Any]:
    """Read a whole IDX file: for labels and other small ones, since all of it is held in memory.

    Args:
        path: As for `open_idx`, like the others.
        member: The same.
        expect: The same.
        limits: The same.

    Returns:
        A read-only array of the header's shape, in the file's own byte order.

    Raises:
        DataError: As for `open_idx`; also a file larger than ``limits.memory``.
    """
    with open_idx(path, member=member, expect=expect, limits=limits) as reader:
        header = reader.header
        if header.payload_bytes > limits.memory:
            found = f"{header}, {header.payload_bytes:,} bytes"
            expected = f"at most {limits.memory:,} bytes where a file is read whole"
            raise DataError(found, expected, "Read it in batches, or name the right file", reader.name)
        batches = list(reader.batches(max(1, header.items)))
        return batches[0] if batches else np.empty(header.shape, header.dtype)


class IdxReader:
    """One pass over an opened IDX file, made by `open_idx`.

    The values are the file's only once the iterator is exhausted: then the payload was exactly as long as the header
    says, nothing followed it, and every checksum of the container held. Nothing made of them counts before that.

    Attributes:
        header: Element type and shape.
        container: What the file is: ``raw``, ``gzip``, ``xz`` or ``zip``.
        name: The file's name for messages.
    """

    def __init__(self, header: IdxHeader, container: Container, start: bytes, digest: _Digest) -> None:
        self.header = header
        self.container: Kind = container.kind
        self.name = container.label
        self._source = container.read
        self._start = start  # of the payload, read along with the header
        self._digest = digest
        self._begun = self._whole = self._closed = False

    def batches(self, items: int) -> Iterator[NDArray[Any]]:
        """Yield the payload as arrays of at most ``items`` items, in order.

        Args:
            items: Items a batch; every batch but the last has as many.

        Yields:
            Read-only arrays (n, *item_shape) in the file's own byte order.

        Raises:
            DataError: The payload is cut, damaged, or followed by something.
        """
        dtype, item_shape = self.header.dtype, self.header.item_shape
        for piece in self._pieces(items):
            yield np.frombuffer(piece, dtype).reshape(-1, *item_shape)

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the payload as bytes of whole items, about ``size`` bytes at a time and one item at the least.

        Raises:
            DataError: As for `batches`.
        """
        yield from self._pieces(max(1, size // self.header.item_bytes))

    def payload_sha256(self) -> str:
        """Return the SHA-256 of the decompressed file, header included: what published payload digests are of.

        Raises:
            RuntimeError: The file has not been read to its end.
        """
        self._require_whole()
        return self._digest.hex()

    def close(self) -> None:
        """End the reading; the digest of a file read to its end can still be asked for."""
        self._closed = True
        self._digest.settle()

    def _pieces(self, items: int) -> Iterator[bytes]:
        if items < 1:
            raise ValueError(f"a batch of {items} items")
        if self._begun:
            raise RuntimeError("an IDX reader streams its file once; open the file again")
        self._begun = True
        left = self.header.items
        while left:
            if self._closed:
                raise RuntimeError("the IDX reader is closed")
            count = min(items, left)
            piece = self._take(count * self.header.item_bytes, left)
            left -= count
            self._digest.update(piece)
            yield piece
        self._require_end()
        self._whole = True

    def _take(self, size: int, left: int) -> bytes:
        """Return the next ``size`` bytes; memory grows with what has really arrived."""
        piece = _read(self._read, size)
        if len(piece) < size:
            header = self.header
            there = header.size + (header.items - left) * header.item_bytes + len(piece)
            found = (
                f"an IDX header that promises {header} ({header.size + header.payload_bytes:,} bytes with the header), "
                f"but the data ends after {there:,} bytes"
            )
            raise DataError(found, "as many bytes as the header says", AGAIN, self.name)
        return piece

    def _read(self, count: int) -> bytes:
        if not self._start:
            return self._source(count)
        data, self._start = self._start[:count], self._start[count:]
        return data

    def _require_end(self) -> None:
        if self._read(1):
            total = self.header.size + self.header.payload_bytes
            found = f"more bytes after the {total:,} that its header ({self.header}) accounts for (trailing bytes)"
            raise DataError(found, "nothing after the last item", AGAIN, self.name)

    def _require_whole(self) -> None:
        if not self._whole:
            raise RuntimeError("the file has a digest only once it has been read to its end")


class _Digest:
    """SHA-256 of the file, computed beside the reading: hashing releases the interpreter's lock."""

    def __init__(self, pool: ThreadPoolExecutor, header: bytes) -> None:
        self._pool = pool
        self._hash = hashlib.sha256(header)
        self._running: Future[None] | None = None

    def update(self, piece: bytes) -> None:
        """Add the next bytes; waits for those before, so that at most one piece is held back."""
        self.settle()
        if len(piece) < _WORTH_A_THREAD:
            self._hash.update(piece)
        else:
            self._running = self._pool.submit(self._hash.update, piece)

    def settle(self) -> None:
        """Wait until all bytes are in."""
        if self._running:
            self._running.result()
        self._running = None

    def hex(self) -> str:
        """The digest of all bytes so far."""
        self.settle()
        return self._hash.hexdigest()


def _read(source: Callable[[int], bytes], size: int) -> bytes:
    """Read ``size`` bytes, or as many as there are; never more memory than has arrived, beside one step."""
    piece = source(min(size, _STEP))
    if len(piece) == size or not piece:
        return piece
    pieces, got = [piece], len(piece)
    while got < size and (piece := source(min(size - got, _STEP))):
        pieces.append(piece)
        got += len(piece)
    return b"".join(pieces)


def _header(head: bytes, container: Container) -> IdxHeader:
    """Read the header from the file's first bytes, or say what the file is instead."""
    if len(head) >= MAGIC_SIZE and is_magic(head):
        size = header_size(head)
        if len(head) < min(size, MAX_HEADER_SIZE):
            found = f"an IDX header cut after {len(head)} of its {size} bytes"
            raise DataError(found, EXPECTED, AGAIN, container.label)
        try:
            return decode(head)
        except DataError as error:
            raise DataError(error.found, error.expected, error.remedy, container.label) from None
    found = diagnosis(container.kind, head[:HEAD_SIZE])
    raise DataError(found, EXPECTED, "Check where it came from, and get the IDX file itself", container.label)


def _require_kind(header: IdxHeader, expect: Expect, label: str) -> None:
    """Hold the header against what the caller takes the file for."""
    rank = len(header.shape)
    if (rank == 1) == (expect == "labels"):
        return
    if expect == "images":
        found, expected = f"labels (rank 1, {header}) where images were expected", "rank 2 or more"
    else:
        found, expected = f"images or a table (rank {rank}, {header}) where labels were expected", "rank 1"
    raise DataError(found, expected, "The two files were probably swapped; name the other one", label)


def _require_believable(header: IdxHeader, container: Container, limits: Limits) -> None:
    """Hold the header against what the container can hold, before anything is allocated for it."""
    total = header.size + header.payload_bytes
    promise = f"an IDX header that promises {header} ({total:,} bytes with the header)"
    expected, remedy = "a file exactly as long as its header says", AGAIN
    if container.exact is not None and container.exact != total:
        gap = total - container.exact
        verdict = f"{counted(gap, 'byte')} missing" if gap > 0 else f"{counted(-gap, 'byte')} too many (trailing bytes)"
        found = f"{promise}, in a file of {container.exact:,} bytes: {verdict}"
    elif header.payload_bytes > container.most:
        found = f"{promise}, more than a compressed file of this size can hold ({container.most:,})"
    elif header.item_bytes > limits.memory:
        found = f"items of {header.item_bytes:,} bytes each ({header})"
        expected, remedy = f"items of at most {limits.memory:,} bytes", "Check what the file is"
    else:
        return
    raise DataError(found, expected, remedy, container.label)
