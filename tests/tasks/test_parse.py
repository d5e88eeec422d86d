"""Parse: the table holds the IDX files' rows, in order, for every type; any reader of Parquet sees the same."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import drawn, labels_of, objects, parsed, silent, source_file, staged

import tasks.parse
from schemas.errors import DataError, StorageError
from schemas.ledger import CountsBrokenError
from schemas.tables import FILE_NAME, METADATA_KEY, facts_of, table_digest
from tasks.idx import IdxWriter, write_idx
from tasks.parse import parse, to_table, write_table
from tasks.store import Store
from tasks.table import TableReader

if TYPE_CHECKING:
    from schemas.handles import SourceFile, Table

    Array = np.ndarray[Any, Any]

ROOT = Path(__file__).parent.parent.parent
TYPES = ("u1", "i1", "i2", "i4", "f4", "f8")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def path_of(store: Store, table: Table) -> Path:
    return store.open(table.table, FILE_NAME)


def pixels_in(path: Path, dtype: str, shape: tuple[int, ...]) -> Array:
    """As any reader of Parquet sees them, in the type that the metadata states."""
    column = pq.read_table(path).column("pixels").to_pylist()
    return np.frombuffer(b"".join(column), dtype).reshape(shape)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_table_holds_the_rows_of_the_files(store: Store, dtype: str, compressed: bool) -> None:
    images, labels = drawn(30, (3, 5), dtype), labels_of(30)
    files = (
        source_file(store, "train", "images", images, gz=compressed),
        source_file(store, "train", "labels", labels, gz=compressed),
    )
    table = to_table(store, "train", *files, None, silent)
    path = path_of(store, table)
    stored = np.dtype(dtype).newbyteorder(">")
    np.testing.assert_array_equal(pixels_in(path, stored.str, (30, 3, 5)), images)
    read = pq.read_table(path)
    assert read.column("index").to_pylist() == list(range(30))
    assert read.column("label").to_pylist() == labels.tolist()
    assert table.counts == dict.fromkeys(("image header", "label header", "decoded images", "decoded labels"), 30)
    assert (table.table.rows, table.table.shape, table.table.dtype) == (30, (30, 3, 5), stored.str)


@settings(max_examples=settings.default.max_examples // 3, deadline=None)
@given(
    n=st.integers(0, 30),
    item=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(TYPES),
    labels=st.sampled_from(["u1", "i1", "i2", "i4"]),
    group=st.integers(1, 40),
)
def test_any_shape_type_and_row_group(
    tmp_path_factory: pytest.TempPathFactory, n: int, item: tuple[int, ...], dtype: str, labels: str, group: int
) -> None:
    store = Store(tmp_path_factory.mktemp("case"))
    images, numbers = drawn(n, item, dtype), labels_of(n).astype(labels)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks.parse, "ROW_GROUP_BYTES", group)
        table = parsed(store, images, numbers)
    path = path_of(store, table)
    stored = np.dtype(dtype).newbyteorder(">").str
    np.testing.assert_array_equal(pixels_in(path, stored, images.shape), images)
    assert pq.read_table(path).column("label").to_pylist() == numbers.tolist()
    reader = TableReader(path)
    assert sum(len(batch.labels) for batch in reader.batches(7)) == n
    assert reader.digest == table.table.digest


def test_the_digest_is_of_the_content_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and compression of the files do not count; every pixel and label does."""
    images, labels = drawn(30), labels_of(30)
    expected = table_digest(
        "|u1",
        (30, 4, 6),
        hashlib.sha256(struct.pack(">4B3I", 0, 0, 8, 3, 30, 4, 6) + images.tobytes()).hexdigest(),
        hashlib.sha256(labels.astype("<i4").tobytes()).hexdigest(),
    )
    assert parsed(store, images, labels).table.digest == expected
    monkeypatch.setattr(tasks.parse, "ROW_GROUP_BYTES", 100)
    assert parsed(Store(store.root / "other"), images, labels).table.digest == expected
    assert parsed(store, images.reshape(30, 6, 4), labels).table.digest != expected
    assert parsed(store, images.view("i1"), labels).table.digest != expected
    images[7, 0, 0] ^= 1
    assert parsed(store, images, labels).table.digest != expected


def test_the_metadata_states_type_shape_sources_and_format(store: Store) -> None:
    table = parsed(store, drawn(30, dtype="i2"), labels_of(30))
    facts = facts_of(pq.ParquetFile(path_of(store, table)).metadata.metadata)
    assert facts is not None
    assert facts.model_dump() == {
        "format_version": 2,
        "dtype": ">i2",
        "item_shape": (4, 6),
        "images_payload_sha256": table.images.idx.digest,
        "labels_payload_sha256": table.labels.idx.digest,
    }


def test_a_file_of_parquet(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """zstd, row groups, pixels as fixed-size binary."""
    monkeypatch.setattr(tasks.parse, "ROW_GROUP_BYTES", 24 * 10)
    file = pq.ParquetFile(path_of(store, parsed(store, drawn(35), labels_of(35))))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10, 10, 10, 5]
    columns = [file.metadata.row_group(0).column(i) for i in range(3)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert str(file.schema_arrow).startswith(
        "index: int64 not null\nlabel: int32 not null\npixels: fixed_size_binary[24]"
    )


def test_other_readers_see_the_same(store: Store) -> None:
    """NumPy, pandas, polars and DuckDB, each by one line."""
    images, labels = drawn(30), labels_of(30)
    path = path_of(store, parsed(store, images, labels))
    columns = {
        "numpy": pq.read_table(path).column("pixels").to_pylist(),
        "pandas": pd.read_parquet(path)["pixels"].tolist(),
        "polars": pl.read_parquet(path)["pixels"].to_list(),
        "duckdb": [row[0] for row in duckdb.sql(f"SELECT pixels FROM '{path}' ORDER BY index").fetchall()],  # noqa: S608
    }
    for name, column in columns.items():
        np.testing.assert_array_equal(np.frombuffer(b"".join(column), "u1").reshape(-1, 4, 6), images, err_msg=name)
    assert duckdb.sql(f"SELECT sum(label) FROM '{path}'").fetchall() == [(int(labels.sum()),)]  # noqa: S608


def refused(store: Store, images: Array, labels: Array, column: int | None = None) -> DataError:
    files = source_file(store, "train", "images", images), source_file(store, "train", "labels", labels)
    before = objects(store)
    with pytest.raises(DataError) as caught:
        to_table(store, "train", *files, column, silent)
    assert objects(store) == before
    assert staged(store) == []
    return caught.value


@pytest.mark.parametrize(("images", "labels"), [(30, 29), (30, 31), (30, 0), (0, 30)])
def test_images_and_labels_that_differ_in_number(store: Store, images: int, labels: int) -> None:
    error = refused(store, drawn(images), labels_of(labels))
    assert isinstance(error, CountsBrokenError)
    assert error.found.startswith(f"parse, train split: {labels} (label header) against {images} (image header)")
    assert error.expected == "label header = image header"
    assert error.file == "train-images, train-labels"
    assert error.remedy == (
        "Probably the label file belongs to another split or another version of the images: fetch both again"
    )


def test_files_that_were_swapped(store: Store) -> None:
    error = refused(store, labels_of(30), drawn(30))
    assert error.file == "train-images"
    assert "labels (rank 1" in error.found


@pytest.mark.parametrize(
    ("labels", "column", "found", "expected"),
    [
        (labels_of(30).astype("f4"), None, "labels of 30 of float32", "whole numbers of rank 1"),
        (drawn(30, (8,), "i4"), None, "labels of 30 × 8 of int32", "whole numbers of rank 1"),
        (labels_of(30), 0, "labels of 30 of uint8", "whole numbers of rank 2, the class in column 0"),
        (drawn(30, (8,), "i4"), 8, "labels of 30 × 8 of int32", "whole numbers of rank 2, the class in column 8"),
    ],
)
def test_labels_that_are_none(store: Store, labels: Array, column: int | None, found: str, expected: str) -> None:
    error = refused(store, drawn(30), labels, column)
    assert (error.found, error.expected) == (found, expected)
    assert error.file == "train-labels"


@pytest.mark.parametrize("column", [0, 7])
def test_labels_in_a_column(store: Store, column: int) -> None:
    rows = drawn(30, (8,), "i4")
    table = parsed(store, drawn(30), rows, column=column)
    assert table.label_column == column
    assert pq.read_table(path_of(store, table)).column("label").to_pylist() == rows[:, column].tolist()


def test_a_table_without_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "i", drawn(30))
    made = write_table(tmp_path / "i", None, tmp_path / "o.parquet")
    assert made.counts == {"image header": 30, "decoded images": 30}
    assert pq.read_table(tmp_path / "o.parquet").column("label").to_pylist() == [-1] * 30
    facts = facts_of(pq.ParquetFile(tmp_path / "o.parquet").metadata.metadata)
    assert facts is not None
    assert facts.labels_payload_sha256 is None


@pytest.mark.parametrize("cut", [1, 30 * 24 // 2])
def test_a_truncated_file(store: Store, tmp_path: Path, cut: int) -> None:
    """Known under its own bytes, so that only its header tells on it."""
    write_idx(tmp_path / "i", drawn(30))
    write_idx(tmp_path / "l", labels_of(30))
    (tmp_path / "i").write_bytes((tmp_path / "i").read_bytes()[:-cut])
    with pytest.raises(DataError, match=f"{cut} bytes? missing"):
        write_table(tmp_path / "i", tmp_path / "l", tmp_path / "o.parquet")


def test_a_source_file_damaged_in_the_store(store: Store) -> None:
    table = parsed(store, drawn(30), labels_of(30))
    path = store.root / table.images.idx.place / table.images.name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="an output of kind 'idx' is damaged: it has 735 bytes instead of 736"):
        to_table(store, "train", table.images, table.labels, None, silent)


def test_the_task_reuses_the_table_and_keeps_the_split(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = source_file(store, "train", "images", drawn(30)), source_file(store, "train", "labels", labels_of(30))
    made = parse.fn(store.root, "train", *files, None)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(tasks.parse, "to_table", never)
    assert parse.fn(store.root, "train", *files, None) == made
    test: tuple[SourceFile, ...] = tuple(file.model_copy(update={"split": "test"}) for file in files)
    again = parse.fn(store.root, "test", *test, None)
    assert (again.split, again.images.split, again.table) == ("test", "test", made.table)
    with pytest.raises(AssertionError):
        parse.fn(store.root, "train", *files, 0)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, "this Parquet file is no table of samples"),
        (b"{}", "this Parquet file is no table of samples"),
        (b"<html>", "this Parquet file is no table of samples"),
        (
            (
                b'{"format_version": 1, "dtype": "|u1", "item_shape": [24], "images_payload_sha256": "", '
                b'"labels_payload_sha256": null}'
            ),
            "the table has format 1",
        ),
    ],
)
def test_a_table_of_others_is_not_read(store: Store, metadata: bytes | None, found: str) -> None:
    table = pq.read_table(path_of(store, parsed(store, drawn(30), labels_of(30))))
    facts = {} if metadata is None else {METADATA_KEY.encode(): metadata}
    path = store.root / "other.parquet"
    pq.write_table(table.replace_schema_metadata(facts), path)
    with pytest.raises((DataError, StorageError)) as caught:
        TableReader(path)
    assert caught.value.found == found
    assert caught.value.remedy == "Rerun parse"
    assert caught.value.file == str(path)


# --- memory

PEAK = """
import sys
sys.path.insert(0, sys.argv[1])
from flows.command import main
sys.argv = ["stepwise", "convert", "i", "l", "-o", "o.parquet"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
# not getrusage: that remembers what the parent held when it started this process
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


def peak_of_convert(folder: Path, n: int) -> int:
    """MiB that `stepwise convert` took at most for n images of 28 × 28."""
    folder.mkdir()
    block = np.random.default_rng(0).integers(0, 256, (6_000, 28, 28), "u1")
    block[:, :, 10:] = 0
    with IdxWriter(folder / "i", "u1", (28, 28)) as images, IdxWriter(folder / "l", "u1", ()) as labels:
        for start in range(0, n, len(block)):
            images.write(block)
            labels.write((np.arange(start, start + len(block)) % 10).astype("u1"))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(ROOT)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert pq.ParquetFile(folder / "o.parquet").metadata.num_rows == n
    for name in ("i", "l", "o.parquet"):
        (folder / name).unlink()
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """600,000 images are 470 MB; the whole of it would show."""
    few, many = (peak_of_convert(tmp_path / str(n), n) for n in (60_000, 600_000))
    assert many < 400
    assert many - few < 60
