"""Killing runs from outside, and looking at what is left. Not here: how many, when, and what is demanded (test_kills).

What is left is read with nothing but JSON and hashlib, so that the store's own idea of "whole" is not asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
from flow_support import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = ("run", "--dataset", "glyphs", "--preset", "smoke", "--artifacts")
STUCK_SECONDS = 300.0
# How many lines each stage says when it is done; a run that has said fewer is in that stage.
_LINES = {
    "download": 4,
    "parse": 2,
    "validate": 1,
    "reshape": 2,
    "drift": 1,
    "train": 1,
    "evaluate": 1,
    "compare": 1,
    "publish": 1,
    "promote": 1,
}
_FINISHED = re.compile(r"^((\w+)(?: \w+)*): (done|nothing changed, reused) in ", re.MULTILINE)


@dataclass(frozen=True)
class Moment:
    """When a run is killed: after so many seconds, or once so many paths have appeared under its artifacts root."""

    seconds: float = math.inf
    paths: float = math.inf

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s" if self.seconds < math.inf else f"path {self.paths:.0f}"


@dataclass(frozen=True)
class Ended:
    """A run that came to its end or was killed.

    Attributes:
        said: Everything it printed.
        seconds: How long it lived.
        paths: How many paths had appeared under its artifacts root, vanished ones included.
        code: Its exit code; -9 where it was killed.
    """

    said: str
    seconds: float
    paths: int
    code: int

    @property
    def last_line(self) -> str:
        """The last thing it said."""
        return (self.said.strip().splitlines() or ["nothing yet"])[-1]

    @property
    def finished_steps(self) -> set[str]:
        """The steps that it said were finished."""
        return {found[1] for found in _FINISHED.finditer(self.said)}

    @property
    def reused_steps(self) -> set[str]:
        """Those of them whose output was there already."""
        return {found[1] for found in _FINISHED.finditer(self.said) if found[3] != "done"}

    @property
    def has_published(self) -> bool:
        """Whether it said that it had given a run its name."""
        return re.search("^published ", self.said, re.MULTILINE) is not None

    @property
    def run(self) -> str | None:
        """The published run that it named at its end."""
        named = re.search(r"^run: (\S+)$", self.said, re.MULTILINE)
        return named and named[1]

    @property
    def stage(self) -> str:
        """The stage that it was in, by what it had said."""
        counts = Counter(found[2] for found in _FINISHED.finditer(self.said))
        if not counts:
            return "start"
        return next((stage for stage, lines in _LINES.items() if counts[stage] < lines), "end")


def run_until(home: Path, artifacts: Path, moment: Moment) -> Ended:
    """Run the command in a process group of its own; at the moment, kill the whole group."""
    command = [sys.executable, "-m", "flows.command", *COMMAND, str(artifacts)]
    seen: set[str] = set()
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=environment_of(home), stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            limit = min(moment.seconds, STUCK_SECONDS)
            while process.poll() is None and time.monotonic() - began < limit and len(seen) < moment.paths:
                seen.update(_paths_under(artifacts))
                time.sleep(0.01)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - began
        process.wait(60)
        said.seek(0)
        return Ended(said.read(), seconds, len(seen), process.returncode)


def survivors(home: Path) -> list[str]:
    """Command lines of processes that still live in a home, ten seconds after they should not."""
    deadline = time.monotonic() + 10
    while (found := list(_living_in(home))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def broken_outputs(artifacts: Path) -> list[str]:
    """Objects of the store whose bytes are not those that their handle states, and records that name none such."""
    objects = [path for path in artifacts.glob("store/objects/*/*/*") if path.is_dir()]
    broken = [f"object {folder.parent.parent.name}: {fault}" for folder in objects for fault in _faults_of(folder)]
    for record in artifacts.glob("store/keys/*/[!.]*"):
        places = list(_places_in(json.loads(record.read_bytes())))
        broken += [f"{record.parent.name}'s record names {place}" for place in places if not _is_kept(artifacts, place)]
        broken += [] if places else [f"{record.parent.name}'s record names nothing"]
    return broken


def staged(artifacts: Path) -> set[Path]:
    """What lies in staging."""
    return set(artifacts.glob("store/staging/*"))


def published(artifacts: Path) -> set[Path]:
    """Whatever stands in the folder of runs, whole or not, hidden or not."""
    return set((artifacts / "runs").iterdir()) if (artifacts / "runs").exists() else set()


def manifest_of(run: Path) -> dict[str, Any]:
    """A published run's manifest."""
    manifest: dict[str, Any] = json.loads((run / "manifest.json").read_bytes())
    return manifest


def copy_records(home: Path, copy: Path) -> None:
    """Give a new home Prefect's database of another, so that nothing has to be made before a run begins."""
    (copy / ".prefect").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(home / ".prefect" / "prefect.db")) as database:
        database.execute("vacuum into ?", (str(copy / ".prefect" / "prefect.db"),))


def database_state(home: Path) -> str:
    """What SQLite says of Prefect's database: 'ok', or what is broken."""
    with contextlib.closing(sqlite3.connect(home / ".prefect" / "prefect.db")) as database:
        [[state]] = database.execute("pragma integrity_check(1)").fetchall()
    return str(state)


def _paths_under(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        yield from (f"{place}/{name}" for name in (*folders, *files))


def _living_in(home: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is somebody else's
            if process.environ().get("HOME") == str(home):
                yield " ".join(process.cmdline())


def _faults_of(folder: Path) -> list[str]:
    """How an object differs from its handle."""
    if not (folder / "handle.json").is_file():
        return ["has no handle"]
    stated = {name: seal["sha256"] for name, seal in json.loads((folder / "handle.json").read_bytes())["files"].items()}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    found = {name: _sha256(path) for name, path in there.items() if name != "handle.json"}
    return [f"{name} differs" for name in sorted({*stated, *found}) if stated.get(name) != found.get(name)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _places_in(value: object) -> Iterator[str]:
    """The places of all outputs that a record names."""
    if isinstance(value, dict):
        if "place" in value:
            yield str(value["place"])
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _places_in(part)


def _is_kept(artifacts: Path, place: str) -> bool:
    return any((artifacts / place / name).is_file() for name in ("handle.json", "manifest.json"))
