"""Retention: a kept run keeps all that it was made of, back to the files received; the rest goes, once it is old."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from samples import objects

from schemas.errors import StorageError
from schemas.handles import Handle, Kind, PublishedRun
from tasks.retention import removed, size_of, waste_of
from tasks.store import INITIAL_WEIGHTS, Store

if TYPE_CHECKING:
    from pydantic import BaseModel

NEW: dict[str, set[str]] = {"new": set()}  # a run that states no digest itself
LONG_AGO = time.time() - 2_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def made(store: Store, stage: str, kind: Kind, name: str, *inputs: Handle) -> Handle:
    """An output of a stage, with its record."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    with store.staging() as folder:
        (folder / "file").write_text(name)
        handle = store.commit(folder, kind=kind, digest=digest, rows=1, shape=(1,), dtype="|u1")
    remember(store, stage, name, handle, *inputs)
    return handle


def remember(store: Store, stage: str, name: str, value: BaseModel, *inputs: Handle) -> None:
    read = {f"input {number}": handle.digest for number, handle in enumerate(inputs)}
    store.remember(stage, name, {"step": stage, "components": {"inputs": read}}, value)


def published(store: Store, run: str, *inputs: Handle) -> None:
    value = PublishedRun(run=run, place="", report="", manifest="", accuracy=1.0, interval=(1.0, 1.0))
    remember(store, "publish", run, value, *inputs)


def aged(store: Store) -> None:
    for path in (*store.place.rglob("*"), store.place):
        os.utime(path, (LONG_AGO, LONG_AGO))


def two_runs(store: Store) -> dict[str, Handle]:
    """Two runs of the same data by two recipes, and a training that nobody published."""
    file = made(store, "download", "idx", "file")
    table = made(store, "parse", "table", "table", file)
    x = made(store, "reshape", "sequences", "x", table)
    models = {name: made(store, "train", "model", f"model {name}", x) for name in ("old", "new", "lost")}
    for name in ("old", "new"):
        evaluation = made(store, "evaluate", "evaluation", f"evaluation {name}", models[name], x)
        published(store, name, table, x, models[name], evaluation)
    return {"file": file, "table": table, "x": x, **models}


def test_a_kept_run_keeps_what_it_was_made_of(store: Store) -> None:
    handles = two_runs(store)
    aged(store)
    waste = waste_of(store, NEW, time.time())
    assert sorted(waste.keys) == ["evaluate/evaluation old", "publish/old", "train/model lost", "train/model old"]
    removed(waste.paths)
    assert all(store.is_whole(handles[name]) for name in ("file", "table", "x", "new"))
    assert {place.split("/")[1] for place in objects(store)} == {"idx", "table", "sequences", "model", "evaluation"}
    assert len(objects(store, "model")) == len(objects(store, "evaluation")) == 1
    assert [record.key for record in store.records("publish")] == ["new"]
    assert waste_of(store, NEW, time.time()).paths == []


def test_the_weights_of_a_warm_start_lie_with_their_run(store: Store) -> None:
    """Or a weekly warm start would keep every model and table that ever was."""
    handles = two_runs(store)
    read = {"sequences": handles["x"].digest, INITIAL_WEIGHTS: handles["old"].digest}
    store.remember("train", "model new", {"step": "train", "components": {"inputs": read}}, handles["new"])
    aged(store)
    removed(waste_of(store, NEW, time.time()).paths)
    assert len(objects(store, "model")) == 1


def test_without_runs_everything_goes(store: Store) -> None:
    two_runs(store)
    aged(store)
    before = sum(size_of(store.place / place) for place in objects(store))
    waste = waste_of(store, {}, time.time())
    assert waste.bytes > before > 0
    removed(waste.paths)
    assert objects(store) == set()


def test_what_is_young_stays(store: Store) -> None:
    """A run that failed an hour ago may be run again."""
    two_runs(store)
    assert waste_of(store, NEW, time.time()).paths == []


def test_half_made_work_and_damaged_outputs_go_when_they_are_old(store: Store) -> None:
    for name in ("partial", "damaged", "met"):
        (store.place / name / "some").mkdir(parents=True)
        (store.place / name / "some" / "file").write_text("1234")
    assert waste_of(store, {}, time.time()).paths == []
    aged(store)
    waste = waste_of(store, {}, time.time())
    assert {path.parent.name for path in waste.paths} == {"partial", "damaged", "met"}
    assert waste.bytes == 12


def test_a_checkpoint_waits_for_two_weeks(store: Store) -> None:
    """A training on a budget, once a week, would else begin anew each time."""
    checkpoint = store.place / "partial" / "train" / "0001.checkpoint"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("1234")
    now, day = time.time(), 86_400
    for path in (checkpoint, checkpoint.parent):
        os.utime(path, (now - 13 * day, now - 13 * day))
    assert waste_of(store, {}, now).paths == []
    os.utime(checkpoint.parent, (now - 15 * day, now - 15 * day))
    assert waste_of(store, {}, now).paths == [], "what lies in it is younger"
    assert waste_of(store, {}, now + 2 * day).paths == [checkpoint.parent]


def test_a_run_whose_record_is_another_runs_by_now_keeps_what_it_states(store: Store) -> None:
    """Its publish was run again, and the run that came of it is gone."""
    handles = two_runs(store)
    (store.key_path("publish", "new")).unlink()
    aged(store)
    stated = {handles["new"].digest, handles["table"].digest, handles["file"].digest}
    removed(waste_of(store, {"new": stated}, time.time()).paths)
    assert all(store.is_whole(handles[name]) for name in ("file", "table", "x", "new"))
    assert len(objects(store, "model")) == 1


def test_a_run_of_which_nothing_is_known_keeps_everything(store: Store) -> None:
    two_runs(store)
    aged(store)
    assert waste_of(store, {"of unknown making": set()}, time.time()).paths == []


def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("one", "theirs", "two")]
    for path in paths:
        path.mkdir()
        (path / "file").write_text("1234")
    unlink = os.unlink

    def refused(path: str, *, dir_fd: int | None = None) -> None:
        if Path(f"/proc/self/fd/{dir_fd}").resolve() == paths[1]:
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(StorageError, match="1 folder or file cannot be removed, the first: Operation not permitted"):
        removed(paths)
    assert [path.exists() for path in paths] == [False, True, False]
