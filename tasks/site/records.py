"""What the index reads of published runs, of studies and of champions: small files, each held against the manifest.

A run that is damaged, or of a format that this version does not know, is told as such and never stops the page. Bytes
that are no longer those that were published are not believed. Not here: comparing every byte of large files (`stepwise
show` does), where champions are decided.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from schemas.files import DRIFT_FILE, MANIFEST_FILE, METRICS_FILE, REPORT_FILE, RUNS, STUDIES, STUDY_FILE, TIMINGS_FILE
from schemas.handles import FileSeal
from schemas.manifest import FORMAT, Manifest
from schemas.metrics import Count, Interval, Probability

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHAMPIONS: Final = "champions"
CHOSEN: Final = ("first champion", "promoted", "by hand", "rolled back")  # decisions after which another one stands

Form = TypeVar("Form")


class StudyManifest(BaseModel):
    """What the index needs of a study's manifest."""

    created: AwareDatetime
    dataset: str
    files: dict[str, FileSeal]


class Measured(BaseModel):
    """What the index needs of metrics.json."""

    samples: Count
    accuracy: Probability
    interval: Interval


class Timing(BaseModel):
    """How long a step took, as timings.json has it."""

    step: str
    seconds: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    reused: bool = False


class Drift(BaseModel):
    """What the index needs of drift.json."""

    worst: str
    why_none: str = ""


class Decision(BaseModel):
    """One entry of a dataset's history of champions.

    Attributes:
        number: Its place in the history.
        at: When it was decided.
        dataset: The dataset.
        decision: What was decided: "promoted", "kept", …
        run: The run that it was about.
        champion: The run that is champion after it; None: none.
        reasons: Why, a sentence each.
    """

    number: int
    at: AwareDatetime
    dataset: str
    decision: str
    run: str | None = None
    champion: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spent:
    """What a stage's steps took together, and whether all of them found their outputs there."""

    seconds: float
    reused: bool


@dataclass(frozen=True)
class Run:
    """One published run as the index shows it; what could not be read is None, and `problems` says why."""

    name: str
    created: datetime.datetime | None = None
    dataset: str | None = None
    preset: str | None = None
    accuracy: float | None = None
    interval: Interval | None = None
    samples: int | None = None
    test: str | None = None
    parent: str | None = None
    started_from: str | None = None
    spent: dict[str, Spent] = field(default_factory=dict)
    drift: str | None = None
    report: bool = False
    problems: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(spent.seconds for spent in self.spent.values())

    @property
    def address(self) -> str:
        """The folder's address on the page, whatever characters its name has."""
        return f"runs/{quote(os.fsencode(self.name))}"


@dataclass(frozen=True)
class Failure:
    """One run that was begun and published nothing.

    Attributes:
        run: Its name.
        created: When it began.
        outcome: "failed", "stopped" or "died".
        step: The step that was under way; None: none was, or nobody knows.
        found: What was found there, in one line.
        remedy: What helps; may be empty.
        unanswered: Whether no run of its dataset has ended well since.
    """

    run: str
    created: datetime.datetime
    outcome: str
    step: str | None = None
    found: str = ""
    remedy: str = ""
    unanswered: bool = True


@dataclass(frozen=True)
class Study:
    """One published study as the index shows it; what could not be read is None, and `problems` says why."""

    name: str
    created: datetime.datetime | None = None
    dataset: str | None = None
    page: bool = False
    problems: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The page's address on the index, whatever characters the study's name has."""
        return f"{STUDIES}/{quote(os.fsencode(self.name))}/{STUDY_FILE}"


@dataclass(frozen=True)
class Champions:
    """The histories of champions, by dataset, in their order.

    Attributes:
        histories: What could be read.
        torn: Datasets of which an entry is missing or cannot be read, and what is wrong, a phrase each.
    """

    histories: dict[str, tuple[Decision, ...]] = field(default_factory=dict)
    torn: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def standing(self) -> dict[str, str]:
        """The champion of each dataset that has one, where its history is whole: else nobody knows."""
        whole = {dataset: history for dataset, history in self.histories.items() if dataset not in self.torn}
        last = {dataset: history[-1].champion for dataset, history in whole.items() if history}
        return {dataset: champion for dataset, champion in last.items() if champion}

    @cached_property
    def decisions(self) -> dict[str, str]:
        """What was decided about each run, the last word where there were several; verified again is no new one."""
        entries = (entry for history in self.histories.values() for entry in history)
        words = [(entry.run, entry.decision) for entry in entries if entry.run]
        return dict(words) | {run: decision for run, decision in words if decision != "re-verified"}


def runs_of(artifacts: Path) -> list[Run]:
    """Every published run, the newest first; those whose time is unknown come last."""
    runs = [_run(path.parent) for path in (artifacts / RUNS).glob("[!.]*/manifest.json")]
    oldest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted(runs, key=lambda run: (run.created or oldest, run.name), reverse=True)


def studies_of(artifacts: Path) -> list[Study]:
    """Every published study, the newest first; its name begins with its time."""
    folders = sorted(path.parent for path in (artifacts / STUDIES).glob("[!.]*/manifest.json"))
    return [_study(folder) for folder in reversed(folders)]


def champions_of(artifacts: Path) -> Champions:
    """The histories under `champions/DATASET/NNNNNN.json`; no folder: nobody has decided anything yet."""
    histories: dict[str, tuple[Decision, ...]] = {}
    torn: dict[str, tuple[str, ...]] = {}
    for folder in sorted(path for path in (artifacts / CHAMPIONS).glob("[!.]*") if path.is_dir()):
        dataset = unquote(folder.name)
        problems: list[str] = []
        read = (_understood(Decision, path, problems) for path in sorted(folder.glob("[0-9]*.json")))
        history = sorted((decision for decision in read if decision), key=lambda decision: decision.number)
        numbers = [decision.number for decision in history]
        if not problems and numbers != list(range(1, len(numbers) + 1)):
            problems = [f"of the entries 1 to {numbers[-1]}, {numbers[-1] - len(set(numbers))} are missing"]
        if history:
            histories[dataset] = tuple(history)
        if problems:
            torn[dataset] = tuple(problems)
    return Champions(histories, torn)


def _run(folder: Path) -> Run:
    problems: list[str] = []
    manifest = _understood(Manifest, folder / MANIFEST_FILE, problems)
    if manifest is None:
        return Run(folder.name, report=(folder / REPORT_FILE).is_file(), problems=tuple(problems))
    if manifest.format != FORMAT:
        problems.append(f"format {manifest.format}; this version knows {FORMAT}")
    problems += _missing(folder, manifest.files)
    measured = _sealed(Measured, folder, METRICS_FILE, manifest, problems)
    timings = _sealed(list[Timing], folder, TIMINGS_FILE, manifest, problems)
    drift = _sealed(Drift, folder, DRIFT_FILE, manifest, problems) if DRIFT_FILE in manifest.files else None
    return Run(
        name=folder.name,
        created=manifest.created,
        dataset=manifest.dataset,
        preset=manifest.preset,
        accuracy=(measured or manifest).accuracy,
        interval=(measured or manifest).interval,
        samples=measured.samples if measured else None,
        test=manifest.test,
        parent=manifest.parent,
        started_from=manifest.started_from,
        spent=_by_stage(timings or ()),
        drift=drift.worst if drift and not drift.why_none else None,
        report=(folder / REPORT_FILE).is_file(),
        problems=tuple(problems),
    )


def _study(folder: Path) -> Study:
    problems: list[str] = []
    page = (folder / STUDY_FILE).is_file()
    manifest = _understood(StudyManifest, folder / MANIFEST_FILE, problems)
    if manifest is None:
        return Study(folder.name, page=page, problems=tuple(problems))
    return Study(folder.name, manifest.created, manifest.dataset, page, tuple(_missing(folder, manifest.files)))


def _missing(folder: Path, files: dict[str, FileSeal]) -> list[str]:
    """Files that are not there, or not of the size that was published; the small ones are read and compared besides."""
    found = []
    for name, seal in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != seal.bytes:
            found.append(f"{name} has {path.stat().st_size:,} bytes, published were {seal.bytes:,}")
    return found


def _sealed(form: type[Form], folder: Path, name: str, manifest: Manifest, problems: list[str]) -> Form | None:
    """A file of the run, where its bytes are those that were published; a file that the manifest has not is older."""
    seal = manifest.files.get(name)
    if seal is None:
        problems.append(f"no {name}: an older format")
        return None
    return _understood(form, folder / name, problems, seal)


def _understood(form: type[Form], path: Path, problems: list[str], seal: FileSeal | None = None) -> Form | None:
    """The content of a JSON file in its form; None where it is not that, with the problem told once."""
    try:
        content = path.read_bytes()
        if seal is None or hashlib.sha256(content).hexdigest() == seal.sha256:
            return TypeAdapter(form).validate_json(content)
        problems.append(f"{path.name} has other bytes than were published")
    except FileNotFoundError:
        if seal is None:  # else it is told as missing already
            problems.append(f"{path.name} is missing")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {os.strerror(error.errno or 0)}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        problems.append(f"{path.name} is damaged or of another format{f', at {where}' if where else ''}")
    return None


def _by_stage(timings: Sequence[Timing]) -> dict[str, Spent]:
    spent: dict[str, Spent] = {}
    for timing in timings:
        stage = timing.step.partition(" ")[0]
        before = spent.get(stage, Spent(0.0, reused=True))
        spent[stage] = Spent(before.seconds + timing.seconds, reused=before.reused and timing.reused)
    return spent
