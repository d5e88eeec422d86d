"""The measures of a model's answers, in NumPy. A foundation: definitions and their sums; not here: models, files.

Sums over samples are kept as integers (counts, and fixed-point fractions of 2^-32), so that neither the order of the
samples nor the batch size shows in any digit. Memory does not grow with the number of samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from schemas.errors import DataError
from schemas.metrics import Bin, Calibration, ClassMetrics, Macro, Metrics, Mistake, NamedLoss
from tasks.proportions import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from schemas.metrics import LossName

SMALLEST_PROBABILITY = 1e-12
_ONE = 2**32  # fixed point: rounding moves a mean by at most 1.2e-10, and 7e7 samples of 27.6 nats fit 63 bits
_BATCH = 65_536
_SUM_TOLERANCE = 1e-3


def measure(
    labels: ArrayLike,
    probabilities: ArrayLike,
    names: Sequence[str],
    *,
    first: int = 0,
    bins: int = 15,
    worst: int = 24,
    loss: LossName = "cross-entropy",
) -> Metrics:
    """Measure all answers at once; see `Tally` for the parameters.

    Args:
        labels: (N,) integer class indices, 0 to C - 1.
        probabilities: (N, C) floats, the model's answer to every sample, in the order of the samples.
        names: Names of the C classes.
        first: Label of the class with index 0.
        bins: Equal-width bins of the calibration.
        worst: How many mistakes to keep.
        loss: The loss that the configuration trains with.

    Raises:
        DataError: as `Tally.add` and `Tally.metrics`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    tally = Tally(names, first=first, bins=bins, worst=worst, loss=loss)
    for start in range(0, max(len(labels), len(probabilities)), _BATCH):
        stop = start + _BATCH
        index = np.arange(start, min(stop, len(labels)))
        tally.add(index, labels[start:stop], probabilities[start:stop])
    return tally.metrics()


class Tally:
    """Running sums over batches of answers, from which every measure follows.

    Args:
        names: Names of the C classes, in the order of the class indices.
        first: Label of the class with index 0.
        bins: Equal-width bins of the calibration.
        worst: How many mistakes to keep.
        loss: The loss that the configuration trains with.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        first: int = 0,
        bins: int = 15,
        worst: int = 24,
        loss: LossName = "cross-entropy",
    ) -> None:
        self.names = tuple(names)
        self.first = first
        self.loss: LossName = loss
        self.worst = worst
        self.edges = np.arange(bins + 1) / bins
        self._confusion = np.zeros((len(names), len(names)), np.int64)
        self._bins = np.zeros((bins, 3), np.int64)  # samples, right answers, fixed-point confidence
        self._nats = 0
        self._squares = 0
        self._mistakes: list[Mistake] = []

    @property
    def samples(self) -> int:
        """Samples added so far."""
        return int(self._confusion.sum())

    def add(self, index: ArrayLike, labels: ArrayLike, probabilities: ArrayLike) -> None:
        """Add one batch.

        The answer is the class of highest probability, of equal ones the first.

        Args:
            index: (n,) rows of the samples in their file.
            labels: (n,) integer class indices, 0 to C - 1.
            probabilities: (n, C) floats; rows sum to 1.

        Raises:
            DataError: lengths differ, a label is no class index, or a row is not a probability distribution.
        """
        index, labels = np.asarray(index), np.asarray(labels)
        p = np.asarray(probabilities, np.float64)
        self._require(index, labels, p)
        p = np.clip(p, 0, 1)
        rows = np.arange(len(p))
        predicted = p.argmax(axis=1)
        confidence, of_label = p[rows, predicted], p[rows, labels]
        self._nats += _fixed_sum(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)))
        self._squares += _fixed_sum((p * p).sum(axis=1) - 2 * of_label + 1)
        np.add.at(self._confusion, (labels, predicted), 1)
        self._add_to_bins(confidence, predicted == labels)
        self._keep_worst(index, labels, predicted, confidence, of_label)

    def metrics(self) -> Metrics:
        """The measures of everything added.

        Raises:
            DataError: nothing was added.
        """
        n = self.samples
        if n == 0:
            raise DataError("there are no answers to measure", "at least one sample", "Evaluate a split with samples")
        correct = int(self._confusion.trace())
        cross_entropy = self._nats / _ONE / n
        squared = self._squares / _ONE / n / len(self.names)
        classes = self._classes()
        return Metrics(
            samples=n,
            correct=correct,
            accuracy=correct / n,
            interval=wilson(correct, n),
            loss=cross_entropy,
            configured_loss=NamedLoss(name=self.loss, value=cross_entropy if self.loss == "cross-entropy" else squared),
            classes=classes,
            macro=_macro(classes),
            confusion=tuple(tuple(row) for row in self._confusion.tolist()),
            calibration=self._calibration(),
            worst=tuple(self._mistakes),
        )

    def _require(self, index: NDArray[np.int64], labels: NDArray[np.int64], p: NDArray[np.float64]) -> None:
        n, c = len(labels), len(self.names)
        if labels.shape != (n,) or index.shape != (n,) or p.shape != (n, c):
            raise DataError(
                f"{labels.shape} labels and {index.shape} indices against answers of shape {p.shape}",
                f"({n},), ({n},) and ({n}, {c}), one answer a sample",
                "Give every sample one label and one probability a class",
            )
        if not np.issubdtype(labels.dtype, np.integer) or np.any((labels < 0) | (labels >= c)):
            raise DataError(
                "a label is not a class index", f"integers from 0 to {c - 1}", "Subtract the dataset's first label"
            )
        wrong = ~(np.isfinite(p).all(axis=1) & (np.abs(p.sum(axis=1) - 1) <= _SUM_TOLERANCE))
        wrong |= (p < -_SUM_TOLERANCE).any(axis=1)
        if wrong.any():
            raise DataError(
                f"the answer to sample {index[wrong][0]} is not a probability distribution "
                f"({int(wrong.sum()):,} of {n:,} answers are not)",
                "finite values from 0 to 1 that sum to 1",
                "Training has probably diverged: lower training.learning_rate, or set training.clip_norm",
            )

    def _add_to_bins(self, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        place = np.searchsorted(self.edges, confidence, side="left") - 1
        np.add.at(self._bins, place, np.column_stack([np.ones_like(place), right, _fixed(confidence)]))

    def _keep_worst(
        self,
        index: NDArray[np.int64],
        labels: NDArray[np.int64],
        predicted: NDArray[np.int64],
        confidence: NDArray[np.float64],
        of_label: NDArray[np.float64],
    ) -> None:
        wrong = np.flatnonzero(predicted != labels)
        worst = wrong[np.lexsort((index[wrong], of_label[wrong], -confidence[wrong]))][: self.worst]
        found = [
            Mistake(
                index=int(index[i]),
                label=int(labels[i]) + self.first,
                predicted=int(predicted[i]) + self.first,
                confidence=float(confidence[i]),
                probability_of_label=float(of_label[i]),
            )
            for i in worst
        ]
        ranked = sorted([*self._mistakes, *found], key=lambda m: (-m.confidence, m.probability_of_label, m.index))
        self._mistakes = ranked[: self.worst]

    def _classes(self) -> tuple[ClassMetrics, ...]:
        found = self._confusion.diagonal().tolist()
        support = self._confusion.sum(axis=1).tolist()
        predicted = self._confusion.sum(axis=0).tolist()
        return tuple(
            ClassMetrics(
                label=self.first + i,
                name=name,
                precision=_share(found[i], predicted[i]),
                recall=_share(found[i], support[i]),
                f1=_share(2 * found[i], support[i] + predicted[i]),
                support=support[i],
                predicted=predicted[i],
                recall_interval=wilson(found[i], support[i]) if support[i] else None,
            )
            for i, name in enumerate(self.names)
        )

    def _calibration(self) -> Calibration:
        reliability = tuple(
            Bin(
                lower=float(self.edges[i]),
                upper=float(self.edges[i + 1]),
                count=count,
                confidence=_share(confidence, count * _ONE),
                accuracy=_share(right, count),
            )
            for i, (count, right, confidence) in enumerate(self._bins.tolist())
        )
        # |right - confidence| of a bin is its gap times its count: the sums stay integers up to the last division
        gaps = [(abs(right * _ONE - confidence), count) for count, right, confidence in self._bins.tolist()]
        return Calibration(
            bins=len(reliability),
            ece=sum(gap for gap, _ in gaps) / (self.samples * _ONE),
            mce=max(gap / (count * _ONE) for gap, count in gaps if count),
            reliability=reliability,
        )


def _macro(classes: Sequence[ClassMetrics]) -> Macro:
    present = [c for c in classes if c.support]
    return Macro(
        precision=math.fsum(c.precision or 0 for c in present) / len(present),
        recall=math.fsum(c.recall or 0 for c in present) / len(present),
        f1=math.fsum(c.f1 or 0 for c in present) / len(present),
        classes=len(present),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _fixed(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(values * _ONE).astype(np.int64)


def _fixed_sum(values: NDArray[np.float64]) -> int:
    return int(_fixed(values).sum())
