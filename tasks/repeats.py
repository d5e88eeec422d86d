"""Images that are there more than once: within a split, and in both. A foundation that validate calls in its one pass.

Rows are told apart by 16 bytes of SHA-256 over their pixels, so that 20 bytes a row stay in memory and no image does.
Not here: what it means for a model (the report says it).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.receipt import Pair, Repeated

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

MOST_PAIRS: Final = 8
_BYTES: Final = 16


class Images:
    """The digests and labels of a split's rows, in their order."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._labels: list[NDArray[np.int32]] = []

    def add(self, pixels: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Add consecutive rows: pixels (n, bytes of an image), labels (n,)."""
        self._digests.append(b"".join([hashlib.sha256(row).digest()[:_BYTES] for row in pixels]))
        self._labels.append(labels.copy())

    @property
    def digests(self) -> NDArray[np.uint64]:
        """(N, 2) halves of each row's digest."""
        return np.frombuffer(b"".join(self._digests), np.uint64).reshape(-1, 2)

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) labels."""
        return np.concatenate([np.empty(0, np.int32), *self._labels])


def repeated(train: Images, test: Images) -> tuple[Repeated, ...]:
    """What is repeated between the splits and within each."""
    of_train, of_test = train.digests, test.digests
    first = first_rows(np.concatenate([of_train, of_test]))[len(of_train) :]
    seen = np.flatnonzero(first < len(of_train))
    return (
        _told("test in train", len(of_test), (first[seen], seen), train.labels, test.labels),
        _within("within train", of_train, train.labels),
        _within("within test", of_test, test.labels),
    )


def first_rows(digests: NDArray[np.uint64]) -> NDArray[np.intp]:
    """For each row of (N, 2), the first row that equals it; its own number where none does before it."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal rows keep their order
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.intp)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def _within(
    where: Literal["within train", "within test"], digests: NDArray[np.uint64], labels: NDArray[np.int32]
) -> Repeated:
    first = first_rows(digests)
    again = np.flatnonzero(first != np.arange(len(first)))
    return _told(where, len(first), (first[again], again), labels, labels)


def _told(
    where: Literal["test in train", "within train", "within test"],
    of: int,
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    first_labels: NDArray[np.int32],
    second_labels: NDArray[np.int32],
) -> Repeated:
    pairs = [
        Pair(first=first, second=second, first_label=int(first_labels[first]), second_label=int(second_labels[second]))
        for first, second in zip(*(side[:MOST_PAIRS].tolist() for side in rows), strict=True)
    ]
    disagreeing = int(np.count_nonzero(first_labels[rows[0]] != second_labels[rows[1]]))
    return Repeated(where=where, rows=len(rows[0]), of=of, disagreeing=disagreeing, pairs=tuple(pairs))
