"""A run that was named, and killed before anybody remembered it: the next try takes it up, and takes up no other."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from manifests import manifest_of

from schemas.errors import StorageError
from tasks.publish import _named_before
from tasks.published import manifest_digest, write_manifest
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

CREATED = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)


def known(store: Store, **changes: object) -> Any:  # noqa: ANN401 - what publishing returns
    values = {"created": CREATED, "weights": "b" * 64, "test": "c" * 64, **changes}
    subject: Any = SimpleNamespace(run="run", created=values["created"])
    outcome: Any = SimpleNamespace(
        trained=SimpleNamespace(model=SimpleNamespace(digest=values["weights"])),
        tables=(None, SimpleNamespace(table=SimpleNamespace(digest=values["test"]))),
        evaluation=SimpleNamespace(accuracy=0.9, interval=(0.8, 0.95)),
    )
    return _named_before(store, subject, outcome)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store beside a published run."""
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / "model.keras").write_text("weights")
    facts = manifest_of("run", created=CREATED, weights="b" * 64, test="c" * 64).model_dump(mode="json")
    write_manifest(folder, {name: value for name, value in facts.items() if name != "files"})
    return Store(tmp_path)


def test_the_same_run_is_taken_up(store: Store) -> None:
    published = known(store)
    assert (published.run, published.place, published.manifest) == (
        "run", "runs/run", manifest_digest(store.root / "runs" / "run"),
    )  # fmt: skip
    assert (published.accuracy, published.interval) == (0.9, (0.8, 0.95))


def test_where_there_is_none_there_is_nothing_to_take_up(tmp_path: Path) -> None:
    assert known(Store(tmp_path)) is None


@pytest.mark.parametrize(
    "changes", [{"created": CREATED + datetime.timedelta(seconds=1)}, {"weights": "d" * 64}, {"test": "d" * 64}]
)
def test_another_run_of_that_name_is_refused(store: Store, changes: dict[str, object]) -> None:
    with pytest.raises(StorageError, match="a run named run is published already"):
        known(store, **changes)


@pytest.mark.parametrize("file", ["model.keras", "manifest.json"])
def test_a_damaged_one_is_refused(store: Store, file: str) -> None:
    (store.root / "runs" / "run" / file).write_text("others")
    with pytest.raises(StorageError, match="a run named run is published already"):
        known(store)
