"""Reading a table of samples back, in batches. A foundation: validate and reshape share it; parse writes the table."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.errors import DataError, StorageError
from schemas.tables import TABLE_FORMAT, TableFacts, arrow_schema, facts_of, table_digest
from tasks.idx import IdxHeader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray


BATCH_BYTES: Final = 16 << 20  # of Arrow columns; a batch costs pandera 5 ms whatever its length


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a table.

    Attributes:
        arrow: The rows as they are stored.
        labels: (n,) int32.
        pixels: (n, bytes of an item) uint8, the IDX bytes.
    """

    arrow: pa.RecordBatch
    labels: NDArray[np.int32]
    pixels: NDArray[np.uint8]


class TableReader:
    """One pass over a table, which digests what it reads: after the last batch, `digest` is of what was read."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path, pre_buffer=False)  # or the whole file stays in memory
        facts = facts_of(self._file.metadata.metadata)
        if facts is None:
            raise DataError(
                "this Parquet file is no table of samples", "one that parse wrote", "Rerun parse", str(path)
            )
        if facts.format_version != TABLE_FORMAT:
            raise StorageError(
                f"the table has format {facts.format_version}", f"format {TABLE_FORMAT}", "Rerun parse", str(path)
            )
        header = IdxHeader(np.dtype(facts.dtype), (self._file.metadata.num_rows, *facts.item_shape))
        columns = arrow_schema(header.item_bytes)
        found = self._file.schema_arrow
        if (found.names, found.types) != (columns.names, columns.types):
            raise DataError(f"the table's columns are {_listed(found)}", _listed(columns), "Rerun parse", str(path))
        self.facts: TableFacts = facts
        self.rows = 0
        self._images, self._labels = hashlib.sha256(header.encode()), hashlib.sha256()
        self._fitting = max(1, BATCH_BYTES // (header.item_bytes + 12))

    def batches(self, rows: int | None = None) -> Iterator[Batch]:
        """Yield the rows in order, as many at a time as fit `BATCH_BYTES` unless `rows` says; holds two batches."""
        # Decoding the next batch and hashing release the interpreter's lock.
        with self._file, ThreadPoolExecutor(2, "table") as pool:
            batches = self._file.iter_batches(rows or self._fitting, use_threads=False)
            coming: Future[pa.RecordBatch | None] = pool.submit(next, batches, None)
            while (arrow := coming.result()) is not None:
                coming = pool.submit(next, batches, None)
                batch = Batch(arrow, _labels(arrow), _pixels(arrow))
                hashing = pool.submit(self._images.update, batch.pixels.data)
                self._labels.update(batch.labels.astype("<i4", copy=False).data)
                self.rows += len(batch.labels)
                yield batch
                hashing.result()

    def pixels_of(self, rows: Collection[int]) -> dict[int, NDArray[np.uint8]]:
        """The bytes of some rows' images, by row; the whole table is read."""
        found: dict[int, NDArray[np.uint8]] = {}
        for batch in self.batches():
            start = self.rows - len(batch.pixels)
            found |= {row: batch.pixels[row - start].copy() for row in rows if start <= row < self.rows}
        return found

    @property
    def digest(self) -> str:
        """The table's digest, once all batches were read."""
        shape = (self.rows, *self.facts.item_shape)
        return table_digest(self.facts.dtype, shape, self._images.hexdigest(), self._labels.hexdigest())


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _labels(batch: pa.RecordBatch) -> NDArray[np.int32]:
    column = batch.column("label")
    if column.null_count:  # validate names such rows; a number that no label has keeps the digest honest
        column = column.fill_null(np.iinfo(np.int32).min)
    labels: NDArray[np.int32] = column.to_numpy()
    return labels


def _pixels(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    column = batch.column("pixels")
    width = column.type.byte_width
    stored = memoryview(column.buffers()[1])  # type: ignore[arg-type]
    return np.frombuffer(stored, np.uint8, len(column) * width, column.offset * width).reshape(-1, width)
