"""The IDX header: element type and shape as the file's first bytes state them.

Here: the header's value object, its bytes and back. Not here: whether a file keeps what its header promises (reader).

The format: two zero bytes, a type code, the rank, one big-endian uint32 a dimension; then the payload in C order,
big-endian too.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

DTYPES: Final[dict[int, np.dtype[Any]]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
CODES: Final = {dtype: code for code, dtype in DTYPES.items()}
TYPE_NAMES: Final = "uint8, int8, int16, int32, float32 or float64"
MAGIC_SIZE: Final = 4
MAX_RANK: Final = 64  # NumPy's; the format's own limit, 255, has no use
MAX_HEADER_SIZE: Final = MAGIC_SIZE + 4 * MAX_RANK
MAX_DIMENSION: Final = 2**32 - 1


@dataclass(frozen=True)
class IdxHeader:
    """Element type and shape of an IDX file; one that the format cannot state cannot be made.

    Attributes:
        dtype: Element type in the file's byte order (``u1``, ``i1``, ``>i2``, ``>i4``, ``>f4``, ``>f8``); a native one
            is taken for its big-endian counterpart.
        shape: One size a dimension, the number of items first. There may be no items, but an item has elements.

    Raises:
        DataError: The type, the rank or a size is none that IDX can hold.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", file_dtype(self.dtype))
        if not 1 <= len(self.shape) <= MAX_RANK:
            found = f"an IDX header of rank {len(self.shape)}"
            raise DataError(found, f"at least one dimension and at most {MAX_RANK}", "Check how the file was written")
        if any(not 0 <= size <= MAX_DIMENSION for size in self.shape):
            found = f"the shape {dimensions(self.shape)}"
            raise DataError(found, f"sizes from 0 to {MAX_DIMENSION:,}", "Split the data into several files")
        if 0 in self.shape[1:]:
            found = f"an IDX header whose items have no elements (shape {dimensions(self.shape)})"
            raise DataError(found, "sizes above zero after the first", "Check how the file was written")
        if self.item_bytes > sys.maxsize:
            found = f"an IDX header whose items take 2^63 bytes or more each (shape {dimensions(self.shape)})"
            raise DataError(found, "items that a machine can address", "The header is damaged; get the file again")

    @property
    def items(self) -> int:
        """Number of items (the first dimension)."""
        return self.shape[0]

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item; empty for labels."""
        return self.shape[1:]

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return math.prod(self.item_shape) * self.dtype.itemsize

    @property
    def payload_bytes(self) -> int:
        """Bytes that follow the header."""
        return self.items * self.item_bytes

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return MAGIC_SIZE + 4 * len(self.shape)

    def encode(self) -> bytes:
        """Return the header as the file holds it."""
        rank = len(self.shape)
        return struct.pack(f">HBB{rank}I", 0, CODES[self.dtype], rank, *self.shape)

    def __str__(self) -> str:
        """Say it for a person, as in ``60000 × 28 × 28 of uint8``."""
        return form_of(self.shape, self.dtype)


def is_magic(head: bytes) -> bool:
    """Tell whether a file that begins with ``head`` (at least 4 bytes) begins as IDX files do."""
    return len(head) >= MAGIC_SIZE and head[:2] == b"\0\0" and head[2] in DTYPES and head[3] > 0


def header_size(head: bytes) -> int:
    """Return the size in bytes of the header that ``head``, an IDX magic or more, begins."""
    return MAGIC_SIZE + 4 * head[3]


def decode(head: bytes) -> IdxHeader:
    """Read the header that ``head`` begins with; `is_magic` holds for it and all of the header is there.

    Raises:
        DataError: The header states a shape that no IDX file of use has; the error does not know the file's name.
    """
    rank = head[3]
    if rank > MAX_RANK:
        found = f"an IDX header of rank {rank}"
        raise DataError(found, f"at most {MAX_RANK} dimensions", "The header is damaged; get the file again")
    return IdxHeader(DTYPES[head[2]], struct.unpack_from(f">{rank}I", head, MAGIC_SIZE))


def file_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type under which IDX stores ``dtype``, which differs in byte order at most.

    Raises:
        DataError: IDX has no such type.
    """
    stored = dtype.newbyteorder(">")
    if stored not in CODES:
        raise DataError(f"elements of type {dtype}", TYPE_NAMES, "Convert the array to one of these types first")
    return stored


def form_of(shape: tuple[int, ...], dtype: DTypeLike) -> str:
    """Say shape and type for a person, as in ``28 × 28 of uint8``."""
    return f"{dimensions(shape)} of {np.dtype(dtype).name}"


def dimensions(shape: tuple[int, ...]) -> str:
    """Say a shape for a person, as in ``60000 × 28 × 28``; of many dimensions the first few."""
    shown = " × ".join(str(size) for size in shape[:8])
    return f"{shown} × …" if len(shape) > 8 else shown
