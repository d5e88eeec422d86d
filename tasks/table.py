"""Reading a table of samples back, in batches. A foundation: validate and reshape share it; parse writes the table."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schemas.errors import DataError, StorageError
from schemas.tables import TABLE_FORMAT, TableFacts, arrow_schema, facts_of, table_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray


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
        columns = arrow_schema(int(np.prod(facts.item_shape)) * np.dtype(facts.dtype).itemsize)
        found = self._file.schema_arrow
        if (found.names, found.types) != (columns.names, columns.types):
            raise DataError(f"the table's columns are {_listed(found)}", _listed(columns), "Rerun parse", str(path))
        self.facts: TableFacts = facts
        self.rows = 0
        self._pixels, self._labels = hashlib.sha256(), hashlib.sha256()

    def batches(self, rows: int = 8192) -> Iterator[Batch]:
        """Yield the rows in order; memory is bounded by one batch."""
        with self._file, ThreadPoolExecutor(1, "table") as pool:  # hashing releases the interpreter's lock
            for arrow in self._file.iter_batches(rows, use_threads=False):
                batch = Batch(arrow, _labels(arrow), _pixels(arrow))
                hashing = pool.submit(self._pixels.update, batch.pixels.data)
                self._labels.update(batch.labels.astype("<i4", copy=False).data)
                self.rows += len(batch.labels)
                yield batch
                hashing.result()

    @property
    def digest(self) -> str:
        """The table's digest, once all batches were read."""
        shape = (self.rows, *self.facts.item_shape)
        return table_digest(self.facts.dtype, shape, self._pixels.hexdigest(), self._labels.hexdigest())


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
