"""Which images a model has learned from: by the digests of their bytes, through all runs that it goes back to."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from manifests import manifest_in
from samples import drawn, labels_of, parsed, receipt_of

from schemas.handles import FileSeal
from tasks.learned import UNKNOWN, Learned, digests_of, learned_from, learned_in, record_in, write_learned
from tasks.seals import sha256_file
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def published(folder: Path, learned: Learned) -> Path:
    folder.mkdir(parents=True)
    path = folder / "learned.parquet"
    write_learned(learned, path)
    manifest_in(folder, files={path.name: FileSeal(sha256=sha256_file(path), bytes=path.stat().st_size)})
    return folder


def hashed(images: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest()[:16] for image in images]


def padded(digests: NDArray[np.bytes_]) -> list[bytes]:
    return [digest.ljust(16, b"\0") for digest in digests.tolist()]  # NumPy takes zeros at the end for padding


def test_digests_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    images = drawn(700)
    images[300] = images[3]
    table = parsed(Store(tmp_path), images, labels_of(700))
    found = digests_of(Store(tmp_path), table.table)
    assert padded(found) == hashed(images), "among 700 some two end in a zero"
    assert any(digest.endswith(b"\0") for digest in hashed(images))


def test_a_model_knows_what_the_runs_before_it_knew(tmp_path: Path) -> None:
    store, images, other = Store(tmp_path), drawn(50), drawn(60, (4, 6), "u1", 9)
    images[7] = images[8]
    table = parsed(store, images, labels_of(50))
    before = digests_of(store, parsed(store, other, labels_of(60), "test").table)
    run = published(tmp_path / "runs" / "before", Learned(np.unique(before), whole=True))
    cold, warm = learned_from(store, table.table, None), learned_from(store, table.table, run)
    assert padded(cold.images) == sorted(set(hashed(images)))
    assert padded(warm.images) == sorted({*hashed(images), *hashed(other)})
    assert cold.whole
    assert warm.whole
    assert cold.among(before).sum() == 0
    assert warm.among(before).all()
    again = learned_in(store, published(tmp_path / "runs" / "after", warm))
    assert np.array_equal(again.images, warm.images)
    assert again.whole


def test_a_run_that_kept_no_list_is_known_by_its_training_table(tmp_path: Path) -> None:
    """As long as that is there, and where no run before it taught it more."""
    store = Store(tmp_path)
    tables = parsed(store, drawn(50), labels_of(50)), parsed(store, drawn(60, (4, 6), "u1", 9), labels_of(60), "test")
    run = tmp_path / "runs" / "earlier"
    run.mkdir(parents=True)
    (run / "receipt.json").write_text(receipt_of(store, tables).model_dump_json())
    manifest_in(run)
    found = learned_in(store, run)
    assert (found.whole, len(found.images)) == (True, 50)
    assert found.among(digests_of(store, tables[0].table)).all()
    assert record_in(store, run) == tables[0].table.digest
    manifest_in(run, started_from="one before")
    assert record_in(store, run) == UNKNOWN
    manifest_in(run)
    shutil.rmtree(tmp_path / tables[0].table.place)
    assert not learned_in(store, run).whole


@pytest.mark.parametrize("damage", ["no file", "another byte", "no manifest", "not all was known"])
def test_what_is_not_known_is_not_taken_for_nothing(tmp_path: Path, damage: str) -> None:
    table = parsed(Store(tmp_path), drawn(50), labels_of(50))
    run = published(tmp_path / "run", Learned(np.array([b"x" * 16]), whole=damage != "not all was known"))
    path = run / "learned.parquet"
    if damage == "no file":
        path.unlink()
    elif damage == "another byte":
        path.write_bytes(path.read_bytes().replace(b"x" * 16, b"y" * 16))
    elif damage == "no manifest":
        (run / "manifest.json").unlink()
    found = learned_from(Store(tmp_path), table.table, run)
    assert not found.whole
    assert len(found.images) == (51 if damage == "not all was known" else 50)
