"""A tracked dataset's files: recorded when seen, compared with the time before, never called verified."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from schemas.catalog import dataset_of_folder
from schemas.handles import ROLES, SPLITS
from tasks.download import fetch
from tasks.idx import write_idx
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.handles import SourceFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "digits"
    place.mkdir()
    for split, rows in (("train", 6), ("t10k", 4)):
        write_idx(place / f"{split}-images-idx3-ubyte", np.zeros((rows, 3, 3), np.uint8))
        write_idx(place / f"{split}-labels-idx1-ubyte", np.arange(rows, dtype=np.uint8) % 2)
    return place


def seen(folder: Path, store: Store) -> dict[str, SourceFile]:
    dataset = dataset_of_folder(folder)
    return {
        f"{split} {role}": fetch(dataset, split, role, store, lambda *_: None) for split in SPLITS for role in ROLES
    }


def test_growing_data_is_noticed_and_never_called_verified(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "artifacts")
    first = seen(folder, store)
    assert {file.verified for file in first.values()} == {"recorded"}
    assert {file.previous for file in first.values()} == {None}
    again = seen(folder, store)
    assert not any(file.changed for file in again.values())
    write_idx(folder / "train-images-idx3-ubyte", np.zeros((7, 3, 3), np.uint8))
    write_idx(folder / "train-labels-idx1-ubyte", np.arange(7, dtype=np.uint8) % 2)
    with caplog.at_level(logging.WARNING, "stepwise"):
        grown = seen(folder, store)
    changed = {name for name, file in grown.items() if file.changed}
    assert changed == {"train images", "train labels"}
    assert grown["train images"].previous == first["train images"].idx.digest
    assert "train-images-idx3-ubyte has changed since it was last seen" in caplog.text
