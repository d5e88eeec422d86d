"""What training data look like: counts of labels and pixels, and how sure a model is of its answers on them.

A foundation: drift compares profiles, publish keeps that of the data that a model was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from schemas.drift import CONFIDENCE_BINS, PIXEL_BINS, Profile
from schemas.files import MODEL_FILE
from schemas.tables import FILE_NAME
from tasks.learned import digests_of
from tasks.model_input import objection_to_input, sequences_of
from tasks.table import TableReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Labels, Table
    from tasks.learned import Learned
    from tasks.store import Store

ASKED: Final = 2000  # images that a model is asked about
BYTES: Final = (0.0, 256.0)


def profile_of(store: Store, table: Table, labels: Labels, edges: tuple[float, float] | None = None) -> Profile:
    """Count a table's labels and pixels in one pass; memory does not grow with it.

    Args:
        store: Where the table is.
        table: The training split.
        labels: The classes.
        edges: Of the bins of pixels; None: for bytes 0 and the power of 2 above all of them, at least a bin a value;
            for other types the range of the first batch.
    """
    classes = np.zeros(labels.classes, np.int64)
    pixels = _Bytes(edges) if np.dtype(table.table.dtype) == np.uint8 else _Values(edges)
    for batch in TableReader(store.open(table.table, FILE_NAME)).batches():
        pixels.add(batch.pixels.view(np.dtype(table.table.dtype)).reshape(-1))
        classes += np.bincount(batch.labels - labels.first, minlength=labels.classes)
    binned = pixels.binned()
    off = pixels.sum / max(pixels.count, 1)
    return Profile(
        rows=int(classes.sum()),
        first=labels.first,
        labels=tuple(classes.tolist()),
        low=binned.low,
        high=binned.high,
        pixels=tuple(binned.inside.tolist()),
        below=binned.below,
        above=binned.above,
        mean=pixels.origin + off,
        std=max(0.0, pixels.squares / max(pixels.count, 1) - off**2) ** 0.5,
    )


class _Binned(NamedTuple):
    low: float
    high: float
    inside: NDArray[np.int64]
    below: int
    above: int


class _Values:
    """Pixels in bins, their number, their sum and that of their squares, batch by batch.

    Sums are of differences from one of the pixels: of numbers that are large beside their spread, squares would cancel.
    """

    def __init__(self, edges: tuple[float, float] | None) -> None:
        self._edges, self._bins = edges, np.zeros(PIXEL_BINS, np.int64)
        self._below = self._above = 0
        self.count, self.sum, self.squares, self.origin = 0, 0.0, 0.0, 0.0

    def add(self, values: NDArray[Any]) -> None:
        self._edges = self._edges or _edges(values)
        self.origin = self.origin if self.count else float(values[0])
        wide, (low, high) = values.astype(np.float64), self._edges
        self._bins += np.histogram(wide, PIXEL_BINS, self._edges)[0]
        self._below += int((wide < low).sum())
        self._above += int((wide > high).sum())
        self.count += values.size
        wide -= self.origin
        self.sum += float(wide.sum())
        self.squares += float(wide @ wide)

    def binned(self) -> _Binned:
        return _Binned(*(self._edges or BYTES), self._bins, self._below, self._above)


class _Bytes(_Values):
    """The same of bytes, of which each value is counted: in wide bins a set of few shades would lie in one."""

    def __init__(self, edges: tuple[float, float] | None) -> None:
        super().__init__(edges)
        self._each = np.zeros(256, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        each, numbers = np.bincount(values, minlength=256), np.arange(256.0)
        self._each += each
        self.count += values.size
        self.sum += float(each @ numbers)
        self.squares += float(each @ numbers**2)

    def binned(self) -> _Binned:
        most = int(np.flatnonzero(self._each).max(initial=0))
        low, high = self._edges or (0.0, float(max(PIXEL_BINS, 1 << most.bit_length())))
        values = np.arange(256.0)
        inside = np.histogram(values, PIXEL_BINS, (low, high), weights=self._each)[0]
        below, above = (int(self._each[outside].sum()) for outside in (values < low, values > high))
        return _Binned(low, high, inside, below, above)


def _edges(values: NDArray[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high - low <= 2 * PIXEL_BINS * np.spacing(max(abs(low), abs(high))):  # one value, or nearly: no room for bins
        high = low + (abs(low) or 1.0)
    return low, high


def confidence_on(store: Store, table: Table, reshape: Reshape, run: Path, learned: Learned) -> tuple[int, ...] | None:
    """How sure a model is of its answers to some 2,000 images of a table that it has not learned from, evenly spaced.

    Args:
        store: Where the table is.
        table: Images of the form that the model knows.
        reshape: How the model reads them.
        run: Folder of the model.
        learned: What it has learned from: of these it is surer than of others like them.

    Returns:
        Counts of the highest probability in each tenth; None where images are no whole number of sequences, where the
        model learned to read them otherwise, where it knows an image of every sequence, or may know any.
    """
    from tasks.network import Answerer, load

    group = reshape.images_per_sequence
    sequences, rest = divmod(table.table.rows, group)
    if rest or not learned.whole or objection_to_input(run, reshape):
        return None
    new = np.flatnonzero(~learned.among(digests_of(store, table.table)).reshape(sequences, group).any(axis=1))
    if not len(new):
        return None
    asked, start = new[:: max(1, len(new) * group // ASKED)], 0
    counts = np.zeros(CONFIDENCE_BINS, np.int64)
    answerer = Answerer(load(run / MODEL_FILE))
    chosen: list[NDArray[Any]] = []
    for x, _ in sequences_of(store, table, reshape, answerer.batch):
        chosen.append(x[asked[(asked >= start) & (asked < start + len(x))] - start])
        start += len(x)
    for p in answerer.answers(np.concatenate(chosen)):
        counts += np.histogram(np.clip(p.max(-1), 0, 1), CONFIDENCE_BINS, (0, 1))[0]
    return tuple(counts.tolist())
