"""Writing IDX files: streamed, honest in their header, whole under their name or absent.

Here: the bytes of the format, plain or gzip. Not here: what is written and why.
"""

from __future__ import annotations

import os
import secrets
import struct
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from isal import isal_zlib

from schemas.errors import DataError, StorageError
from tasks.idx.container import shown
from tasks.idx.header import IdxHeader, dimensions

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray

# Deflate, no name, no time, "unknown" system: equal data give equal bytes.
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LEVEL: Final = 2
_RAW_DEFLATE: Final = -15
_STEP: Final = 1 << 24


class IdxWriter:
    """Stream arrays into one IDX file; its name exists only once all of it is written.

    Use it as a context manager. Leaving it in good order writes the item count into the header, flushes to the disk and
    renames; leaving it by an exception removes what was written and keeps what stood under the name before.

    Args:
        path: The file to write; one that exists is replaced at the end.
        dtype: Element type, of any byte order.
        item_shape: Shape of one item; empty for labels.
        compress: Whether to write gzip.

    Raises:
        DataError: IDX cannot hold this type or shape.
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path, dtype: DTypeLike, item_shape: tuple[int, ...], *, compress: bool = False) -> None:
        self.path = path
        self.items = 0
        self._start = IdxHeader(np.dtype(dtype), (0, *item_shape))
        self._compress = isal_zlib.compressobj(level=_LEVEL, wbits=_RAW_DEFLATE) if compress else None
        self._crc = 0
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> Self:
        try:
            self._file = self._part.open("xb")
        except OSError as error:
            raise self._failure(error) from error
        try:
            self._file.write(self._head(self._start))
        except OSError as error:
            self._discard()
            raise self._failure(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except OSError as failure:
            self._discard()
            raise self._failure(failure) from failure
        except BaseException:
            self._discard()
            raise

    def write(self, array: NDArray[Any]) -> None:
        """Append items.

        Args:
            array: (n, *item_shape), of the writer's type up to byte order.

        Raises:
            DataError: Another type or shape.
            StorageError: The disk does not take it.
        """
        stored = self._start.dtype
        if array.dtype.newbyteorder(">") != stored or array.ndim == 0 or array.shape[1:] != self._start.item_shape:
            found = f"an array {dimensions(array.shape) or 'without dimensions'} of {array.dtype.name}"
            expected = f"items of shape ({dimensions(self._start.item_shape)}) of {stored.name}"
            raise DataError(found, expected, "Reshape or convert the array first", shown(self.path))
        rows = max(1, _STEP // self._start.item_bytes)
        try:
            for first in range(0, len(array), rows):
                self._append(np.ascontiguousarray(array[first : first + rows], dtype=stored))
        except OSError as error:
            raise self._failure(error) from error
        self.items += len(array)

    def _append(self, rows: NDArray[Any]) -> None:
        data = rows.reshape(-1).view(np.uint8).data
        if self._compress is None:
            self._file.write(data)
            return
        self._crc = isal_zlib.crc32(data, self._crc)
        self._file.write(self._compress.compress(data))

    def _head(self, header: IdxHeader) -> bytes:
        """Return the file's first bytes, of a length that does not depend on the item count.

        In gzip the header is a deflate block of its own, stored as it is, so that the count can be put in at the end.
        """
        plain = header.encode()
        if self._compress is None:
            return plain
        return _GZIP_HEADER + struct.pack("<BHH", 0, len(plain), len(plain) ^ 0xFFFF) + plain

    def _finish(self) -> None:
        """Complete the file, state its item count and give it its name."""
        header = IdxHeader(self._start.dtype, (self.items, *self._start.item_shape))
        if self._compress is not None:
            crc = isal_zlib.crc32_combine(isal_zlib.crc32(header.encode()), self._crc, header.payload_bytes)
            total = (header.size + header.payload_bytes) % 2**32
            self._file.write(self._compress.flush() + struct.pack("<II", crc, total))
        self._file.seek(0)
        self._file.write(self._head(header))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self.path)

    def _discard(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # a full disk: the rest of the buffer is lost, as it should be
        finally:
            self._part.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> StorageError:
        found = f"it cannot be written ({error.strerror})"
        return StorageError(
            found, "a folder that can be written, with room", "Make room or name another", shown(self.path)
        )


def write_idx(path: Path, array: NDArray[Any], *, compress: bool = False) -> IdxHeader:
    """Write one array as an IDX file, plain or gzip.

    Args:
        path: The file to write; replaced if it exists.
        array: (N, ...) of a type that IDX has, of any byte order.
        compress: Whether to write gzip.

    Returns:
        The header that the file has.

    Raises:
        DataError: IDX cannot hold this array.
        StorageError: The file cannot be written.
    """
    header = IdxHeader(array.dtype, array.shape)
    with IdxWriter(path, header.dtype, header.item_shape, compress=compress) as writer:
        writer.write(array)
    return header
