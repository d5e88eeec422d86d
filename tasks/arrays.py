"""Opening the arrays of sequences: memory-mapped, verified, read in the shape that their handle states.

And how many of their rows are worked on at a time, and which are no numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.handles import Sequences
    from tasks.store import Store

X_FILE = "x.npy"
TARGETS_FILE = "targets.npy"
BATCH_BYTES: Final = 64 << 20  # of float32


def open_arrays(store: Store, sequences: Sequences) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The arrays (N, T, F) in the file's type and (N,) or (N, T) int32, mapped and not read.

    Raises:
        StorageError: their bytes are damaged.
    """
    x = np.load(store.open(sequences.x, X_FILE), mmap_mode="r", allow_pickle=False)
    targets = np.load(store.open(sequences.targets, TARGETS_FILE), mmap_mode="r", allow_pickle=False)
    return x.reshape(sequences.x.shape), targets.reshape(sequences.targets.shape)


def rows_at_a_time(values: int, most: int) -> int:
    """How many rows of so many values are worked on together, so that memory does not grow with what a row holds.

    Args:
        values: In a row; 1 or more.
        most: Rows that are never exceeded.

    Returns:
        `most`, or the even number of rows, 2 at the least, that `BATCH_BYTES` hold as float32.
    """
    return min(most, max(2, BATCH_BYTES // (8 * values) * 2))


def unfinite_rows(rows: NDArray[Any]) -> NDArray[np.int64]:
    """The rows of an array (n, ...) of any type that hold an infinite value or no number."""
    return np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)).astype(np.int64)


def unfinite_value(row: NDArray[Any]) -> str:
    """The first value of a row that is infinite or no number, and where it stands."""
    values = row.reshape(-1)
    place = int(np.isfinite(values).argmin())
    return f"{values[place]} at pixel {place}"
