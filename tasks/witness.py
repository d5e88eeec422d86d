"""The witness: recomputes from the raw IDX bytes what every sequence and target must be, and compares digests.

It shares no code with reshape on purpose (the import layers are checked): a mistake there cannot repeat here. Where the
digests differ, it finds the first row that is wrong and says what probably happened to it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from schemas.errors import BadRecord, DataError
from tasks.idx import open_idx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Labels, Split, Table
    from tasks.store import Store

BATCH = 4096
FIRST_ROWS = 5


@dataclass(frozen=True)
class _Side:
    """One array of a split, and what the raw IDX bytes say that it must be.

    Attributes:
        name: "images" or "targets".
        split: The split's name.
        written: The .npy file.
        expected: Its rows again, in batches.
        told: A row as a person would say it, from its bytes and where the IDX file has it, if it does.
        pictures: The images (rows, columns) that belong to these rows, given what was written there.
    """

    name: str
    split: Split
    written: Path
    expected: Callable[[], Iterator[NDArray[Any]]]
    told: Callable[[bytes, int | None], str]
    pictures: Callable[[dict[int, bytes]], dict[int, NDArray[np.uint8]]]

    @property
    def what(self) -> str:
        """What messages call it."""
        return f"reshape, {self.split} {self.name}"


def prove(store: Store, table: Table, settings: Reshape, labels: Labels, x: Path, targets: Path) -> str:
    """Compare both arrays, read back from disk, with what the raw IDX files say.

    Returns:
        One sentence for the receipt: what was recomputed and compared.

    Raises:
        DataError: a row is not the one that belongs there; which, and what probably happened.
    """
    pixels, classes = map(_compare, _sides(store, table, settings, labels, x, targets))
    return f"{pixels:,} images and {classes:,} labels recomputed from the raw IDX bytes, SHA-256 of both arrays equal"


def wrong_rows(
    store: Store, table: Table, settings: Reshape, labels: Labels, x: Path, targets: Path
) -> list[BadRecord]:
    """The first rows of both arrays that are not as the raw IDX files say, where it is known that counts disagree."""
    sides = _sides(store, table, settings, labels, x, targets)
    return [record for side in sides for record in _records(side, *_row_digests(side.written, side.expected()))]


def _sides(
    store: Store, table: Table, settings: Reshape, labels: Labels, x: Path, targets: Path
) -> tuple[_Side, _Side]:
    images = store.open(table.images.idx, table.images.name)
    answers = store.open(table.labels.idx, table.labels.name)
    shape = table.table.shape[1:]
    shown = _grid(shape)[2] == 1 and table.table.dtype == "|u1"
    return (
        _Side(
            "images",
            table.split,
            x,
            lambda: _expected_images(images, settings),
            lambda _, place: "an image that is not in the IDX file" if place is None else f"the image of row {place}",
            lambda rows: _unscanned(rows, settings, shape) if shown else {},
        ),
        _Side(
            "targets",
            table.split,
            targets,
            lambda: _expected_targets(answers, settings, labels.first, table.label_column),
            lambda row, _: f"label {int.from_bytes(row, 'little', signed=True) + labels.first}",
            lambda rows: _stored(images, rows) if shown else {},
        ),
    )


def _expected_images(path: Path, settings: Reshape) -> Iterator[NDArray[Any]]:
    with open_idx(path) as reader:
        order = _positions(settings, reader.header.item_shape)
        for batch in _first(reader.batches(BATCH), _kept(settings, reader.header.items)):
            flat = batch.reshape(len(batch), math.prod(reader.header.item_shape))
            if order is None:
                yield flat
                continue
            taken = np.empty_like(flat)
            for step, position in enumerate(order):
                taken[:, step] = flat[:, position]
            yield taken


def _positions(settings: Reshape, item: tuple[int, ...]) -> list[int] | None:
    """The scan written out position by position; None for the order in which images are stored."""
    if settings.scan == "rows":
        return None
    if settings.scan == "columns":
        rows, columns, values = _grid(item)
        return [
            (row * columns + column) * values + value
            for column in range(columns)
            for row in range(rows)
            for value in range(values)
        ]
    generator = np.random.PCG64(settings.scan_seed)
    draws = [int(generator.random_raw()) for _ in range(math.prod(item))]
    return sorted(range(len(draws)), key=draws.__getitem__)


def _grid(item: tuple[int, ...]) -> tuple[int, int, int]:
    """Rows, columns and values of a pixel: the rule of the configuration, written out once more."""
    values = 1
    sides = [side for side in item if side != 1]
    if len(sides) >= 3 and sides[-1] < 5:
        *sides, values = sides
    if len(sides) >= 2:
        *above, columns = sides
        return math.prod(above), columns, values
    pixels = math.prod(sides)
    rows = next(side for side in range(math.isqrt(pixels), 0, -1) if pixels % side == 0)
    return rows, pixels // rows, values


def _expected_targets(path: Path, settings: Reshape, first: int, column: int | None) -> Iterator[NDArray[Any]]:
    with open_idx(path) as reader:
        for batch in _first(reader.batches(BATCH), _kept(settings, reader.header.items)):
            classes = batch if column is None else batch[:, column]
            yield (classes.astype(np.int64) - first).astype("<i4")


def _kept(settings: Reshape, items: int) -> int:
    """Items that fill whole sequences."""
    return items - items % settings.images_per_sequence


def _first(batches: Iterator[NDArray[Any]], keep: int) -> Iterator[NDArray[Any]]:
    """The first rows of all batches; reads on to the end, so that the file itself is checked whole."""
    for batch in batches:
        if keep > 0:
            yield batch[:keep]
        keep -= len(batch)


def _compare(side: _Side) -> int:
    """The number of rows, once a .npy file's type and bytes are the expected ones; memory is bounded by a batch."""
    digest, rows, types = hashlib.sha256(), 0, set[str]()
    for batch in side.expected():
        digest.update(np.ascontiguousarray(batch).data)
        rows += len(batch)
        types.add(batch.dtype.str)
    with side.written.open("rb") as file:
        found = _npy_type(file)
        same = hashlib.file_digest(file, "sha256").digest() == digest.digest()
    if not same:
        raise _misplaced(side)
    if not types <= {found}:
        raise DataError(
            f"{side.what}: the bytes are right but stand under the type {found}",
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


def _misplaced(side: _Side) -> DataError:
    """The error for rows that differ: the first wrong ones, how many, and what probably happened."""
    written, expected = _row_digests(side.written, side.expected())
    n = min(len(written), len(expected))
    wrong = np.flatnonzero(written[:n] != expected[:n])
    place = f"row {wrong[0]:,} is the first of {len(wrong):,} wrong ones" if len(wrong) else "their numbers differ"
    return DataError(
        f"{side.what}: {place} ({len(written):,} written, {len(expected):,} in the IDX file)",
        "every row in its place, as in the raw IDX bytes",
        f"{_what_happened(written, expected)}. Nothing was trained",
        records=_records(side, written, expected),
    )


def _records(side: _Side, written: NDArray[np.uint64], expected: NDArray[np.uint64]) -> list[BadRecord]:
    """The first rows that are wrong, lost at the end or too many, each with its image."""
    n = min(len(written), len(expected))
    differing = np.flatnonzero(written[:n] != expected[:n])[:FIRST_ROWS].tolist()
    rows = [*differing, *range(n, max(len(written), len(expected)))][:FIRST_ROWS]
    if not rows:
        return []
    there, meant = _rows_written(side, rows), _rows_expected(side, rows)
    pictures = side.pictures(there)
    return [
        BadRecord(
            f"{side.name} of the {side.split} split",
            row,
            side.told(there[row], _place(written, expected, row)) if row in there else "nothing",
            f"expected {side.told(meant[row], row) if row in meant else 'nothing'}",
            pictures.get(row),
        )
        for row in rows
    ]


def _place(written: NDArray[np.uint64], expected: NDArray[np.uint64], row: int) -> int | None:
    """Where in the IDX file the row that was written stands."""
    places = np.flatnonzero(expected == written[row]).tolist() if row < len(written) else []
    return places[0] if places else None


def _rows_written(side: _Side, rows: list[int]) -> dict[int, bytes]:
    size = next(batch.nbytes // len(batch) for batch in side.expected())
    found = {}
    with side.written.open("rb") as file:
        _npy_type(file)
        start = file.tell()
        for row in rows:
            file.seek(start + row * size)
            found[row] = file.read(size)
    return {row: content for row, content in found.items() if len(content) == size}


def _rows_expected(side: _Side, rows: list[int]) -> dict[int, bytes]:
    return {row: content.tobytes() for row, content in _taken(side.expected(), rows).items()}


def _taken(batches: Iterator[NDArray[Any]], rows: list[int]) -> dict[int, NDArray[Any]]:
    """These rows of all batches, as far as there are so many."""
    taken: dict[int, NDArray[Any]] = {}
    start = 0
    for batch in batches:
        taken |= {row: batch[row - start].copy() for row in rows if start <= row < start + len(batch)}
        start += len(batch)
    return taken


def _unscanned(rows: dict[int, bytes], settings: Reshape, shape: tuple[int, ...]) -> dict[int, NDArray[np.uint8]]:
    """Rows of pixels in scan order as the images they were taken from."""
    order = _positions(settings, shape) or list(range(math.prod(shape)))
    images = {row: np.empty(len(order), np.uint8) for row in rows}
    for row, image in images.items():
        image[order] = np.frombuffer(rows[row], np.uint8)
    return {row: image.reshape(_grid(shape)[:2]) for row, image in images.items()}


def _stored(path: Path, rows: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    """Images as the IDX file stores them, in rows and columns."""
    with open_idx(path) as reader:
        sides = _grid(reader.header.item_shape)[:2]
        return {row: image.reshape(sides) for row, image in _taken(reader.batches(BATCH), [*rows]).items()}


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
