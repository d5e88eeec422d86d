"""Attempts: what was tried under one artifacts root, each run from its beginning to whatever became of it.

A published run is known by its folder; an attempt is also known while it runs, when it failed, and when nothing had to
be published. Its record holds all parameters, so that it can be run again; its lock is held by the process that runs
it, so that one whose owner died is known as dead. Prefect shows the same; losing Prefect's records loses nothing here.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import shlex
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from schemas.errors import ConfigurationError, StorageError
from schemas.handles import Frozen
from schemas.plan import Stage
from tasks.store import Store, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPKEEP: Final = "upkeep"  # held shared by every run, and alone by whoever removes things

ENDED_BADLY: Final = ("failed", "stopped", "died")
ENDED_WELL: Final = ("published", "unchanged", "skipped")
Outcome = Literal["running", "published", "unchanged", "skipped", "planned", "failed", "stopped", "died"]


def mark_of(flow_run: str) -> str:
    """What tells a run apart in names: the end of its number, for the numbers of one day begin with their time."""
    return flow_run[-4:]


class RunGoesOnError(StorageError):
    """A run is going on, so nothing may be removed."""


class Problem(Frozen):
    """Why an attempt did not end well."""

    step: str | None
    found: str
    expected: str = ""
    remedy: str = ""
    file: str | None = None


class Attempt(Frozen):
    """One run, published or not."""

    run: str
    flow_run: str = Field(description="Prefect's id of the flow run.")
    created: AwareDatetime
    dataset: str
    preset: str
    parameters: dict[str, Any] = Field(description="The flow's parameters, as JSON.")
    outcome: Outcome = "running"
    tries: int = 1
    ended: datetime.datetime | None = None
    published: str | None = Field(default=None, description="The published run that it made, or that still stands.")
    parent: str | None = Field(default=None, description="The run whose task it ran again.")
    rerun: tuple[Stage, ...] = Field(default=(), description="The stages that it was to do again.")
    rerun_only: bool = Field(default=False, description="Whether only those.")
    problem: Problem | None = None


class Attempts:
    """The attempts of one artifacts root."""

    def __init__(self, artifacts: Path) -> None:
        self._store = Store(artifacts)
        self._folder = self._store.place / "attempts"

    @contextlib.contextmanager
    def held(self, attempt: Attempt) -> Iterator[Attempt]:
        """Keep an attempt's record and its lock while it runs; a retry of the same flow run goes on with its record."""
        known = self.of_flow_run(attempt.flow_run)
        again = {"outcome": "running", "ended": None, "problem": None}
        running = attempt
        if known:  # an earlier try may have ended before it could write a record
            running = known.model_copy(update={**again, "tries": max(known.tries + 1, attempt.tries)})
        with self._store.lock(UPKEEP, shared=True), self._store.lock(_lock(running)):
            self.keep(running)
            yield running

    def keep(self, attempt: Attempt) -> None:
        """Write the record."""
        path = self._folder / f"{attempt.run}.json"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, attempt.model_dump_json(indent=1).encode())

    @contextlib.contextmanager
    def none_running(self) -> Iterator[None]:
        """Keep runs from beginning, for as long as things are removed.

        Raises:
            RunGoesOnError: a run is going on.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._store.lock(UPKEEP, wait=False))
            except BlockingIOError:
                going = ", ".join(attempt.run for attempt in self.all() if attempt.outcome == "running")
                raise RunGoesOnError(
                    f"a run is going on ({going or 'it has just begun'})",
                    "no run under way while things are removed",
                    "Wait for its end and try again; nothing was removed",
                ) from None
            yield

    def is_held(self, attempt: Attempt) -> bool:
        """Whether the process that runs an attempt lives, and is not yet done with it."""
        return self._store.is_locked(_lock(attempt))

    def forget(self, attempt: Attempt) -> None:
        """Remove a record."""
        (self._folder / f"{attempt.run}.json").unlink(missing_ok=True)

    def all(self) -> list[Attempt]:
        """Every attempt, the newest first; what says that it runs but whose owner is gone is called dead."""
        found = [self._judged(attempt) for attempt in self._records("*.json")]
        return sorted(found, key=lambda attempt: (attempt.created, attempt.run), reverse=True)

    def newly_dead(self) -> list[Attempt]:
        """The attempts that are dead although their records say that they run: nobody has noticed yet."""
        running = [attempt for attempt in self._records("*.json") if attempt.outcome == "running"]
        return [judged for judged in map(self._judged, running) if judged.outcome == "died"]

    def note_death(self, attempt: Attempt) -> None:
        """Write down that an attempt died, unless it goes on or has been written down otherwise meanwhile.

        Where nothing can be written, its lock goes on saying so.
        """
        refused = BlockingIOError, StorageError
        with contextlib.suppress(*refused), self._store.lock(_lock(attempt), wait=False):
            if [now.outcome for now in self._records(f"{glob.escape(attempt.run)}.json")] == ["running"]:
                self.keep(attempt.model_copy(update={"outcome": "died"}))

    def of_flow_run(self, flow_run: str) -> Attempt | None:
        """The attempt that a flow run of Prefect's is."""
        return next((attempt for attempt in self.all() if attempt.flow_run == flow_run), None)

    def find(self, name: str) -> Attempt:
        """The attempt of a name, of a part that only one has, or the latest.

        Raises:
            ConfigurationError: there is none, or more than one.
        """
        known = self.all()
        exact = [attempt for attempt in known if name in {attempt.run, attempt.flow_run}]
        fitting = exact or (known[:1] if name == "latest" else [attempt for attempt in known if name in attempt.run])
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(attempt.run for attempt in (fitting or known)[:5]) or "none yet"
        raise ConfigurationError(
            f"{len(fitting) or 'no'} run{'s' if len(fitting) > 1 else ''} by the name '{name}'",
            f"the name of one run, published or not; known: {names}",
            "See `stepwise runs --all`" if known else "Make one with `stepwise run`",
            str(self._folder),
        )

    def _records(self, pattern: str) -> Iterator[Attempt]:
        """The attempts as they were written down; a record that cannot be read is passed over."""
        for path in self._folder.glob(pattern):
            with contextlib.suppress(OSError, ValidationError):
                yield Attempt.model_validate_json(path.read_bytes())

    def _judged(self, attempt: Attempt) -> Attempt:
        if attempt.outcome == "running" and not self.is_held(attempt):
            return attempt.model_copy(update={"outcome": "died"})
        return attempt


def rerun_command(attempt: Attempt, joint: str = " ") -> str:
    """The command that runs an attempt again, from whichever folder it is given."""
    place = attempt.parameters.get("artifacts")
    where = [f"--artifacts {shlex.quote(place)}"] if place else []
    return joint.join([f"stepwise rerun {shlex.quote(attempt.run)}", *where])


def _lock(attempt: Attempt) -> str:
    return f"attempt-{attempt.run}"
