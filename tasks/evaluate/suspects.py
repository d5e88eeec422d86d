"""Samples whose written label may be wrong, by confident learning (schemas/metrics, `Suspects`, names the source).

Two passes over the answers, since a class's threshold is a mean over all of them: the first while they are made, the
second over what was written. Memory does not grow with their number. Not here: whether a label is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.metrics import Suspect, Suspects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_ONE: Final = 2**32  # fixed point, so that the order of the samples shows in no digit


class SelfConfidence:
    """The mean probability of each class over the samples labelled so."""

    def __init__(self, classes: int) -> None:
        self._sums = np.zeros((classes, 2), np.int64)  # samples, fixed-point probability

    def add(self, labels: NDArray[np.integer], p: NDArray[np.floating]) -> None:
        """Add answers (n, C) to samples of these class indices (n,)."""
        of_label = np.clip(p[np.arange(len(p)), labels].astype(np.float64), 0, 1)
        fixed = np.rint(of_label * _ONE).astype(np.int64)
        np.add.at(self._sums, labels.astype(np.intp), np.column_stack([np.ones_like(fixed), fixed]))

    def thresholds(self) -> tuple[float | None, ...]:
        """Of each class; None where it has no samples."""
        return tuple(total / (count * _ONE) if count else None for count, total in self._sums.tolist())


def suspects_among(
    batches: Iterable[tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.floating]]],
    thresholds: tuple[float | None, ...],
    *,
    first: int = 0,
    most: int = 24,
) -> Suspects:
    """Find the samples whose label may be wrong.

    Args:
        batches: Rows in their file (n,), class indices (n,) and answers (n, C), in order.
        thresholds: As `SelfConfidence.thresholds` gives them.
        first: Label of the class with index 0.
        most: How many to keep.
    """
    least = np.array([np.inf if threshold is None else threshold for threshold in thresholds])
    count, kept = 0, list[Suspect]()
    for index, labels, p in batches:
        found = [
            Suspect(
                index=int(index[row]),
                label=int(labels[row]) + first,
                suggested=suggested + first,
                probability_of_label=float(np.clip(p[row, labels[row]], 0, 1)),
                probability_of_suggested=float(np.clip(p[row, suggested], 0, 1)),
            )
            for row, suggested in _doubted(labels, p, least)
        ]
        count += len(found)
        kept = sorted([*kept, *found], key=_doubt)[:most]
    return Suspects(count=count, thresholds=thresholds, worst=tuple(kept))


def _doubted(
    labels: NDArray[np.integer], p: NDArray[np.floating], least: NDArray[np.float64]
) -> Iterator[tuple[int, int]]:
    """Rows that are answered wrong and where another class reaches its threshold, with the most probable such class."""
    reached = np.where(p >= least, p, -1.0)
    suggested = reached.argmax(axis=1)
    sure = reached.max(axis=1) >= 0
    wrong = p.argmax(axis=1) != labels
    rows = np.flatnonzero(sure & wrong & (suggested != labels))
    yield from zip(rows.tolist(), suggested[rows].tolist(), strict=True)


def _doubt(suspect: Suspect) -> tuple[float, int]:
    return suspect.probability_of_label - suspect.probability_of_suggested, suspect.index
