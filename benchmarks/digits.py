"""The samples that benchmarks work on: MNIST where a source answers, else the drawn digits; as arrays or IDX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import FOLDER
from schemas.catalog import load_catalog
from schemas.errors import SourceError
from tasks.download import fetch
from tasks.idx import IdxWriter, read_idx
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Role

ROWS = 60_000
CLASSES = 10
PIECE = 10_000


def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (60000, 28, 28) uint8 and labels: MNIST's training split, or the drawn digits, repeated to its size."""
    try:
        return of("mnist")
    except SourceError as error:
        print(f"drawn digits in place of MNIST: {error}")
        images, labels = of("glyphs")
        return np.resize(images, (ROWS, *images.shape[1:])), np.resize(labels, ROWS)


def of(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The training split of a dataset of the catalog, kept below the benchmarks' folder."""
    dataset, store = load_catalog().dataset(name), Store(FOLDER / "artifacts")

    def role(role: Role) -> NDArray[Any]:
        file = fetch(dataset, "train", role, store, lambda *_: None)
        return read_idx(store.open(file.idx, file.name))

    return role("images"), role("labels")


def write_repeated(path: Path, array: NDArray[Any], rows: int) -> Path:
    """An IDX file of so many items: those of the array over and over; memory does not grow with their number."""
    with IdxWriter(path, array.dtype, array.shape[1:]) as writer:
        for start in range(0, rows, PIECE):
            writer.write(array[np.arange(start, min(start + PIECE, rows)) % len(array)])
    return path
