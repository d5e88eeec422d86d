"""Parse: one split's two IDX files to one Parquet table, streaming. Not here: reading IDX (tasks/idx), judging rows."""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from prefect import task

from schemas.errors import DataError
from schemas.handles import SourceFile, Split, Station, Table
from schemas.ledger import CountsBrokenError, Ledger
from schemas.tables import FILE_NAME, METADATA_KEY, TableFacts, arrow_schema, table_digest
from tasks.idx import IdxReader, open_idx
from tasks.mirror import Mirror
from tasks.stage import Key, Progress, once, progress_of
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROW_GROUP_BYTES: Final = 4 << 20
ZSTD_LEVEL: Final = 1


def key_of(
    split: Split,
    images: SourceFile,
    labels: SourceFile,
    label_column: int | None,
) -> Key[Table]:
    """What the table of one split depends on; the same bytes under other names are the same table."""
    return Key(
        step=f"parse {split}",
        stage="parse",
        form=Table,
        module=__name__,
        inputs={"images": images.idx.digest, "labels": labels.idx.digest},
        settings={"label_column": label_column},
        libraries=("pyarrow", "numpy"),
        adapt=lambda table: table.model_copy(update={"split": split, "images": images, "labels": labels}),
    )


@task(
    name="parse",
    description="Reads the IDX images and labels of one split and writes them to one Parquet table, row by row in "
    "order. Stops when a file is not exactly what its header says, or when images and labels differ in number.",
    task_run_name="parse {split}",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def parse(
    artifacts: Path,
    split: Split,
    images: SourceFile,
    labels: SourceFile,
    label_column: int | None,
    anew: str | None = None,
) -> Table:
    """Parse one split, or reuse the table of the same bytes."""
    store = Store(artifacts)
    key = key_of(split, images, labels, label_column)
    return once(store, key, lambda: to_table(store, split, images, labels, label_column, progress_of(key.step)), anew)


@dataclass(frozen=True)
class Parsed:
    """What was written: the stations' counts, the canonical digest, and the form of the samples."""

    counts: dict[Station, int]
    digest: str
    dtype: str
    shape: tuple[int, ...]


def to_table(
    store: Store, split: Split, images: SourceFile, labels: SourceFile, label_column: int | None, progress: Progress
) -> Table:
    """Write the table of one split into the store.

    Raises:
        CountsBrokenError: images and labels differ in number.
        DataError: a file is not IDX, or the labels are no whole numbers.
    """
    image_path = store.open(images.idx, images.name)
    label_path = store.open(labels.idx, labels.name)
    with store.staging() as folder:
        try:
            parsed = write_table(image_path, label_path, folder / FILE_NAME, split, label_column, progress)
        except CountsBrokenError as error:
            raise CountsBrokenError(
                error.found, error.expected, error.remedy, f"{images.name}, {labels.name}", error.equation
            ) from error
        except DataError as error:  # people know their file by its name, not by its place in the store
            names = {str(image_path): images.name, str(label_path): labels.name}
            raise DataError(
                error.found, error.expected, error.remedy, names.get(str(error.file), error.file)
            ) from error
        handle = store.commit(
            folder,
            kind="table",
            digest=parsed.digest,
            rows=parsed.shape[0],
            shape=parsed.shape,
            dtype=parsed.dtype,
        )
    return Table(
        split=split, images=images, labels=labels, table=handle, counts=parsed.counts, label_column=label_column
    )


def write_table(
    images: Path,
    labels: Path | None,
    target: Path,
    split: Split = "train",
    label_column: int | None = None,
    progress: Progress = lambda *_: None,
) -> Parsed:
    """Write images and labels to a Parquet file; memory does not grow with their number.

    Without labels, every label is -1.

    Raises:
        CountsBrokenError: images and labels differ in number.
        DataError: a file is not IDX, or the labels are no whole numbers.
    """
    with contextlib.ExitStack() as opened:
        pixels = opened.enter_context(open_idx(images, expect="images"))
        header = pixels.header
        known = labels and opened.enter_context(open_idx(labels))
        ledger = Ledger().entered(split, "parse", {"image header": header.items})
        if known:
            ledger = ledger.entered(split, "parse", {"label header": known.header.items})
        ledger.verify(labels.name if labels else None)
        rows = max(1, ROW_GROUP_BYTES // header.item_bytes)
        writer = opened.enter_context(_Writer(target, header.item_bytes))
        numbers = _labels(known, rows, label_column) if known else _no_labels(header.items, rows)
        for batch, label in zip(pixels.batches(rows), numbers, strict=True):
            writer.write(batch, label)
            progress(writer.rows, header.items, "rows")
        writer.settle()
        writer.state(
            TableFacts(
                dtype=header.dtype.str,
                item_shape=header.item_shape,
                images_payload_sha256=pixels.payload_sha256(),
                labels_payload_sha256=known.payload_sha256() if known else None,
            )
        )
    counts: dict[Station, int] = {"decoded images": writer.rows}
    counts |= {"decoded labels": writer.labels} if known else {}
    ledger = ledger.entered(split, "parse", counts)
    ledger.verify()
    return Parsed(
        {entry.station: entry.count for entry in ledger.entries},
        table_digest(header.dtype.str, header.shape, pixels.payload_sha256(), writer.labels_sha256()),
        header.dtype.str,
        header.shape,
    )


class _Writer:
    """Writes row groups and counts what it wrote, while the caller decodes the next.

    Compression releases the interpreter's lock. At most one row group is held back.
    """

    def __init__(self, target: Path, item_bytes: int) -> None:
        import pyarrow.parquet as pq

        self._schema = arrow_schema(item_bytes)
        self._file = pq.ParquetWriter(
            target,
            self._schema,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=False,
            write_statistics=["index", "label"],
        )
        self.rows = self.labels = 0
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, "parse")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._file.close()

    def write(self, pixels: NDArray[Any], labels: NDArray[np.int32]) -> None:
        """Begin to write one row group: pixels (n, ...) of any IDX type, labels (n,) int32."""
        self.settle()
        self._running = self._pool.submit(self._write, pixels, labels)

    def settle(self) -> None:
        """Wait until all rows are written; raises what their writing raised."""
        if self._running:
            self._running.result()

    def _write(self, pixels: NDArray[Any], labels: NDArray[np.int32]) -> None:
        import pyarrow as pa

        count = len(pixels)
        index = np.arange(self.rows, self.rows + count, dtype=np.int64)
        binary = pa.FixedSizeBinaryArray.from_buffers(
            self._schema.field("pixels").type, count, [None, pa.py_buffer(pixels.data)]
        )
        batch = pa.record_batch([pa.array(index), pa.array(labels), binary], schema=self._schema)
        self._file.write_batch(batch)
        self._digest.update(labels.astype("<i4", copy=False).data)
        self.rows += count
        self.labels += len(labels)

    def state(self, facts: TableFacts) -> None:
        """Put the facts into the file's metadata."""
        self._file.add_key_value_metadata({METADATA_KEY: facts.model_dump_json()})

    def labels_sha256(self) -> str:
        """SHA-256 of the labels written, as little-endian i4."""
        return self._digest.hexdigest()


def _labels(reader: IdxReader, rows: int, column: int | None) -> Iterator[NDArray[np.int32]]:
    header, fits = reader.header, len(reader.header.shape) == 1
    if column is not None:
        fits = len(header.shape) == 2 and column < header.shape[1]
    if header.dtype.kind not in "iu" or not fits:
        raise DataError(
            f"labels of {header}",
            "whole numbers of rank 1" if column is None else f"whole numbers of rank 2, the class in column {column}",
            "Check that this is the label file",
            reader.name,
        )
    for batch in reader.batches(rows):
        yield (batch if column is None else batch[:, column]).astype(np.int32)


def _no_labels(items: int, rows: int) -> Iterator[NDArray[np.int32]]:
    for start in range(0, items, rows):
        yield np.full(min(rows, items - start), -1, np.int32)
