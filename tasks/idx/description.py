"""What an IDX file holds, for a person who asks: type, shape, digests, the values' range, labels and their counts.

Here: one streaming pass that collects this. Not here: how it is printed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from tasks.idx.container import open_regular
from tasks.idx.reader import DEFAULT_LIMITS, open_idx

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tasks.idx.container import Kind, Limits
    from tasks.idx.header import IdxHeader

Guess = Literal["images", "labels", "other"]
MOST_LABELS: Final = 1000
_BATCH_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Description:
    """What an IDX file holds.

    Attributes:
        container: ``raw``, ``gzip``, ``xz`` or ``zip``.
        dtype: Element type by NumPy's name, as ``uint8``.
        shape: Number of items, then the shape of one.
        items: Number of items.
        payload_bytes: Bytes after the header.
        payload_sha256: SHA-256 of the decompressed file, header included.
        container_sha256: SHA-256 of the file as it lies on the disk.
        minimum: Least value, NaN and infinities left out; None where there is no value.
        maximum: Greatest value, likewise.
        mean: Mean of the values, likewise; None also where their sum leaves the range of float64.
        not_finite: Number of NaN and infinite values.
        guess: What it probably is.
        label_counts: How often each value occurs, for integers of rank 1 with at most `MOST_LABELS` different ones.
    """

    container: Kind
    dtype: str
    shape: tuple[int, ...]
    items: int
    payload_bytes: int
    payload_sha256: str
    container_sha256: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    not_finite: int
    guess: Guess
    label_counts: dict[int, int] | None


def describe(path: Path, member: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Description:
    """Read a whole IDX file, a batch at a time, and say what it holds.

    Raises:
        DataError: It is anything but an IDX file; the error says what it looks like instead.
    """
    with open_idx(path, member=member, limits=limits) as reader:
        header = reader.header
        values = _Values(counting=len(header.shape) == 1 and header.dtype.kind in "iu")
        for batch in reader.batches(max(1, _BATCH_BYTES // header.item_bytes)):
            values.add(batch)
        payload_sha256, container = reader.payload_sha256(), reader.container
    return Description(
        container=container,
        dtype=header.dtype.name,
        shape=header.shape,
        items=header.items,
        payload_bytes=header.payload_bytes,
        payload_sha256=payload_sha256,
        container_sha256=payload_sha256 if container == "raw" else _file_sha256(path),
        minimum=values.minimum,
        maximum=values.maximum,
        mean=values.mean(),
        not_finite=values.not_finite,
        guess=_guess(header),
        label_counts=None if values.counts is None else dict(sorted(values.counts.items())),
    )


class _Values:
    """Range, sum and label counts of what has been added; integers exactly."""

    def __init__(self, *, counting: bool) -> None:
        self.minimum: float | None = None
        self.maximum: float | None = None
        self.total: float = 0
        self.count = 0
        self.not_finite = 0
        self.counts: dict[int, int] | None = {} if counting else None

    def add(self, batch: NDArray[Any]) -> None:
        if batch.dtype.kind == "f":
            finite = batch[np.isfinite(batch)].astype(np.float64)
            self.not_finite += batch.size - finite.size
            batch = finite
        if not batch.size:
            return
        low, high = batch.min().item(), batch.max().item()
        self.minimum = low if self.minimum is None else min(low, self.minimum)
        self.maximum = high if self.maximum is None else max(high, self.maximum)
        with np.errstate(over="ignore", invalid="ignore"):  # the sum of huge floats may leave the range
            self.total += batch.sum(dtype=np.float64 if batch.dtype.kind == "f" else np.int64).item()
        self.count += batch.size
        if self.counts is not None:
            self._count(batch)

    def mean(self) -> float | None:
        return self.total / self.count if self.count and math.isfinite(self.total) else None

    def _count(self, labels: NDArray[Any]) -> None:
        counts = dict(self.counts or {})
        values, times = np.unique(labels, return_counts=True)
        for value, number in zip(values.tolist(), times.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
        self.counts = counts if len(counts) <= MOST_LABELS else None


def _guess(header: IdxHeader) -> Guess:
    """Guess from type and rank: bytes of rank 2 are flattened images, other numbers of rank 2 a table."""
    rank = len(header.shape)
    if rank == 1:
        return "labels" if header.dtype.kind in "iu" else "other"
    return "images" if rank > 2 or header.dtype == np.uint8 else "other"


def _file_sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
