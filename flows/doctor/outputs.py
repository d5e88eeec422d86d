"""Examining what runs left: the store, its locks and left-overs, published runs, attempts. Nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flows.attempts import ENDED_BADLY, Attempts, rerun_command
from flows.doctor.finding import bad, size, some, warn, well
from flows.runs import to_mend
from schemas.files import MANIFEST_FILE, RUNS
from tasks.audit import audit, damage_of, left_over, locks_work
from tasks.champions import all_champions
from tasks.published import seals_in, unsound
from tasks.retention import size_of
from tasks.store import Store
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flows.attempts import Attempt
    from flows.doctor.finding import Finding

OLD_DAYS: Final = 14.0
MEND: Final = (
    "Run what needs it again (stepwise rerun RUN): what is damaged is set aside and made anew. Bytes do not change by "
    "themselves: look at the disk"
)
REMOVE: Final = "stepwise clean --keep-runs 10 shows what would go, and with --yes removes it"


def open_store(artifacts: Path) -> Store | None:
    """The store of an artifacts root; None where no run has made one yet, and it is not made here.

    Raises:
        StorageError: it is of another format.
    """
    place = artifacts / "store"
    there = (place / "format.json").exists() or (place / "objects").exists()
    return Store(artifacts) if there else None


def outputs(artifacts: Path, *, deep: bool) -> Iterator[Finding]:
    """Whether the store holds what was committed to it."""
    store = open_store(artifacts)
    if store is None:
        yield well("store", f"none yet at {artifacts}; the first run makes it")
        return
    audited = audit(store, deep=deep)
    if audited.damages:
        yield bad("store", f"{counted(len(audited.damages), 'damaged file')}: {some(audited.damages)}", MEND, 5)
    else:
        yield well(
            "store", f"{counted(audited.outputs, 'output')}, {size(audited.bytes)}, all whole ({_how(deep=deep)})"
        )
    if audited.missing:
        found = f"remembered but not there: {counted(len(audited.missing), 'output')}: {some(audited.missing, 2)}"
        yield warn("store", found, "Nothing has to be done: a run that needs them makes them again")
    yield from _left(store)
    yield from _locks(store)


def _left(store: Store) -> Iterator[Finding]:
    staging, partial, damaged = (left_over(store, kind) for kind in ("staging", "partial", "damaged"))
    if damaged.count:
        found = f"{counted(damaged.count, 'output')} set aside because of damage, {size(damaged.bytes)}"
        yield warn("left-overs", found, f"Look at the disk where it was no person. {REMOVE}")
    if partial.count and partial.days > OLD_DAYS:
        found = f"downloads or trainings that nobody went on with for {partial.days:.0f} days, {size(partial.bytes)}"
        yield warn("left-overs", found, REMOVE)
    elif partial.count:
        found = f"{counted(partial.count, 'download or training')} to go on with, {size(partial.bytes)}"
        yield well("left-overs", found)
    if staging.count:
        found = f"{size(staging.bytes)} of runs that were killed; the next run removes them"
        yield well("left-overs", found)
    if not (staging.count or partial.count or damaged.count):
        yield well("left-overs", "none")


def _locks(store: Store) -> Iterator[Finding]:
    if locks_work(store):
        yield well("locks", "they work here, and end with whoever holds them")
    else:
        found = f"the file system of {store.place} knows none: two runs could do the same work at once"
        yield bad("locks", found, "Put artifacts onto a local disk, or onto a share that knows locks (flock)", 5)


def published(artifacts: Path, *, deep: bool) -> Iterator[Finding]:
    """Whether every published run is whole."""
    folders = [path for path in sorted((artifacts / RUNS).glob("*")) if path.is_dir()]
    halves = [folder for folder in folders if folder.name.startswith(".")]
    runs = [folder for folder in folders if folder not in halves]
    damages = {folder.name: [*_damages(folder, deep=deep)] for folder in runs}
    damaged = [name for name, found in damages.items() if found]
    if damaged:
        told = some(damage for found in damages.values() for damage in found)
        found = f"{len(damaged)} of {counted(len(runs), 'run')} not as published: {told}"
        yield bad("published runs", found, f"{to_mend(artifacts / RUNS / damaged[0])}; and look at the disk", 5)
    else:
        told = f"{len(runs)}, all whole ({_how(deep=deep)})" if runs else "none yet"
        yield well("published runs", told)
    if halves:
        found = f"{counted(len(halves), 'folder')} of a removal that was interrupted, {size(sum(map(size_of, halves)))}"
        yield warn("published runs", found, REMOVE)


def _how(*, deep: bool) -> str:
    return "every byte compared with its digest" if deep else "by presence and size; --deep compares every byte"


def champions(artifacts: Path) -> Iterator[Finding]:
    """Whether every champion is fit to be one: its files, its receipt, its counts."""
    for place in all_champions(artifacts):
        about, champion = f"champion of {place.dataset}", place.champion()
        if champion is None:
            yield warn(about, "nobody yet", "See why: stepwise champion history")
            continue
        problems = unsound(Store(artifacts), f"runs/{champion.run}", champion.manifest)
        if problems:
            remedy = "Nothing is compared with it: stepwise champion rollback, or promote another run by hand"
            yield bad(about, f"{champion.run}: {some(problems)}", f"{remedy}; and look at the disk", 5)
        else:
            yield well(about, f"{champion.run}, {champion.accuracy:.2%}, whole")


def _damages(folder: Path, *, deep: bool) -> Iterator[str]:
    path = folder / MANIFEST_FILE
    try:
        files = seals_in(path.read_bytes())
    except (OSError, ValueError):
        yield f"{path}: it is missing or cannot be read"
        return
    for name, seal in files.items():
        if damage := damage_of(folder / name, seal, deep=deep):
            yield f"{folder / name}: {damage}"


def attempts(store: Store | None) -> Iterator[Finding]:
    """What goes on, and whether the last run of each kind came to a good end."""
    if store is None:
        return
    known = Attempts(store.root).all()
    unreadable = len(list((store.place / "attempts").glob("*.json"))) - len(known)
    if unreadable:
        found = f"{counted(unreadable, 'record')} of runs cannot be read"
        yield warn("runs", found, f"See {store.place / 'attempts'}; a run without a record can still be shown")
    going = [attempt.run for attempt in known if attempt.outcome == "running"]
    newest: dict[tuple[str, str], Attempt] = {}
    for attempt in known:
        if attempt.outcome not in {"running", "planned"}:
            newest.setdefault((attempt.dataset, attempt.preset), attempt)
    ended_badly = [attempt for attempt in newest.values() if attempt.outcome in ENDED_BADLY]
    for attempt in ended_badly:
        yield _unfinished(attempt)
    under_way = f"under way: {some(going)}" if going else "none under way"
    yield well("runs", under_way + ("" if ended_badly or not newest else "; the last of each kind ended well"))


def _unfinished(attempt: Attempt) -> Finding:
    problem = attempt.problem
    at = f" at {problem.step}" if problem and problem.step else ""
    why = f": {problem.found}" if problem else ""
    remedy = f"{problem.remedy.rstrip('.')}. " if problem and problem.remedy else ""
    return warn("runs", f"{attempt.run} {attempt.outcome}{at}{why}", f"{remedy}{rerun_command(attempt)}")
