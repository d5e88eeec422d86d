"""Retention: a kept run keeps all that it was made of, back to the files received; the rest goes, once it is old."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest
from samples import objects

from schemas.handles import Handle, Kind, PublishedRun
from tasks.retention import size_of, waste_of
from tasks.store import INITIAL_WEIGHTS, Store

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

LONG_AGO = time.time() - 1_000_000


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
    waste = waste_of(store, {"new"}, time.time())
    assert sorted(waste.keys) == ["evaluate/evaluation old", "publish/old", "train/model lost", "train/model old"]
    waste.remove()
    assert all(store.is_whole(handles[name]) for name in ("file", "table", "x", "new"))
    assert {place.split("/")[1] for place in objects(store)} == {"idx", "table", "sequences", "model", "evaluation"}
    assert len(objects(store, "model")) == len(objects(store, "evaluation")) == 1
    assert [record.key for record in store.records("publish")] == ["new"]
    assert waste_of(store, {"new"}, time.time()).paths == []


def test_the_weights_of_a_warm_start_lie_with_their_run(store: Store) -> None:
    """Or a weekly warm start would keep every model and table that ever was."""
    handles = two_runs(store)
    read = {"sequences": handles["x"].digest, INITIAL_WEIGHTS: handles["old"].digest}
    store.remember("train", "model new", {"step": "train", "components": {"inputs": read}}, handles["new"])
    aged(store)
    waste_of(store, {"new"}, time.time()).remove()
    assert len(objects(store, "model")) == 1


def test_without_runs_everything_goes(store: Store) -> None:
    two_runs(store)
    aged(store)
    before = sum(size_of(store.place / place) for place in objects(store))
    waste = waste_of(store, set(), time.time())
    assert waste.bytes > before > 0
    waste.remove()
    assert objects(store) == set()


def test_what_is_young_stays(store: Store) -> None:
    """A run that failed an hour ago may be run again."""
    two_runs(store)
    assert waste_of(store, {"new"}, time.time() - 3600).paths == []


def test_half_made_work_and_damaged_outputs_go_when_they_are_old(store: Store) -> None:
    for name in ("partial", "damaged", "met"):
        (store.place / name / "some").mkdir(parents=True)
        (store.place / name / "some" / "file").write_text("1234")
    assert waste_of(store, set(), time.time() - 3600).paths == []
    aged(store)
    waste = waste_of(store, set(), time.time())
    assert {path.parent.name for path in waste.paths} == {"partial", "damaged", "met"}
    assert waste.bytes == 12
