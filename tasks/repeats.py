"""Images that are there more than once: within a split, and in both. A foundation that validate calls in its one pass.

Rows are told apart by 16 bytes of SHA-256 over their pixels, so that 20 bytes a row stay in memory and no image does.
They are compared in parts by four bits of the digests, which equal rows share, so that what comparing needs is held for
one part alone. Not here: what it means for a model (the report says it).
"""

from __future__ import annotations

import hashlib
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.receipt import Pair, Repeated

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

MOST_PAIRS: Final = 8
_BYTES: Final = 16
_PARTS: Final = 16


class Images:
    """The digests and labels of a split's rows, in their order."""

    def __init__(self) -> None:
        self._digests, self._labels = bytearray(), bytearray()

    def add(self, pixels: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Add consecutive rows: pixels (n, bytes of an image), labels (n,)."""
        self._digests += b"".join([hashlib.sha256(row).digest()[:_BYTES] for row in pixels])
        self._labels += labels.tobytes()

    @property
    def digests(self) -> NDArray[np.uint64]:
        """(N, 2) halves of each row's digest."""
        return np.frombuffer(self._digests, np.uint64).reshape(-1, 2)

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) labels."""
        return np.frombuffer(self._labels, np.int32)


def repeated(train: Images, test: Images) -> tuple[Repeated, ...]:
    """What is repeated between the splits and within each."""
    rows = len(train.digests)
    first, again = repeats(train.digests, test.digests)
    in_train, leaked = again < rows, (first < rows) & (again >= rows)
    return (
        _told("test in train", len(test.digests), (first[leaked], again[leaked] - rows), train.labels, test.labels),
        _told("within train", rows, (first[in_train], again[in_train]), train.labels, train.labels),
        _told("within test", len(test.digests), repeats(test.digests), test.labels, test.labels),
    )


def repeats(*splits: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows of (N, 2) digests that equal one before them, after the first row that each equals: (first, again).

    Ascending by the row that repeats. Rows are numbered through all splits, one after the other.
    """
    begins = list(accumulate(map(len, splits), initial=0))
    found = []
    for part in range(_PARTS):
        inside = [np.flatnonzero(split.view(np.uint8)[:, 0] % _PARTS == part) for split in splits]
        rows = np.concatenate([each + begin for each, begin in zip(inside, begins, strict=False)])
        digests = np.concatenate([split[each] for split, each in zip(splits, inside, strict=True)])
        first = rows[_first_rows(digests)]
        found.append(np.stack([first, rows])[:, first != rows])
    first, again = np.concatenate(found, axis=1)
    order = np.argsort(again)
    return first[order], again[order]


def _first_rows(digests: NDArray[np.uint64]) -> NDArray[np.intp]:
    """For each row of (N, 2), the first row that equals it; its own number where none does before it."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal rows keep their order
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.intp)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


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
