"""A run that is killed at any moment costs time and nothing else: what exists is whole, the next run mends the rest.

Kills are drawn by time (a uniform moment of a run) and by paths (a uniform one of what it writes): by time alone, most
fall into imports and training, and hardly any into the moments when outputs get their names.

STEPWISE_KILL_SEED repeats the moments of an earlier session; STEPWISE_KILLS is the number of kills of `make soak`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flow_support import run_command
from kills import (
    Ended,
    Moment,
    broken_outputs,
    copy_records,
    database_state,
    manifest_of,
    published,
    run_until,
    staged,
    survivors,
)

from schemas.ledger import Ledger
from schemas.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

# Files of a published run that hold neither a time nor a machine's speed: equal runs have equal bytes.
TIMELESS = ("configuration.json", "ledger.json", "metrics.json", "predictions.parquet", "receipt.json")
HEADER = (
    "| killed at | lived | stage | last line | steps finished | right again after | steps reused | faults |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Kill:
    """One kill: the moment, how the run ended, and what was wrong with what it left."""

    moment: Moment
    ended: Ended
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Repair:
    """The run after the last kill: how it ended, and what was wrong with its outcome."""

    ended: Ended
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One artifacts folder: its kills, and the run that came to its end after them."""

    kills: tuple[Kill, ...]
    repair: Repair

    @property
    def faults(self) -> list[str]:
        """Everything that was wrong, after a kill or after the repair."""
        return [*(fault for kill in self.kills for fault in kill.faults), *self.repair.faults]

    def rows(self) -> str:
        """A row of the table for each kill."""
        return "\n".join(self._row(kill, last=kill is self.kills[-1]) for kill in self.kills)

    def _row(self, kill: Kill, *, last: bool) -> str:
        ended, repair = kill.ended, self.repair.ended
        faults = (*kill.faults, *(self.repair.faults if last else ()))
        said = re.sub(r"/\S+", "…", ended.last_line)[:60]
        at = (str(kill.moment), f"{ended.seconds:.1f} s", ended.stage, said, str(len(ended.finished_steps)))
        again = (f"{repair.seconds:.1f} s", str(len(repair.reused_steps))) if last else ("killed again", "")
        return f"| {' | '.join((*at, *again, '; '.join(faults) or 'none'))} |"


def tried(home: Path, artifacts: Path, reference: Path, moments: Sequence[Moment], *, aged: bool) -> Trial:
    """Kill runs into one artifacts folder at these moments, then let one come to its end.

    Args:
        home: Where Prefect keeps its records; outlives the trial.
        artifacts: A folder that does not exist yet.
        reference: The published run of an undisturbed folder.
        moments: When to kill, one run each.
        aged: Set what the kills left in staging back by ten minutes, so that the next run has to remove it.
    """
    kills: list[Kill] = []
    for moment in moments:
        before = published(artifacts)
        ended = run_until(home, artifacts, moment)
        kills.append(Kill(moment, ended, tuple(faults_after_kill(home, artifacts, before, ended))))
        if aged:
            for left in staged(artifacts):
                os.utime(left, (time.time() - 600,) * 2)
    finished = {step for kill in kills for step in kill.ended.finished_steps}
    return Trial(tuple(kills), repaired(home, artifacts, reference, finished, aged=aged))


def faults_after_kill(home: Path, artifacts: Path, before: set[Path], ended: Ended) -> list[str]:
    """What is wrong with what a killed run left."""
    faults = [f"outlived the kill: {command}" for command in survivors(home)]
    faults += broken_outputs(artifacts) + broken_runs(home, artifacts)
    if ended.code not in {0, -9}:
        faults.append(f"the run failed before it was killed, exit code {ended.code}: {ended.said[-2000:]}")
    made = len(published(artifacts) - before)
    if made > 1 or (ended.has_published and not made):
        faults.append(f"{made} runs were published by a run whose last line was: {ended.last_line}")
    return faults


def broken_runs(home: Path, artifacts: Path) -> list[str]:
    """Half-published runs: what the command lists must be all that is there, with every file as published."""
    there = {folder.name for folder in published(artifacts)}
    listed = {run["run"] for run in answered(home, artifacts, "runs")}
    broken = [f"runs/{name} is listed or there, not both" for name in there ^ listed]
    broken += [f"runs/{name}/{file} is damaged" for name in listed for file in damage(home, artifacts, name)]
    attempts = answered(home, artifacts, "runs", "--all")
    return broken + [f"{each['run']} is said to be running" for each in attempts if each["outcome"] == "running"]


def damage(home: Path, artifacts: Path, run: str) -> list[str]:
    """The files of a published run that are not what was published, as the command tells them."""
    damaged: list[str] = answered(home, artifacts, "show", run)["damaged"]
    return damaged


def answered(home: Path, artifacts: Path, *words: str) -> Any:  # noqa: ANN401 - JSON
    """What the command answers to a program."""
    return json.loads(run_command(home, *words, "--artifacts", artifacts, "--json").stdout)


def repaired(home: Path, artifacts: Path, reference: Path, finished: set[str], *, aged: bool) -> Repair:
    """Let the same command come to its end; compare its run with the undisturbed one, its reuse with what was done."""
    before, left = published(artifacts), staged(artifacts)
    ended = run_until(home, artifacts, Moment())
    faults = broken_outputs(artifacts) + broken_runs(home, artifacts)
    made = {folder.name for folder in published(artifacts) - before}
    if ended.code or ended.run is None:
        faults.append(f"exit code {ended.code}: {ended.said[-2000:]}")
        return Repair(ended, tuple(faults))
    if len(made) not in runs_to_make(before, finished) or (made and made != {ended.run}):
        faults.append(f"{len(before)} runs were published; then came {sorted(made)}, and it named {ended.run}")
    remaining = staged(artifacts) if aged else staged(artifacts) - left
    faults += [f"{path.name} is left in staging" for path in remaining]
    faults += [f"{path.name} was set aside as damaged" for path in artifacts.glob("store/damaged/*/*")]
    faults += [
        f"{step} was done before the kill, and is made again" for step in finished - ended.reused_steps - {"promote"}
    ]
    return Repair(ended, (*faults, *differences(artifacts / "runs" / ended.run, reference)))


def runs_to_make(before: set[Path], finished: set[str]) -> set[int]:
    """How many runs the repair may publish: none where publishing was finished, else one.

    A kill between a run's name and the store's record of it leaves a whole run that nobody knows of: either is right.
    """
    if "publish" in finished:
        return {0}
    return {0, 1} if before else {1}


def differences(run: Path, reference: Path) -> list[str]:
    """How a run's outcome differs from an undisturbed one's; its ledger and receipt are verified as well."""
    found, expected = manifest_of(run), manifest_of(reference)
    Ledger.model_validate_json((run / "ledger.json").read_bytes()).verify_complete()
    Receipt.model_validate_json((run / "receipt.json").read_bytes()).verify_signature()
    differing = [name for name in TIMELESS if found["files"][name] != expected["files"][name]]
    differing += ["the weights"] if found["weights"] != expected["weights"] else []
    differing += ["the list of files"] if set(found["files"]) != set(expected["files"]) else []
    return [f"{name} differ from the undisturbed run's" for name in differing]


def drawing() -> np.random.Generator:
    """Where the moments come from; the seed is printed, so that a failure can be repeated."""
    seed = int(os.environ.get("STEPWISE_KILL_SEED") or secrets.randbelow(2**32))
    sys.stdout.write(f"\nSTEPWISE_KILL_SEED={seed}\n")
    return np.random.default_rng(seed)


def seconds_of(smoke_run: SmokeRun) -> float:
    """How long the shared run took, from the first file in its home to its published manifest."""
    first = min(path.stat().st_mtime for path in smoke_run.home.rglob("*") if path.is_file())
    return (smoke_run.folder / "manifest.json").stat().st_mtime - first


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_is_mended_by_the_next(smoke_run: SmokeRun, tmp_path: Path) -> None:
    """One kill, of either kind; the soak has many, and runs that are killed twice."""
    copy_records(smoke_run.home, tmp_path / "home")
    draw, written = drawing(), sum(1 for _ in smoke_run.artifacts.rglob("*"))
    by_path = Moment(paths=int(draw.integers(1, written)))
    moment = by_path if draw.random() < 0.5 else Moment(seconds=draw.uniform(0, seconds_of(smoke_run)))
    trial = tried(tmp_path / "home", tmp_path / "artifacts", smoke_run.folder, [moment], aged=True)
    sys.stdout.write(f"{HEADER}\n{trial.rows()}\n")
    assert trial.faults == []
    assert database_state(tmp_path / "home") == "ok"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(0)  # each run has its own limit
def test_many_kills_cost_time_and_nothing_else(tmp_path: Path) -> None:
    if "STEPWISE_KILLS" not in os.environ:
        pytest.skip("`make soak` says how many")
    draw, kills = drawing(), int(os.environ["STEPWISE_KILLS"])
    home = tmp_path / "home"
    home.mkdir()
    assert run_until(home, tmp_path / "first", Moment()).code == 0, "Prefect makes its database once"
    undisturbed = run_until(home, tmp_path / "undisturbed", Moment())
    [reference] = published(tmp_path / "undisturbed")
    sys.stdout.write(f"undisturbed: {undisturbed.seconds:.1f} s, {undisturbed.paths} paths\n{HEADER}\n")
    trials: list[Trial] = []
    while (done := sum(len(trial.kills) for trial in trials)) < kills:
        number = len(trials)
        by_time = Moment(seconds=draw.uniform(0, undisturbed.seconds))
        by_path = Moment(paths=int(draw.integers(1, undisturbed.paths)))
        second = Moment(seconds=draw.uniform(0, undisturbed.seconds))
        moments = [by_path if number % 2 else by_time, *([second] if number % 4 == 2 and done + 2 <= kills else [])]
        artifacts = tmp_path / f"artifacts-{number}"
        trials.append(tried(home, artifacts, reference, moments, aged=number % 3 == 0))
        sys.stdout.write(trials[-1].rows() + "\n")
        sys.stdout.flush()
        if not trials[-1].faults:
            shutil.rmtree(artifacts)
    seconds = [trial.repair.ended.seconds for trial in trials]
    sys.stdout.write(
        f"{kills} kills in {len(trials)} folders; right again after {min(seconds):.1f} to {max(seconds):.1f} s, "
        f"median {statistics.median(seconds):.1f} s; undisturbed {undisturbed.seconds:.1f} s\n"
    )
    assert [fault for trial in trials for fault in trial.faults] == []
    assert database_state(home) == "ok"
