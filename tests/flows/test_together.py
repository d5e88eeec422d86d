"""Two runs by hand at once and one that is killed: no work is done twice, nothing is damaged, nothing says it runs."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flow_support import environment_of
from install_support import until
from kills import broken_outputs, database_state, survivors

from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.flows.conftest import SmokeRun

# `make test` has the locks that this rests on in test_store.py.
pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

LONGER = ("--set", "training.epochs=30", "--set", "training.seed=77")


class Run:
    """A `stepwise run` in the background."""

    def __init__(self, home: Path, name: str) -> None:
        self._log = home / f"{name}.log"
        command = [sys.executable, "-m", "flows.command", "run", "--dataset", "glyphs", "--preset", "smoke", *LONGER]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--artifacts", str(home / "artifacts")],
                env=environment_of(home), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def trains(self) -> bool:
        """Whether it has TensorFlow loaded, which only who trains has until then."""
        return "tensorflow" in Path(f"/proc/{self.process.pid}/maps").read_text()

    def ends_well(self) -> str:
        assert self.process.wait(300) == 0, self.said
        return self.said


def states(home: Path, of: str) -> Iterator[tuple[str, str]]:
    """Names and states of Prefect's rows of flow runs or task runs."""
    with contextlib.closing(sqlite3.connect(home / ".prefect" / "prefect.db")) as database:
        yield from database.execute(f"select name, state_name from {of}")  # noqa: S608 - ours


def outcomes(artifacts: Path) -> list[str]:
    return sorted(json.loads(path.read_bytes())["outcome"] for path in artifacts.glob("store/attempts/*.json"))


def test_runs_at_once_train_once_and_who_is_killed_in_it_is_gone_on_for(smoke_run: SmokeRun, tmp_path: Path) -> None:
    home, artifacts = tmp_path / "home", tmp_path / "home" / "artifacts"
    shutil.copytree(smoke_run.home, home, symlinks=True)
    runs = [Run(home, "first"), Run(home, "second")]
    until(lambda: list(artifacts.glob("store/partial/train-*/*")), 240, "a checkpoint")
    [trains] = [run for run in runs if run.trains]
    [waits] = [run for run in runs if run is not trains]
    trains.process.kill()  # alone: its server has to notice
    trains.process.wait()
    killed = time.monotonic()
    third = Run(home, "third")
    said = [waits.ends_well(), third.ends_well()]
    print(f"right again after {time.monotonic() - killed:.1f} s")  # noqa: T201
    assert "train: done" not in trains.said
    assert sum("train: done" in text for text in said) == 1, said
    assert sum("\ntrain: nothing changed, reused" in text for text in said) == 1, said
    assert sum("training was interrupted and went on from: " in text for text in said) == 1, said
    assert sum("set to Crashed: Found by the watchdog" in text for text in said) >= 1, said
    assert outcomes(artifacts) == ["died", "published", "published", "unchanged"]
    assert survivors(home) == []
    assert broken_outputs(artifacts) == []
    assert database_state(home) == "ok"
    store = Store(artifacts)
    locks = [path for path in (artifacts / "store" / "locks").iterdir() if store_holds(store, path)]
    assert locks == []
    assert sorted(state for _, state in states(home, "flow_run")) == ["Completed"] * 3 + ["Crashed"]
    assert {state for _, state in states(home, "task_run")} <= {"Completed", "Cached", "Crashed"}


def store_holds(store: Store, path: Path) -> bool:
    """Whether somebody holds a lock's file."""
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
