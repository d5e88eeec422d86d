"""The file of a model's answers, predictions.parquet: written as they come, read back in batches. A foundation.

Not here: answering (tasks/network), what the answers are worth (tasks/measures).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from schemas.handles import Labels

ROW_GROUP_BYTES: Final = 4 * 2**20  # of answers before they are compressed
_BATCH: Final = 8192


class PredictionWriter:
    """Writes predictions.parquet: index, label, predicted, probabilities; labels are the dataset's own.

    Where no labels are known, the column is null.
    """

    def __init__(self, path: Path, labels: Labels, said_of: Mapping[str, str] | None = None) -> None:
        """Begin the file; what is `said_of` the answers stands in its metadata, under the key "stepwise", as JSON."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._labels = labels
        self._schema = pa.schema(
            [
                pa.field("index", pa.int64(), nullable=False),
                pa.field("label", pa.int32()),
                pa.field("predicted", pa.int32(), nullable=False),
                pa.field("probabilities", pa.list_(pa.float32(), labels.classes), nullable=False),
            ],
            metadata={b"stepwise": json.dumps(said_of).encode()} if said_of else None,
        )
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False)
        self._held: list[pa.RecordBatch] = []  # of the row group that is being gathered
        self._digest = hashlib.sha256()
        self.rows = 0

    def __enter__(self) -> PredictionWriter:  # noqa: PYI034 - this class is final
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:  # else what cannot be written now would hide why
                self._write_group()
        finally:
            self._file.close()

    def write(self, true: NDArray[np.int32] | None, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """Append answers (n, C) with their true class indices (n,); returns the rows' index (n,)."""
        import pyarrow as pa

        n, first = len(probabilities), self._labels.first
        index = np.arange(self.rows, self.rows + n, dtype=np.int64)
        predicted = (probabilities.argmax(1) + first).astype(np.int32)
        labels: Any = pa.nulls(n, pa.int32()) if true is None else pa.array((true + first).astype(np.int32))
        flat = np.ascontiguousarray(probabilities).reshape(-1)
        answers = pa.FixedSizeListArray.from_arrays(pa.array(flat), self._labels.classes)
        columns = [pa.array(index), labels, pa.array(predicted), answers]
        self._held.append(pa.record_batch(columns, schema=self._schema))
        if sum(batch.nbytes for batch in self._held) >= ROW_GROUP_BYTES:
            self._write_group()
        self._digest.update(flat.astype("<f4", copy=False).data)
        self._digest.update(b"" if true is None else true.astype("<i4").tobytes())
        self.rows += n
        return index

    def _write_group(self) -> None:
        """One row group of what is held: Parquet keeps a note on each of them in memory until the file is closed."""
        import pyarrow as pa

        if self._held:
            self._file.write_table(pa.Table.from_batches(self._held))
            self._held.clear()

    @property
    def digest(self) -> str:
        """SHA-256 over all answers and labels in order."""
        return self._digest.hexdigest()


def rows_written(path: Path) -> int:
    """The rows of a Parquet file, counted by reading its index column back, a part at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return sum(len(batch) for batch in file.iter_batches(columns=["index"]))


def answers_in_batches(
    path: Path, first: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]:
    """The batches of a written predictions.parquet: rows, class indices, answers."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=["index", "label", "probabilities"]):
            answers: Any = batch.column("probabilities")
            p = answers.flatten().to_numpy().reshape(len(answers), -1)
            yield batch.column("index").to_numpy(), batch.column("label").to_numpy() - np.int32(first), p
