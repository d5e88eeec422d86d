"""The witness: faults planted in what reshape wrote are refused, named with their stage and explained."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from samples import both, drawn, labels_of, objects, parsed, signed, silent, staged

import tasks.reshape
import tasks.witness
from schemas.configuration import Reshape
from schemas.errors import DataError
from schemas.ledger import CountsBrokenError
from tasks.arrays import TARGETS_FILE, X_FILE
from tasks.reshape import sealed
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.handles import Table

    Array = np.ndarray[Any, Any]
    Fault = Callable[[Array], Array]

N, T = 48, 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def refused(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    faults: dict[str, Fault],
    chosen: Reshape | None = None,
    tables: tuple[Table, Table] | None = None,
) -> DataError:
    """What reshape says when its arrays come out changed; nothing of it may stay anywhere."""
    write = tasks.reshape.write_arrays

    def faulty(table: Path, folder: Path, *arguments: Any) -> str:  # noqa: ANN401 - passed on
        digest = write(table, folder, *arguments)
        for name, fault in faults.items():
            array = np.load(folder / name)
            np.save(folder / name, fault(array))
        return digest

    monkeypatch.setattr(tasks.reshape, "write_arrays", faulty)
    tables = tables or both(store, N)
    receipt = signed(store, tables)
    before = objects(store)
    with pytest.raises(DataError) as caught:
        sealed(store, tables[0], receipt, chosen or Reshape(timesteps=T), silent)
    assert objects(store) == before
    assert staged(store) == []
    assert caught.value.found.startswith("reshape, train ")
    return caught.value


def down(array: Array) -> Array:
    return np.roll(array, 1, axis=0)


def up(array: Array) -> Array:
    return np.roll(array, -1, axis=0)


def down_with_a_blank(array: Array) -> Array:
    return np.concatenate([np.zeros_like(array[:1]), array[:-1]])


def up_with_a_repeat(array: Array) -> Array:
    return np.concatenate([array[1:], array[-1:]])


def backwards(array: Array) -> Array:
    return array[::-1].copy()


def permuted(array: Array) -> Array:
    return array[np.random.default_rng(4).permutation(len(array))]


def swapped(array: Array) -> Array:
    order = np.arange(len(array))
    order[[10, 30]] = 30, 10
    return array[order]


def interleaved(array: Array) -> Array:
    """As a transposed grouping does it: (T, N // T) where (N // T, T) was meant."""
    return np.ascontiguousarray(array.reshape(T, -1, *array.shape[1:]).swapaxes(0, 1)).reshape(array.shape)


def one_value(array: Array) -> Array:
    changed = array.copy()
    changed.reshape(-1)[100 if changed.ndim > 1 else 17] ^= 1
    return changed


def one_twice_one_lost(array: Array) -> Array:
    changed = array.copy()
    changed[21] = changed[20]
    return changed


def wrong_scan(array: Array) -> Array:
    return np.ascontiguousarray(array.reshape(-1, 4, 6).swapaxes(1, 2)).reshape(array.shape)


IMAGE_FAULTS: list[tuple[Fault, str]] = [
    (down, "Probably all rows were shifted by one (down)"),
    (up, "Probably all rows were shifted by one (up)"),
    (down_with_a_blank, "Probably all rows were shifted by one (down)"),
    (up_with_a_repeat, "Probably all rows were shifted by one (up)"),
    (backwards, "Probably the order of the rows was reversed"),
    (permuted, "Probably the rows were permuted"),
    (swapped, "Probably the rows were permuted"),
    (interleaved, "Probably the rows were permuted"),
    (one_value, "Probably the content of rows was changed"),
    (one_twice_one_lost, "Probably rows were lost and others stand in their place"),
    (wrong_scan, "Probably the content of rows was changed"),
]
# A label says less than an image: one label changed looks like one row lost and another in its place.
LABEL_FAULTS: list[tuple[Fault, str]] = [
    *IMAGE_FAULTS[:8],
    (one_value, "Probably rows were lost and others stand in their place"),
    (one_twice_one_lost, "Probably rows were lost and others stand in their place"),
]


def told(error: DataError) -> list[tuple[str, int, str, str]]:
    return [(record.file, record.row, record.value, record.wrong) for record in error.records]


def first_wrong(fault: Fault, clean: Array) -> str:
    wrong = np.flatnonzero((fault(clean) != clean).reshape(len(clean), -1).any(axis=1))
    return f"row {wrong[0]:,} is the first of {len(wrong):,} wrong ones ({N} written, {N} in the IDX file)"


@pytest.mark.parametrize(("fault", "cause"), IMAGE_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_images_out_of_place(store: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault, cause: str) -> None:
    error = refused(store, monkeypatch, {X_FILE: fault})
    assert error.found == f"reshape, train images: {first_wrong(fault, drawn(N).reshape(N, -1))}"
    assert error.expected == "every row in its place, as in the raw IDX bytes"
    assert cause in error.remedy
    assert error.remedy.endswith("Nothing was trained")


@pytest.mark.parametrize(("fault", "cause"), LABEL_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_labels_out_of_place(store: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault, cause: str) -> None:
    error = refused(store, monkeypatch, {TARGETS_FILE: fault})
    assert error.found == f"reshape, train targets: {first_wrong(fault, labels_of(N))}"
    assert cause in error.remedy


def test_both_sides_permuted_alike(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harmless to training, but not what was validated."""
    error = refused(store, monkeypatch, {X_FILE: permuted, TARGETS_FILE: permuted})
    assert "Probably the rows were permuted" in error.remedy


@pytest.mark.parametrize("name", [X_FILE, TARGETS_FILE])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a[1:], lambda a: np.concatenate([a, a[:1]])])
def test_one_side_of_another_length(store: Store, monkeypatch: pytest.MonkeyPatch, name: str, change: Fault) -> None:
    error = refused(store, monkeypatch, {name: change})
    assert isinstance(error, CountsBrokenError)
    assert error.equation == "sequences = targets"
    assert f"{N:,}" in error.found


def test_both_sides_shorter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(store, monkeypatch, {X_FILE: lambda a: a[:-4], TARGETS_FILE: lambda a: a[:-4]})
    assert isinstance(error, CountsBrokenError)
    assert error.equation == "images in sequences + dropped = table rows"
    assert f"{N - 4} (images in sequences + dropped) against {N} (table rows)" in error.found


def test_labels_grouped_and_images_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(store, monkeypatch, {TARGETS_FILE: lambda a: a[::T].copy()})
    assert f"{N} (sequences) against {N // T} (targets), a ratio of {T}" in error.found
    assert f"{T} consecutive labels were grouped into one sequence while the images stayed one by one" in error.remedy


@pytest.mark.parametrize(
    ("name", "fault"), [(X_FILE, interleaved), (TARGETS_FILE, lambda a: np.ascontiguousarray(a.T).reshape(a.shape))]
)
def test_frames_grouped_in_the_wrong_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault
) -> None:
    """The counts all agree; only the order of grouping is wrong."""
    error = refused(store, monkeypatch, {name: fault}, Reshape(layout="frames", timesteps=T))
    assert "Probably the rows were permuted" in error.remedy


@pytest.mark.parametrize("scan", ["columns", "permuted"])
def test_pixels_left_in_rows_under_another_scan(store: Store, monkeypatch: pytest.MonkeyPatch, scan: str) -> None:
    """A scan that reshape forgets is seen by the witness's own."""
    monkeypatch.setattr(tasks.reshape, "scan_order", lambda _, item: np.arange(int(np.prod(item))))
    error = refused(store, monkeypatch, {}, Reshape.model_validate({"timesteps": T, "scan": scan}))
    assert "Probably the content of rows was changed" in error.remedy


def test_rows_read_for_columns_are_seen_in_images_without_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a scan that takes the first axis of (pixels,) for the rows would read them."""
    monkeypatch.setattr(
        tasks.reshape, "scan_order", lambda _, item: np.arange(int(np.prod(item))).reshape(item[0], -1).T.reshape(-1)
    )
    error = refused(store, monkeypatch, {}, Reshape(timesteps=T, scan="columns"), both(store, N, (24,)))
    assert "Probably the content of rows was changed" in error.remedy


def test_bytes_under_another_type(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal bytes that the .npy header makes other numbers of."""
    tables = both(store, N, (4, 6), "i2")
    error = refused(store, monkeypatch, {X_FILE: lambda a: a.view("<i2")}, None, tables)
    assert error.found == "reshape, train images: the bytes are right but stand under the type <i2"
    assert error.expected == "type >i2"


def test_labels_of_another_column(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has the class of column 1; the targets are given column 0."""
    rows = np.stack([labels_of(N, 3), labels_of(N)], axis=1).astype("i4")
    tables = parsed(store, drawn(N), rows, column=1), parsed(store, drawn(N, seed=7), rows, "test", 1)
    error = refused(store, monkeypatch, {TARGETS_FILE: lambda _: rows[:, 0].astype("<i4")}, None, tables)
    assert error.found.startswith("reshape, train targets: row ")


def test_labels_one_class_too_high(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(store, monkeypatch, {TARGETS_FILE: lambda a: a + 1})
    assert f"row 0 is the first of {N} wrong ones" in error.found


def test_a_table_that_is_not_what_its_idx_files_say(store: Store) -> None:
    """The witness goes back to the raw bytes, so that a fault of parse is seen as well."""
    tables = both(store, N)
    other = parsed(store, drawn(N, seed=5), labels_of(N))
    mixed = tables[0].model_copy(update={"table": other.table})
    receipt = signed(store, (mixed, tables[1]))
    with pytest.raises(DataError, match="reshape, train images: row 0 is the first of 48 wrong ones"):
        sealed(store, mixed, receipt, Reshape(timesteps=T), silent)
    assert not objects(store, "sequences", "targets")


@pytest.mark.parametrize("n", [1, 2])
def test_so_few_rows_that_any_would_pass_for_shifted(store: Store, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    tables = parsed(store, drawn(n), labels_of(n)), parsed(store, drawn(n, seed=7), labels_of(n), "test")
    error = refused(store, monkeypatch, {X_FILE: lambda a: a ^ 1}, None, tables)
    assert "Probably the content of rows was changed" in error.remedy


def test_the_first_wrong_rows_come_with_what_belongs_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are named by their place in the IDX file; each comes as it was written."""
    error = refused(store, monkeypatch, {X_FILE: swapped})
    images = "images of the train split"
    assert told(error) == [
        (images, 10, "the image of row 30", "expected the image of row 10"),
        (images, 30, "the image of row 10", "expected the image of row 30"),
    ]
    for record, meant in zip(error.records, (30, 10), strict=True):
        assert np.array_equal(record.picture, drawn(N)[meant])  # type: ignore[arg-type] # it has one


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        (one_value, ["an image that is not in the IDX file"]),
        (down, [f"the image of row {row}" for row in (N - 1, 0, 1, 2, 3)]),
    ],
)
def test_at_most_five_rows_are_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault, values: list[str]
) -> None:
    assert [record.value for record in refused(store, monkeypatch, {X_FILE: fault}).records] == values


def test_wrong_labels_come_with_the_images_that_they_are_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, first = labels_of(N), next(row for row in range(10, N) if labels_of(N)[row] != labels_of(N)[10])

    def exchanged(array: Array) -> Array:
        array[[10, first]] = array[[first, 10]]
        return array

    error = refused(store, monkeypatch, {TARGETS_FILE: exchanged})
    targets = "targets of the train split"
    assert told(error) == [
        (targets, 10, f"label {labels[first]}", f"expected label {labels[10]}"),
        (targets, first, f"label {labels[10]}", f"expected label {labels[first]}"),
    ]
    for record in error.records:
        assert np.array_equal(record.picture, drawn(N)[record.row])  # type: ignore[arg-type] # it has one


@pytest.mark.parametrize("scan", ["columns", "permuted"])
def test_a_wrong_image_is_shown_upright_under_any_scan(
    store: Store, monkeypatch: pytest.MonkeyPatch, scan: str
) -> None:
    error = refused(store, monkeypatch, {X_FILE: swapped}, Reshape.model_validate({"timesteps": T, "scan": scan}))
    assert [record.row for record in error.records] == [10, 30]
    assert np.array_equal(error.records[0].picture, drawn(N)[30])  # type: ignore[arg-type] # it has one


@pytest.mark.parametrize("item", [(24,), (1, 4, 6), (4, 6, 1)])
@pytest.mark.parametrize("name", [X_FILE, TARGETS_FILE])
def test_images_of_other_ranks_are_shown_in_rows_and_columns(
    store: Store, monkeypatch: pytest.MonkeyPatch, item: tuple[int, ...], name: str
) -> None:
    error = refused(store, monkeypatch, {name: down}, Reshape(scan="columns"), both(store, N, item))
    record = error.records[0]
    row = N - 1 if name == X_FILE else record.row
    assert np.array_equal(record.picture, drawn(N)[row])  # type: ignore[arg-type] # it has one


def test_what_is_no_image_of_bytes_is_told_without_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(store, monkeypatch, {X_FILE: swapped}, None, both(store, N, (4, 6), "i2"))
    assert [(record.row, record.picture) for record in error.records] == [(10, None), (30, None)]


LOST = [(row, f"the image of row {row + 1}", f"expected the image of row {row}") for row in (45, 46)]
COUNTED: list[tuple[str, Fault, list[tuple[int, str, str]]]] = [
    (X_FILE, lambda a: np.delete(a, 45, axis=0), [*LOST, (47, "nothing", "expected the image of row 47")]),
    (X_FILE, lambda a: np.concatenate([a, a[3:4]]), [(N, "the image of row 3", "expected nothing")]),
    (TARGETS_FILE, lambda a: a[:-1], [(N - 1, "nothing", f"expected label {labels_of(N)[-1]}")]),
]


@pytest.mark.parametrize(("name", "fault", "rows"), COUNTED, ids=["lost", "repeated", "cut"])
def test_lost_and_repeated_rows_are_named_where_the_counts_break(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault, rows: list[tuple[int, str, str]]
) -> None:
    """The counts are what stops it; the rows say where."""
    error = refused(store, monkeypatch, {name: fault})
    assert isinstance(error, CountsBrokenError)
    assert [found[1:] for found in told(error)] == rows


def test_it_imports_nothing_of_what_it_judges() -> None:
    tree = ast.parse(Path(tasks.witness.__file__).read_text(encoding="utf-8"))
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in named if name and name.startswith("tasks")}
    assert ours == {"tasks.idx", "tasks.store"}
