"""A tracked dataset's files: recorded when seen, compared with the time before, never called verified."""

from __future__ import annotations

import logging
import os
from typing import IO, TYPE_CHECKING

import numpy as np
import pytest

from schemas.catalog import dataset_of_folder
from schemas.errors import ConfigurationError, DataError
from schemas.handles import ROLES, SPLITS
from tasks.download import NoSourceError, fetch, require_one_moment, tell_of_halves
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


def test_files_that_are_replaced_while_they_are_copied_are_refused(folder: Path, tmp_path: Path) -> None:
    """As many labels of another day: no count and no later check would tell."""
    dataset = dataset_of_folder(folder)
    files = list(seen(folder, Store(tmp_path / "artifacts")).values())
    require_one_moment(dataset, files)
    other = tmp_path / "other"
    write_idx(other, np.ones(6, np.uint8))
    other.replace(folder / "train-labels-idx1-ubyte")
    with pytest.raises(
        DataError, match="the train labels were written or replaced while the files were copied"
    ) as refusal:
        require_one_moment(dataset, files)
    assert refusal.value.file is not None
    assert "train-labels-idx1-ubyte" in refusal.value.file
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="written or replaced"):
        require_one_moment(dataset, files)


def test_new_images_beside_the_labels_of_last_time_are_asked_about(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "artifacts")
    for _ in range(2):
        tell_of_halves(seen(folder, store).values())
    write_idx(folder / "train-images-idx3-ubyte", np.ones((6, 3, 3), np.uint8))
    files = seen(folder, store)
    caplog.clear()
    tell_of_halves(files.values())
    assert caplog.messages == [
        "train: the images are others than last time and the labels are not: do they belong together?"
    ]


def test_a_file_that_is_written_to_while_it_is_copied_is_no_file_to_use(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(content: IO[bytes], file: IO[bytes], length: int) -> None:
        file.write(content.read(length))
        with (folder / "train-images-idx3-ubyte").open("r+b") as writer:
            writer.seek(20)
            writer.write(b"changed")
        os.utime(folder / "train-images-idx3-ubyte", ns=(1, 1))  # clocks are coarser than this test

    monkeypatch.setattr("tasks.download.local.shutil.copyfileobj", copied)
    dataset = dataset_of_folder(folder)
    with pytest.raises(NoSourceError, match="was written to while it was copied"):
        fetch(dataset, "train", "images", Store(tmp_path / "artifacts"), lambda *_: None)


def test_images_of_one_dataset_and_labels_of_another_are_not_taken(folder: Path) -> None:
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").rename(folder / f"emnist-digits-{split}-images-idx3-ubyte")
        (folder / f"{split}-labels-idx1-ubyte").rename(folder / f"emnist-letters-{split}-labels-idx1-ubyte")
    with pytest.raises(ConfigurationError, match="the files are named as those of 2 datasets: emnist-digits-train-im"):
        dataset_of_folder(folder)
    for path in folder.glob("*labels*"):
        path.rename(folder / path.name.replace("letters", "Digits"))
    assert dataset_of_folder(folder).mode == "tracked"


def test_where_the_files_lie_is_nothing_that_is_stated_of_them(folder: Path, tmp_path: Path) -> None:
    before = dataset_of_folder(folder).stated
    moved = tmp_path / "elsewhere" / folder.name
    moved.parent.mkdir()
    folder.rename(moved)
    assert dataset_of_folder(moved).stated == before
