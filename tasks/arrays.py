"""Opening the arrays of sequences: memory-mapped, verified, read in the shape that their handle states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.handles import Sequences
    from tasks.store import Store

X_FILE = "x.npy"
TARGETS_FILE = "targets.npy"


def open_arrays(store: Store, sequences: Sequences) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The arrays (N, T, F) in the file's type and (N,) or (N, T) int32, mapped and not read.

    Raises:
        StorageError: their bytes are damaged.
    """
    x = np.load(store.open(sequences.x, X_FILE), mmap_mode="r", allow_pickle=False)
    targets = np.load(store.open(sequences.targets, TARGETS_FILE), mmap_mode="r", allow_pickle=False)
    return x.reshape(sequences.x.shape), targets.reshape(sequences.targets.shape)
