"""The witness: recomputes from the raw IDX bytes what every sequence and target must be, and compares digests.

It shares no code with reshape on purpose (the import layers are checked): a mistake there cannot repeat here. Where the
digests differ, it finds the first row that is wrong and says what probably happened to it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from schemas.errors import DataError
from tasks.idx import open_idx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    images = store.open(table.images.idx, table.images.name)
    answers = store.open(table.labels.idx, table.labels.name)
    pixels = _compare(f"reshape, {table.split} images", x, lambda: _expected_images(images, settings))
    classes = _compare(
        f"reshape, {table.split} targets",
        targets,
        lambda: _expected_targets(answers, settings, labels.first, table.label_column),
    )
    return f"{pixels:,} images and {classes:,} labels recomputed from the raw IDX bytes, SHA-256 of both arrays equal"


def _expected_images(path: Path, settings: Reshape) -> Iterator[NDArray[Any]]:
    with open_idx(path) as reader:
        rows, columns = reader.header.item_shape[0], int(np.prod(reader.header.item_shape[1:]))
        order = _positions(settings, rows, columns)
        for batch in _first(reader.batches(BATCH), _kept(settings, reader.header.items)):
            flat = batch.reshape(len(batch), rows * columns)
            if order is None:
                yield flat
                continue
            taken = np.empty_like(flat)
            for step, position in enumerate(order):
                taken[:, step] = flat[:, position]
            yield taken


def _positions(settings: Reshape, rows: int, columns: int) -> list[int] | None:
    """The scan written out position by position; None for the order in which images are stored."""
    if settings.scan == "rows":
        return None
    if settings.scan == "columns":
        return [row * columns + column for column in range(columns) for row in range(rows)]
    generator = np.random.PCG64(settings.scan_seed)
    draws = [int(generator.random_raw()) for _ in range(rows * columns)]
    return sorted(range(rows * columns), key=draws.__getitem__)


def _expected_targets(path: Path, settings: Reshape, first: int, column: int | None) -> Iterator[NDArray[Any]]:
    with open_idx(path) as reader:
        for batch in _first(reader.batches(BATCH), _kept(settings, reader.header.items)):
            classes = batch if column is None else batch[:, column]
            yield (classes.astype(np.int64) - first).astype("<i4")


def _kept(settings: Reshape, items: int) -> int:
    """Items that fill whole sequences."""
    return items if settings.layout == "pixels" else items - items % settings.timesteps


def _first(batches: Iterator[NDArray[Any]], keep: int) -> Iterator[NDArray[Any]]:
    """The first rows of all batches; reads on to the end, so that the file itself is checked whole."""
    for batch in batches:
        if keep > 0:
            yield batch[:keep]
        keep -= len(batch)


def _compare(what: str, written: Path, expected: Callable[[], Iterator[NDArray[Any]]]) -> int:
    """The number of rows, once a .npy file's type and bytes are the expected ones; memory is bounded by a batch."""
    digest, rows, types = hashlib.sha256(), 0, set[str]()
    for batch in expected():
        digest.update(np.ascontiguousarray(batch).data)
        rows += len(batch)
        types.add(batch.dtype.str)
    with written.open("rb") as file:
        found = _npy_type(file)
        same = hashlib.file_digest(file, "sha256").digest() == digest.digest()
    if not same:
        raise _misplaced(what, *_row_digests(written, expected()))
    if not types <= {found}:
        raise DataError(
            f"{what}: the bytes are right but stand under the type {found}",
            f"type {', '.join(types)}",
            "Rerun reshape. Nothing was trained",
        )
    return rows


def _npy_type(file: BinaryIO) -> str:
    """Read a .npy file's header: the file stands at the first element then."""
    np.lib.format.read_magic(file)
    _, _, dtype = np.lib.format.read_array_header_1_0(file)
    return str(dtype.str)


def _row_digests(written: Path, expected: Iterator[NDArray[Any]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Eight bytes for every row written and every row expected: enough to tell rows apart, whatever their number."""
    there, meant = list[bytes](), list[bytes]()
    size = 1
    for batch in expected:
        size = batch.nbytes // len(batch)
        meant += [_row_digest(row.tobytes()) for row in batch]
    with written.open("rb") as file:
        _npy_type(file)
        there += [_row_digest(row) for row in iter(lambda: file.read(size), b"")]
    return np.frombuffer(b"".join(there), np.uint64), np.frombuffer(b"".join(meant), np.uint64)


def _row_digest(row: bytes) -> bytes:
    return hashlib.blake2b(row, digest_size=8).digest()


def _misplaced(what: str, written: NDArray[np.uint64], expected: NDArray[np.uint64]) -> DataError:
    """The error for rows that differ: the first wrong one, how many, and what probably happened."""
    n = min(len(written), len(expected))
    wrong = np.flatnonzero(written[:n] != expected[:n])
    place = f"row {wrong[0]:,} is the first of {len(wrong):,} wrong ones" if len(wrong) else "their numbers differ"
    return DataError(
        f"{what}: {place} ({len(written):,} written, {len(expected):,} in the IDX file)",
        "every row in its place, as in the raw IDX bytes",
        f"{_what_happened(written, expected)}. Nothing was trained",
    )


def _what_happened(written: NDArray[np.uint64], expected: NDArray[np.uint64]) -> str:
    if len(written) != len(expected):
        return "Probably rows were lost or repeated"
    long = len(written) > 2  # or the middle that a shift keeps is empty
    guesses = (
        (long and np.array_equal(expected[:-2], written[1:-1]), "Probably all rows were shifted by one (down)"),
        (long and np.array_equal(expected[2:], written[1:-1]), "Probably all rows were shifted by one (up)"),
        (np.array_equal(expected[::-1], written), "Probably the order of the rows was reversed"),
        (
            np.array_equal(np.sort(written), np.sort(expected)),
            "Probably the rows were permuted: the same rows stand in another order",
        ),
        (np.isin(written, expected).all(), "Probably rows were lost and others stand in their place"),
    )
    return next((text for fits, text in guesses if fits), "Probably the content of rows was changed")
