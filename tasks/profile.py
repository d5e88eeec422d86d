"""What training data look like: counts of labels and pixels, and how sure a model is of its answers on them.

A foundation: drift compares profiles, publish keeps that of the data that a model was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.drift import CONFIDENCE_BINS, PIXEL_BINS, Profile
from schemas.files import MODEL_FILE
from schemas.tables import FILE_NAME
from tasks.model_input import sequences_of
from tasks.table import TableReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Labels, Table
    from tasks.store import Store

ASKED: Final = 2000  # images that a model is asked about
BYTES: Final = (0.0, 256.0)


def profile_of(store: Store, table: Table, labels: Labels, edges: tuple[float, float] | None = None) -> Profile:
    """Count a table's labels and pixels in one pass; memory does not grow with it.

    Args:
        store: Where the table is.
        table: The training split.
        labels: The classes.
        edges: Of the bins of pixels; None: the range of bytes, for other types that of the first batch.
    """
    classes, pixels = np.zeros(labels.classes, np.int64), np.zeros(PIXEL_BINS, np.int64)
    total = squares = 0.0
    count = rows = 0
    for batch in TableReader(store.open(table.table, FILE_NAME)).batches():
        values = batch.pixels.view(np.dtype(table.table.dtype)).reshape(-1)
        edges = edges or _edges(values)
        binned, summed, squared = _counted(values, edges)
        classes += np.bincount(batch.labels - labels.first, minlength=labels.classes)
        pixels, total, squares = pixels + binned, total + summed, squares + squared
        count, rows = count + values.size, rows + len(batch.labels)
    low, high = edges or BYTES
    mean = total / max(count, 1)
    return Profile(
        rows=rows,
        first=labels.first,
        labels=tuple(classes.tolist()),
        low=low,
        high=high,
        pixels=tuple(pixels.tolist()),
        mean=mean,
        std=max(0.0, squares / max(count, 1) - mean**2) ** 0.5,
    )


def _edges(values: NDArray[Any]) -> tuple[float, float]:
    if values.dtype == np.uint8:
        return BYTES
    low, high = float(values.min()), float(values.max())
    if high - low <= 2 * PIXEL_BINS * np.spacing(max(abs(low), abs(high))):  # one value, or nearly: no room for bins
        high = low + (abs(low) or 1.0)
    return low, high


def _counted(values: NDArray[Any], edges: tuple[float, float]) -> tuple[NDArray[np.int64], float, float]:
    """Values in each bin, their sum and the sum of their squares."""
    if values.dtype == np.uint8 and edges == BYTES:
        each, numbers = np.bincount(values, minlength=256), np.arange(256.0)
        return each.reshape(PIXEL_BINS, -1).sum(1), float(each @ numbers), float(each @ numbers**2)
    wide = values.astype(np.float64)
    return np.histogram(np.clip(wide, *edges), PIXEL_BINS, edges)[0], float(wide.sum()), float(wide @ wide)


def confidence_on(store: Store, table: Table, reshape: Reshape, run: Path) -> tuple[int, ...] | None:
    """How sure a published model is of its answers to some 2,000 images of a table, evenly spaced.

    Args:
        store: Where the table is.
        table: Images of the form that the model knows.
        reshape: How the model reads them.
        run: Folder of the model.

    Returns:
        Counts of the highest probability in each tenth; None where images are no whole number of sequences.
    """
    from tasks.network import ANSWER_BATCH, Answerer, load

    group = reshape.images_per_sequence
    sequences, rest = divmod(table.table.rows, group)
    if rest:
        return None
    stride, start = max(1, sequences * group // ASKED), 0
    counts = np.zeros(CONFIDENCE_BINS, np.int64)
    answerer = Answerer(load(run / MODEL_FILE))
    chosen: list[NDArray[Any]] = []
    for x, _ in sequences_of(store, table, reshape, ANSWER_BATCH):
        chosen.append(x[-start % stride :: stride])
        start += len(x)
    for p in answerer.answers(np.concatenate(chosen)):
        counts += np.histogram(np.clip(p.max(-1), 0, 1), CONFIDENCE_BINS, (0, 1))[0]
    return tuple(counts.tolist())
