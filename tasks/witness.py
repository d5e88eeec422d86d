"""The witness: recomputes from the raw IDX bytes what every sequence and target must be, and compares digests.

It shares no code with reshape on purpose (the import layers are checked): a mistake there cannot repeat here. Where the
digests differ, it finds the first row that is wrong and says what probably happened to it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import DataError
from tasks.idx import open_idx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Table
    from schemas.receipt import Labels
    from tasks.store import Store

BATCH = 4096


def prove(store: Store, table: Table, settings: Reshape, labels: Labels, x: Path, targets: Path) -> str:
    """Compare both arrays, read back from disk, with what the raw IDX files say.

    Returns:
        One sentence for the receipt: what was recomputed and compared.

    Raises:
        DataError: a row is not the one that belongs there; which, and what probably happened.
    """
    written_x = np.load(x, mmap_mode="r", allow_pickle=False)
    written_targets = np.load(targets, mmap_mode="r", allow_pickle=False).reshape(-1)
    images = store.open(table.images.idx, table.images.name)
    answers = store.open(table.labels.idx, table.labels.name)
    _compare(f"reshape, {table.split} images", written_x, lambda: _expected_images(images, settings, len(written_x)))
    _compare(
        f"reshape, {table.split} targets",
        written_targets,
        lambda: _expected_targets(answers, labels.first, len(written_targets)),
    )
    return (
        f"{len(written_x):,} images and {len(written_targets):,} labels recomputed from the raw IDX bytes, "
        "SHA-256 of both arrays equal"
    )


def _expected_images(path: Path, settings: Reshape, keep: int) -> Iterator[NDArray[Any]]:
    with open_idx(path, digest_items=False) as reader:
        rows, columns = reader.header.item_shape[0], int(np.prod(reader.header.item_shape[1:]))
        order = _positions(settings, rows, columns)
        for batch in _first(reader.batches(BATCH), keep):
            flat = batch.reshape(len(batch), rows * columns)
            yield flat if order is None else np.stack([flat[:, position] for position in order], axis=1)


def _positions(settings: Reshape, rows: int, columns: int) -> list[int] | None:
    """The scan written out position by position; None for the order in which images are stored."""
    if settings.scan == "rows":
        return None
    if settings.scan == "columns":
        return [row * columns + column for column in range(columns) for row in range(rows)]
    generator = np.random.PCG64(settings.scan_seed)
    draws = [int(generator.random_raw()) for _ in range(rows * columns)]
    return sorted(range(rows * columns), key=draws.__getitem__)


def _expected_targets(path: Path, first: int, keep: int) -> Iterator[NDArray[Any]]:
    with open_idx(path, digest_items=False) as reader:
        for batch in _first(reader.batches(BATCH), keep):
            classes = batch if batch.ndim == 1 else batch[:, 0]
            yield (classes.astype(np.int64) - first).astype("<i4")


def _first(batches: Iterator[NDArray[Any]], keep: int) -> Iterator[NDArray[Any]]:
    """The first rows of all batches; reads on to the end, so that the file itself is checked whole."""
    for batch in batches:
        if keep > 0:
            yield batch[:keep]
        keep -= len(batch)


def _compare(what: str, written: NDArray[Any], expected: Any) -> None:  # noqa: ANN401 - a factory of batches
    digest, rows = hashlib.sha256(), 0
    for batch in expected():
        digest.update(np.ascontiguousarray(batch).data)
        rows += len(batch)
    if rows == len(written) and digest.digest() == hashlib.sha256(np.ascontiguousarray(written).data).digest():
        return
    raise _misplaced(what, written, np.concatenate(list(expected())))


def _misplaced(what: str, written: NDArray[Any], expected: NDArray[Any]) -> DataError:
    """The error for arrays that differ: the first wrong row, how many, and what probably happened."""
    n = min(len(written), len(expected))
    wrong = np.flatnonzero((written[:n] != expected[:n]).reshape(n, -1).any(axis=1))
    place = f"row {wrong[0]:,} is the first of {len(wrong):,} wrong ones" if len(wrong) else "their numbers differ"
    return DataError(
        f"{what}: {place} ({len(written):,} written, {len(expected):,} in the IDX file)",
        "every row in its place, as in the raw IDX bytes",
        f"{_what_happened(written, expected)}. Nothing was trained",
    )


def _what_happened(written: NDArray[Any], expected: NDArray[Any]) -> str:
    if len(written) != len(expected):
        return "Probably rows were lost or repeated"
    for shift in (1, -1):
        if np.array_equal(np.roll(expected, shift, axis=0)[1:-1], written[1:-1]):
            return f"Probably all rows were shifted by one ({'down' if shift == 1 else 'up'})"
    if np.array_equal(expected[::-1], written):
        return "Probably the order of the rows was reversed"
    if sorted(_row_digests(written)) == sorted(_row_digests(expected)):
        return "Probably the rows were permuted: the same rows stand in another order"
    return "Probably the content of rows was changed"


def _row_digests(array: NDArray[Any]) -> list[bytes]:
    return [hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in array]
