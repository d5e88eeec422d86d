"""Accuracy by properties of an image: how much ink, how long the blank tail, which half of the file.

Sums are kept in histograms of a fixed size, so that memory does not grow with the number of samples. Not here: what
each property is (schemas/metrics says it), the intervals (metrics).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.metrics import Slice, Slicing
from tasks.proportions import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BINS: Final = 1 << 18  # 28 × 28 bytes have at most 199,920 sums of ink: each its own bin
QUARTERS: Final = ("lowest quarter", "second quarter", "third quarter", "highest quarter")
HALVES: Final = ("first half of the file", "second half of the file")
_CHUNK: Final = 4096


def images_of(x: NDArray[Any], *, every_step: bool) -> NDArray[Any]:
    """The images (n, pixels) of sequences (n, T, F), each in the order in which the network reads it.

    Args:
        x: The sequences.
        every_step: Whether each step is an image (layout frames), so that T images come of one sequence.
    """
    return x.reshape(-1, x.shape[2]) if every_step else x.reshape(len(x), -1)


def ink_of(images: NDArray[Any]) -> NDArray[Any]:
    """The sum (n,) of each image's pixels: int64 of whole numbers, float64 of others."""
    sums: NDArray[Any] = images.sum(axis=1, dtype=np.int64 if images.dtype.kind in "iu" else np.float64)
    return sums


def blank_tail_of(images: NDArray[Any]) -> NDArray[np.intp]:
    """How many pixels (n,) at the end of each image are 0; all of them where the image is blank."""
    inked = images != 0
    tail: NDArray[np.intp] = np.where(inked.any(axis=1), inked[:, ::-1].argmax(axis=1), images.shape[1])
    return tail


class Quarters:
    """Right answers by a number that each sample has, to be parted at its quartiles.

    Args:
        low: The least number that comes.
        high: The greatest.
    """

    def __init__(self, low: float, high: float, *, whole: bool) -> None:
        self._low = low
        self._width: float = -(-(int(high - low) + 1) // MOST_BINS) if whole else (high - low) / MOST_BINS or 1.0
        bins = min(int((high - low) // self._width) + 1, MOST_BINS)
        self._counts = np.zeros((bins, 2), np.int64)  # samples, right answers
        self._least, self._most = np.full(bins, np.inf), np.full(bins, -np.inf)

    def add(self, values: NDArray[Any], right: NDArray[np.bool_]) -> None:
        """Add samples: their numbers (n,) and whether each was answered right (n,)."""
        place = ((values - self._low) // self._width).astype(np.intp).clip(0, len(self._counts) - 1)
        np.add.at(self._counts, place, np.column_stack([np.ones_like(place), right]))
        np.minimum.at(self._least, place, values)
        np.maximum.at(self._most, place, values)

    def slices(self) -> tuple[Slice, ...]:
        """The quarters that hold samples. A quartile is the least value that a quarter of the samples do not exceed."""
        below = self._counts[:, 0].cumsum()
        ends = [int(np.searchsorted(4 * below, quarter * below[-1])) + 1 for quarter in (1, 2, 3)]
        edges = [0, *ends, len(below)]
        return tuple(
            self._slice(name, start, max(start, end))
            for name, start, end in zip(QUARTERS, edges[:-1], edges[1:], strict=True)
            if self._counts[start:end, 0].any()
        )

    def _slice(self, name: str, start: int, end: int) -> Slice:
        samples, correct = self._counts[start:end].sum(axis=0).tolist()
        bounds = float(self._least[start:end].min()), float(self._most[start:end].max())
        return _slice(name, samples, correct, bounds)


class Slices:
    """All slicings of the samples, batch by batch.

    Args:
        x: All sequences (N, T, F), read once for the range of ink.
        every_step: Whether each step is an image.
    """

    def __init__(self, x: NDArray[Any], *, every_step: bool) -> None:
        self._every_step = every_step
        self._whole = x.dtype.kind in "iu"
        self._ink = Quarters(*_ink_range(x, every_step=every_step), whole=self._whole)
        pixels = x.shape[2] if every_step else x.shape[1] * x.shape[2]
        self._tail = Quarters(0, pixels, whole=True)
        self._samples = len(x) * x.shape[1] if every_step else len(x)
        self._halves = np.zeros((2, 2), np.int64)

    def add(self, index: NDArray[np.int64], x: NDArray[Any], right: NDArray[np.bool_]) -> None:
        """Add a batch of sequences (b, T, F): its images' rows in the file (n,), and which were answered right (n,)."""
        images = images_of(x, every_step=self._every_step)
        self._ink.add(ink_of(images), right)
        self._tail.add(blank_tail_of(images), right)
        later = (index >= (self._samples + 1) // 2).astype(np.intp)
        np.add.at(self._halves, later, np.column_stack([np.ones_like(later), right]))

    def slicings(self) -> tuple[Slicing, ...]:
        """What everything that was added gives; what does not tell the samples apart is left out."""
        halves = zip(HALVES, self._halves.tolist(), strict=True)
        every = (
            Slicing(by="ink", slices=self._ink.slices()),
            Slicing(by="blank tail", slices=self._tail.slices()),
            Slicing(by="half", slices=tuple(_slice(name, n, right) for name, (n, right) in halves if n)),
        )
        return tuple(slicing for slicing in every if len(slicing.slices) > 1)


def _ink_range(x: NDArray[Any], *, every_step: bool) -> tuple[float, float]:
    """The least and the greatest sum of ink."""
    low, high = np.inf, -np.inf
    for start in range(0, len(x), _CHUNK):
        ink = ink_of(images_of(x[start : start + _CHUNK], every_step=every_step))
        low, high = min(low, ink.min().item()), max(high, ink.max().item())
    return low, high


def _slice(name: str, samples: int, correct: int, bounds: tuple[float, float] | None = None) -> Slice:
    lower, upper = bounds or (None, None)
    return Slice(
        name=name,
        lower=lower,
        upper=upper,
        samples=samples,
        correct=correct,
        accuracy=correct / samples,
        interval=wilson(correct, samples),
    )
