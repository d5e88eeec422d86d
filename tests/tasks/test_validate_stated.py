"""Validate: what a catalog states of a file is compared with what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from samples import both, drawn, receipt_of, signed

from schemas.errors import DataError
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.handles import Table

N = 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def refused(store: Store, tables: tuple[Table, Table], train: dict[str, object]) -> DataError:
    with pytest.raises(DataError) as caught:
        signed(store, tables, train=train)
    return caught.value


def test_each_value_that_the_catalog_states_of_a_file_is_compared(store: Store) -> None:
    tables = both(store, N)
    for role, stated, finding in (
        ("images", {"payload_bytes": 2_000}, "bytes of the images with their header: 2896 (expected 2000)"),
        ("labels", {"payload_bytes": 120}, "bytes of the labels with their header: 128 (expected 120)"),
        ("labels", {"sum": 541}, "sum of all labels: 540 (expected 541)"),
        ("labels", {"shape": (8,)}, "shape of a label: () (expected (8,))"),
    ):
        error = refused(store, tables, train={role: stated})
        assert (error.found, error.file) == (f"1 finding in the data of 'small': train: {finding}", f"train-{role}")


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4"])
def test_a_stated_sum_is_that_of_whole_numbers_of_any_size(store: Store, dtype: str) -> None:
    tables = both(store, N, dtype=dtype)
    total = int(drawn(N, dtype=dtype).sum(dtype="i8"))
    assert f"sum of all pixels: {total} (" in refused(store, tables, train={"images": {"sum": total + 1}}).found
    assert receipt_of(store, tables, train={"images": {"sum": total}})


def test_no_sum_can_be_stated_of_floats(store: Store) -> None:
    found = refused(store, both(store, N, dtype="f4"), train={"images": {"sum": 3}}).found
    assert "sum of all pixels: none, for float32 are no whole numbers (expected 3)" in found
