"""Validate: every row against its contract whatever pandera's switches say; all findings at once, with first rows."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandera.config import ValidationDepth, config_context
from samples import CLASSES, both, dataset_of, drawn, labels_of, objects, parsed, receipt_of, signed, staged

from schemas.errors import BadRecord, DataError, StorageError
from schemas.handles import Labels
from schemas.tables import FILE_NAME, INDEX_CHECK, LABEL_CHECK, METADATA_KEY, MISSING_CHECK, table_digest
from tasks.idx import IdxHeader
from tasks.store import Store
from tasks.table import Batch
from tasks.validate import failing_rows, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.handles import Table

N = 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def refused(store: Store, tables: tuple[Table, Table], **changes: Any) -> DataError:  # noqa: ANN401
    """The error; no receipt may come of it."""
    with pytest.raises(DataError) as caught:
        signed(store, tables, **changes)
    assert not objects(store, "receipt")
    assert staged(store) == []
    return caught.value


def with_labels(store: Store, labels: np.ndarray[Any, Any]) -> tuple[Table, Table]:
    """Tables whose train labels are these."""
    return parsed(store, drawn(len(labels)), labels), parsed(store, drawn(60, seed=7), labels_of(60, 7), "test")


def planted(*places: tuple[int, int]) -> np.ndarray[Any, Any]:
    labels = labels_of(N)
    for row, label in places:
        labels[row] = label
    return labels


def rewritten(store: Store, table: Table, change: Callable[[pa.Table], pa.Table], *, honest: bool = False) -> Table:
    """A table changed on disk after parse, under a seal that fits the changed file.

    Its digest stays what parse stated; `honest` states that of the changed content instead.
    """
    before = store.root / table.table.place / FILE_NAME
    key = METADATA_KEY.encode()
    metadata = {key: pq.ParquetFile(before).metadata.metadata[key]}
    changed = change(pq.read_table(before)).replace_schema_metadata(metadata)
    digest, rows = table.table.digest, changed.num_rows
    if honest:
        labels = np.array(changed.column("label").to_pylist(), "<i4").tobytes()
        pixels = b"".join(changed.column("pixels").to_pylist())
        shape = (rows, *table.table.shape[1:])
        header = IdxHeader(np.dtype(table.table.dtype), shape)
        digest = table_digest(header.dtype.str, shape, _sha256(header.encode() + pixels), _sha256(labels))
    (store.root / table.table.place).rename(store.root / "gone")
    with store.staging() as folder:
        pq.write_table(changed, folder / FILE_NAME)
        handle = store.commit(
            folder,
            kind="table",
            digest=digest,
            rows=table.table.rows,
            shape=table.table.shape,
            dtype=table.table.dtype,
        )
    return table.model_copy(update={"table": handle})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_sound_tables_get_a_receipt(store: Store) -> None:
    train, test = both(store, N)
    receipt = receipt_of(store, (train, test))
    assert [(table.split, table.digest, table.rows) for table in receipt.tables] == [
        ("train", train.table.digest, N),
        ("test", test.table.digest, N // 2),
    ]
    assert receipt.labels == Labels(first=0, classes=CLASSES, names=tuple("0123456789"))
    assert (receipt.image_shape, receipt.image_dtype, receipt.mode) == ((4, 6), "|u1", "tracked")
    assert {(check.name, check.split) for check in receipt.checks} >= {
        (name, split) for name in (INDEX_CHECK, LABEL_CHECK, MISSING_CHECK) for split in ("train", "test")
    }
    assert {check.rows for check in receipt.checks} == {N, N // 2}
    assert [file.payload_sha256 for file in receipt.files] == [
        file.idx.digest for table in (train, test) for file in (table.images, table.labels)
    ]
    assert {receipt.ledger.count("test", station) for station in ("image header", "table rows")} == {N // 2}
    receipt.ledger.verify()


def test_repeated_images_are_counted_and_signed(store: Store) -> None:
    """Across batches too; they are told, and no error: what is repeated may be so in the world."""
    train, test = drawn(N), drawn(60, seed=7)
    train[100] = train[3]
    test[[5, 50]] = train[[3, 90]]
    labels, test_labels = labels_of(N), labels_of(60, 7)
    test_labels[5], test_labels[50] = labels[3], (labels[90] + 1) % CLASSES
    receipt = receipt_of(store, (parsed(store, train, labels), parsed(store, test, test_labels, "test")))
    assert receipt.repeated is not None
    leak, within, within_test = receipt.repeated
    assert (leak.where, leak.rows, leak.of, leak.disagreeing) == ("test in train", 2, 60, 1)
    assert [(pair.first, pair.second) for pair in leak.pairs] == [(3, 5), (90, 50)]
    assert (within.where, within.rows, within.of) == ("within train", 1, N)
    assert [(pair.first, pair.second) for pair in within.pairs] == [(3, 100)]
    assert (within_test.where, within_test.rows) == ("within test", 0)
    receipt.verify_signature()


def test_what_the_catalog_states_is_checked_and_recorded(store: Store) -> None:
    tables = both(store, N)
    images, labels = drawn(N), labels_of(N)
    stated = {
        "rows": N,
        "label_counts": tuple(np.bincount(labels, minlength=CLASSES).tolist()),
        "images": {"sum": int(images.sum(dtype="i8")), "shape": (4, 6), "payload_bytes": 16 + images.nbytes},
        "labels": {"sum": int(labels.sum(dtype="i8")), "shape": (), "payload_bytes": 8 + labels.nbytes},
    }
    receipt = receipt_of(store, tables, train=stated)
    names = {check.name for check in receipt.checks if check.split == "train"}
    assert names >= {"split size", "rows of each class", "sum of all pixels", "shape of an image"}
    assert names >= {"sum of all labels", "shape of a label", "bytes of the images with their header"}
    assert "split size" not in {check.name for check in receipt.checks if check.split == "test"}


def test_a_bad_label_is_found_with_its_row(store: Store) -> None:
    error = refused(store, with_labels(store, planted((77, 10))))
    assert error.found == (
        "1 finding in the data of 'small': train: label is one of the classes: 1 row, the first: row 77 has label 10 "
        "(expected 0 to 9)"
    )
    assert error.expected == "rows that keep their contract"
    assert error.remedy == "Mend the files and rerun: nothing was reshaped or trained"
    assert error.file == "train-labels"


def test_at_most_five_rows_are_named_and_all_are_counted(store: Store) -> None:
    error = refused(store, with_labels(store, planted(*((row, 200) for row in range(30, 60, 3)))))
    assert "10 rows, the first: row 30 has label 200; row 33" in error.found
    assert error.found.count("has label") == 5


def test_first_rows_are_kept_across_batches(store: Store) -> None:
    """Batches are of 8,192 rows: the positions count on from one to the next."""
    labels = labels_of(20_000)
    labels[[3, 8_191, 8_192, 19_999]] = 99
    error = refused(store, with_labels(store, labels))
    rows = "; ".join(f"row {row} has label 99" for row in (3, 8_191, 8_192, 19_999))
    assert f"4 rows, the first: {rows} (expected 0 to 9)" in error.found


def test_the_first_bad_rows_come_with_their_images(store: Store) -> None:
    labels = labels_of(9_000)
    labels[[8, 8_500]] = 99
    error = refused(store, with_labels(store, labels))
    wrong = "not kept: label is one of the classes (0 to 9)"
    assert error.records == tuple(BadRecord("train-labels", row, "label 99", wrong) for row in (8, 8_500))
    for record in error.records:
        np.testing.assert_array_equal(record.picture, drawn(9_000)[record.row])


def test_images_are_shown_upright_and_only_where_they_can_be(store: Store) -> None:
    spoilt = with_labels(store, planted((77, 200)))
    [record] = refused(store, spoilt, orientation="transposed", classes=None).records
    assert (record.row, record.value) == (77, "label 200")
    assert record.wrong == "across a gap: no sample has label 10 to 199"
    np.testing.assert_array_equal(record.picture, drawn(N)[77].T)
    table = parsed(store, drawn(N, dtype="i2"), planted((77, 200)))
    [record] = refused(store, (table, parsed(store, drawn(60, (4, 6), "i2"), labels_of(60), "test"))).records
    assert record.picture is None


@pytest.mark.parametrize("item", [(24,), (1, 4, 6), (4, 6, 1), (4, 6, 3)])
def test_images_of_other_ranks_are_shown_in_rows_and_columns(store: Store, item: tuple[int, ...]) -> None:
    images = drawn(N, item)
    tables = parsed(store, images, planted((77, 200))), parsed(store, drawn(60, item), labels_of(60), "test")
    [record] = refused(store, tables).records
    shown = images[77].reshape(4, 6, -1).mean(2).astype("u1")
    np.testing.assert_array_equal(record.picture, shown)  # type: ignore[arg-type] # it has one


SWITCHES = {"PANDERA_VALIDATION_ENABLED": "False", "PANDERA_VALIDATION_DEPTH": "SCHEMA_ONLY"}

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import pandera.config
seen = pandera.config.CONFIG
print("seen", seen.validation_enabled, seen.validation_depth)
from samples import both, drawn, labels_of, parsed, signed
from schemas.errors import DataError
from tasks.store import Store
store = Store(Path(sys.argv[1]))
labels = labels_of(120)
labels[77] = 10
tables = parsed(store, drawn(120), labels), both(store, 120)[1]
try:
    signed(store, tables)
except DataError as error:
    print(error)
else:
    print("passed")
"""


@pytest.mark.parametrize(
    "names", [list(SWITCHES), *(pytest.param([name], marks=pytest.mark.slow) for name in SWITCHES)], ids="+".join
)
def test_panderas_switches_in_the_environment_do_not_weaken_it(tmp_path: Path, names: list[str]) -> None:
    here = Path(__file__).parent
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(here.parent.parent)}
    environment |= {name: SWITCHES[name] for name in names}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "root"), str(here)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    seen, said = done.stdout.strip().splitlines()
    assert ("False" in seen) == ("PANDERA_VALIDATION_ENABLED" in names)  # pandera itself obeys them
    assert ("SCHEMA_ONLY" in seen) == ("PANDERA_VALIDATION_DEPTH" in names)
    assert "row 77 has label 10 (expected 0 to 9)" in said


def test_panderas_switches_in_the_process_do_not_weaken_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    with config_context(validation_enabled=False, validation_depth=ValidationDepth.SCHEMA_ONLY):
        error = refused(store, with_labels(store, planted((77, 10))))
    assert "row 77 has label 10" in error.found


def test_everything_wrong_is_told_at_once(store: Store) -> None:
    train = parsed(store, drawn(N), planted((5, 10)))
    test = parsed(store, drawn(60, (6, 4), seed=7), labels_of(60, 7), "test")
    error = refused(
        store,
        (train, test),
        train={"rows": 130, "label_counts": (13,) * 10, "images": {"sum": 1, "shape": (4, 6)}},
        test={"images": {"shape": (4, 6)}},
    )
    found = error.found
    assert found.startswith("6 findings in the data of 'small': ")
    counts = tuple(np.bincount(np.delete(labels_of(N), 5), minlength=CLASSES).tolist())
    total = drawn(N).sum(dtype="i8")
    for finding in (
        "train: label is one of the classes: 1 row, the first: row 5 has label 10 (expected 0 to 9)",
        "train: split size: 120 (expected 130)",
        f"train: rows of each class: {counts} (expected {(13,) * 10})",
        f"train: sum of all pixels: {total} (expected 1)",
        "test: shape of an image: (6, 4) (expected (4, 6))",
        "test: shapes equal between the splits: 6 × 4 of uint8 (expected 4 × 6 of uint8 as in train)",
    ):
        assert finding in found


def test_types_that_differ_between_splits(store: Store) -> None:
    tables = both(store, N)[0], parsed(store, drawn(60, dtype="i2"), labels_of(60, 7), "test")
    error = refused(store, tables)
    assert "4 × 6 of int16 (expected 4 × 6 of uint8 as in train)" in error.found
    assert error.file == "test-images"


def test_classes_of_a_tracked_dataset_are_inferred(store: Store) -> None:
    """From the smallest to the largest label of both splits, though each misses one."""
    train, test = np.resize([3, 4, 5], N).astype("u1"), np.resize([5, 6], 60).astype("u1")
    tables = parsed(store, drawn(N), train), parsed(store, drawn(60, seed=7), test, "test")
    labels = receipt_of(store, tables, classes=None).labels
    assert labels == Labels(first=3, classes=4, names=("3", "4", "5", "6"))


def test_a_gap_between_labels_is_a_finding_where_nobody_states_the_classes(store: Store) -> None:
    labels = planted((17, 77), (30, 200), (119, 11))
    error = refused(store, with_labels(store, labels), classes=None)
    assert error.found == (
        "1 finding in the data of 'small': train: labels leave no gap: no sample has label 10; across this gap: "
        "3 rows, the first: row 17 has label 77; row 30 has label 200; row 119 has label 11 "
        "(expected each of 0 to 200, unless a catalog states the number of classes)"
    )
    assert error.file == "train-labels"
    stated = receipt_of(store, with_labels(store, labels), classes=201)
    assert stated.labels.classes == 201


def test_the_rarer_side_of_a_gap_is_named(store: Store) -> None:
    labels = labels_of(N) + 5
    labels[40] = 0
    test = parsed(store, drawn(60, seed=7), labels_of(60, 7) + 5, "test")
    found = refused(store, (parsed(store, drawn(N), labels), test), classes=None).found
    gap = "no sample has label 1 to 4; across this gap: 1 row, the first: row 40 has"
    assert f"train: labels leave no gap: {gap}" in found
    assert "test: labels leave no gap" not in found


def test_labels_of_one_class_are_refused_where_nobody_states_more(store: Store) -> None:
    one = parsed(store, drawn(60, seed=7), np.full(60, 4, "u1"), "test")
    tables = parsed(store, drawn(N), np.full(N, 4, "u1")), one
    error = refused(store, tables, classes=None)
    assert (error.found, error.file) == ("every label is 4, of both splits", "train-labels")
    assert receipt_of(store, tables).labels.classes == CLASSES, "the catalog states ten"


def test_labels_that_cannot_be_classes(store: Store) -> None:
    for low, high in ((-1, 9), (0, 1_001)):
        tables = with_labels(store, np.resize([low, high], N).astype("i2"))
        error = refused(store, tables, classes=None)
        assert error.found == f"the train labels run from {low:,} to {high:,}"
        assert error.file == "train-labels"


def test_letters_begin_at_one(store: Store) -> None:
    labels = (np.arange(N) % 26 + 1).astype("u1")
    tables = with_labels(store, labels)
    names = tuple("abcdefghijklmnopqrstuvwxyz")
    stated = {"first_label": 1, "classes": 26, "class_names": names}
    assert receipt_of(store, (tables[0], tables[0].model_copy(update={"split": "test"})), **stated).labels == Labels(
        first=1, classes=26, names=names
    )
    error = refused(Store(store.root / "other"), with_labels(Store(store.root / "other"), labels - 1), **stated)
    assert "row 0 has label 0; row 26 has label 0; row 52" in error.found
    assert "(expected 1 to 26)" in error.found


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_a_split_without_samples(store: Store, classes: int | None) -> None:
    empty = parsed(store, np.zeros((0, 4, 6), "u1"), np.zeros(0, "u1"), "test")
    found = refused(store, (both(store, N)[0], empty), classes=classes).found
    assert found.endswith(
        "test: the split has samples: none (expected at least one)" if classes else "the test split has no samples"
    )


def nullable(table: pa.Table, column: str, row: int) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = None
    place = table.schema.get_field_index(column)
    field = pa.field(column, table.schema.field(column).type)
    return table.set_column(place, field, pa.array(values, field.type))


@pytest.mark.parametrize("column", ["index", "label", "pixels"])
def test_a_missing_value_is_found(store: Store, column: str) -> None:
    train, test = both(store, N)
    train = rewritten(store, train, lambda table: nullable(table, column, 33))
    found = refused(store, (train, test)).found
    assert "train: no value is missing: 1 row, the first: row 33 (expected every row)" in found


def taken(*order: int | slice) -> Callable[[pa.Table], pa.Table]:
    rows = np.concatenate([np.arange(N)[part] if isinstance(part, slice) else [part] for part in order])
    return lambda table: table.take(pa.array(rows))


CHANGED: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "reordered": (taken(slice(0, 20), 21, 20, slice(22, None)), "2 rows, the first: row 20 has index 21; row 21"),
    "duplicated": (taken(slice(0, 21), slice(20, None)), "100 rows, the first: row 21 has index 20"),
    "dropped": (taken(slice(0, 20), slice(21, None)), "99 rows, the first: row 20 has index 21"),
    "replaced": (taken(slice(0, 20), 19, slice(21, None)), "1 row, the first: row 20 has index 19"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_rows_moved_on_disk_under_a_seal_that_was_redone(store: Store, name: str) -> None:
    change, finding = CHANGED[name]
    train, test = both(store, N)
    found = refused(store, (rewritten(store, train, change), test)).found
    assert f"train: index is the row's position: {finding}" in found
    assert "train: the table holds the content that parse wrote: digest " in found
    assert f"(expected digest {train.table.digest[:12]}…)" in found
    if name in {"duplicated", "dropped"}:
        rows = 121 if name == "duplicated" else 119
        assert f"parse, train split: {rows} (table rows) against 120 (decoded images), a ratio of 1.008" in found
        assert f"Samples were {'duplicated' if rows > N else 'lost'} in the stage 'parse'" in found


@pytest.mark.parametrize("name", CHANGED)
def test_rows_moved_and_numbered_anew(store: Store, name: str) -> None:
    """Whoever renumbers the rows is still caught by the digest."""
    train, test = both(store, N)

    def change(table: pa.Table) -> pa.Table:
        moved = CHANGED[name][0](table)
        return moved.set_column(0, moved.schema.field(0), pa.array(np.arange(moved.num_rows), pa.int64()))

    found = refused(store, (rewritten(store, train, change), test)).found
    assert "index is the row's position" not in found
    assert "train: the table holds the content that parse wrote: digest " in found


@pytest.mark.parametrize("name", ["duplicated", "dropped"])
def test_a_changed_number_of_rows_under_an_honest_digest(store: Store, name: str) -> None:
    """Even where the digest is redone as well, the ledger knows how many there were."""
    train, test = both(store, N)

    def change(table: pa.Table) -> pa.Table:
        moved = CHANGED[name][0](table)
        return moved.set_column(0, moved.schema.field(0), pa.array(np.arange(moved.num_rows), pa.int64()))

    found = refused(store, (rewritten(store, train, change, honest=True), test)).found
    assert "(table rows) against 120 (decoded images)" in found


@pytest.mark.parametrize("name", CHANGED)
def test_rows_moved_on_disk_break_the_seal(store: Store, name: str) -> None:
    train, test = both(store, N)
    path = store.root / train.table.place / FILE_NAME
    schema = pq.ParquetFile(path).schema_arrow
    pq.write_table(CHANGED[name][0](pq.read_table(path)).cast(schema), path)
    with pytest.raises(StorageError, match="an output of kind 'table' is damaged: it"):
        signed(store, (train, test))


def test_a_table_of_other_columns_or_of_another_format(store: Store) -> None:
    train, test = both(store, N)
    wrong = rewritten(store, train, lambda table: table.rename_columns(["number", "label", "pixels"]))
    error = refused(store, (wrong, test))
    assert error.found == "the table's columns are number int64, label int32, pixels fixed_size_binary[24]"
    assert error.expected == "index int64, label int32, pixels fixed_size_binary[24]"


def test_contract_fails_on_columns_of_another_type() -> None:
    """The contract stands on its own, should a table ever reach it by another way."""
    columns = {"index": pa.array([0], pa.int64()), "label": pa.array([0], pa.int64()), "pixels": pa.array([b"a"])}
    batch = Batch(pa.record_batch(columns), np.zeros(1, "i4"), np.zeros((1, 1), "u1"))
    with pytest.raises(DataError, match="the columns are not those of a table of samples"):
        failing_rows(batch, Labels(first=0, classes=10, names=()), 0)


def test_the_task_reuses_a_receipt_and_makes_another_for_other_files(store: Store, tmp_path: Path) -> None:
    tables = both(store, N)
    first = validate.fn(store.root, dataset_of(), tables)
    assert validate.fn(store.root, dataset_of(title="Another title"), tables) == first
    assert validate.fn(store.root, dataset_of(train={"rows": N}), tables) != first
    wide = parsed(store, drawn(N), labels_of(N).astype("i4"))  # the same rows from another label file
    assert wide.table.digest == tables[0].table.digest
    assert validate.fn(store.root, dataset_of(), (wide, tables[1])) != first


BAD_PIXELS = [("f4", np.nan, "nan"), ("f8", np.inf, "inf"), ("f8", -np.inf, "-inf")]


@pytest.mark.parametrize(("dtype", "value", "told"), BAD_PIXELS)
def test_pixels_that_are_no_finite_numbers_are_found_with_their_rows(
    store: Store, dtype: str, value: float, told: str
) -> None:
    """Drift, training and the report would each fail on them, or not."""
    images = drawn(60, (4, 6), dtype, 7)
    images[[9, 31], 2, 5] = value
    images[31, 3, 0] = value
    tables = both(store, N, dtype=dtype)[0], parsed(store, images, labels_of(60, 7), "test")
    error = refused(store, tables)
    assert error.found == (
        "1 finding in the data of 'small': test: every pixel is a finite number: 2 rows, the first: "
        f"row 9 has {told} at pixel 17; row 31 has {told} at pixel 17 (expected every row)"
    )
    assert error.file == "test-images"
    wrong = "not kept: every pixel is a finite number (every row)"
    assert error.records == tuple(BadRecord("test-images", row, f"{told} at pixel 17", wrong) for row in (9, 31))


@pytest.mark.parametrize(("dtype", "checked"), [("f4", True), ("u1", False), ("i2", False)])
def test_finite_pixels_are_checked_where_they_might_be_none(store: Store, dtype: str, *, checked: bool) -> None:
    checks = receipt_of(store, both(store, N, dtype=dtype)).checks
    assert ("every pixel is a finite number" in {check.name for check in checks}) == checked


@pytest.mark.parametrize("classes", [CLASSES, None])
def test_labels_are_read_once_before_the_pass_where_they_have_to_tell_the_classes(
    store: Store, classes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, read = both(store, N), list[object]()
    read_table = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda path, **kwargs: read.append(path) or read_table(path, **kwargs))
    signed(store, tables, classes=classes)
    assert len(read) == (0 if classes else 2)
