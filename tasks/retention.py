"""What may be removed from the store, given the published runs that stay. A foundation of upkeep: decides, removes.

Whatever a published run was made of stays with it: from its record back through the records of every step, by digest.
Nothing is removed while a run goes on. Not here: which runs stay (flows/clean).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.errors import StorageError
from schemas.plan import STAGES
from tasks.store import INITIAL_WEIGHTS
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from tasks.store import Record, Store

YOUNG_SECONDS: Final = 86_400.0
PARTIAL_SECONDS: Final = 14 * YOUNG_SECONDS


@dataclass
class Waste:
    """What nothing needs any more.

    Attributes:
        keys: Names of records, "stage/key".
        paths: Folders and files, records included.
        bytes: What removing them frees.
    """

    keys: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    bytes: int = 0

    def add(self, path: Path) -> None:
        """Count one more folder or file."""
        self.paths.append(path)
        self.bytes += size_of(path)


def removed(paths: Iterable[Path]) -> None:
    """Remove folders and files, and everything that can be where something cannot.

    Raises:
        StorageError: something is still there, with the reason of the first.
    """
    left: list[OSError] = []
    for path in paths:
        try:
            _remove(path)
        except OSError as error:
            left.append(error)
            shutil.rmtree(path, ignore_errors=True)  # the rest of it
    if left:
        raise StorageError(
            f"{counted(len(left), 'folder or file')} cannot be removed, the first: {left[0].strerror}",
            "what belongs to who removes it, on a disk that can be written",
            "See whose it is (ls -l), then remove it or give the right to; everything else was removed",
            str(left[0].filename),
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def waste_of(store: Store, made_of: Mapping[str, Collection[str]], now: float) -> Waste:
    """What the store holds that no kept run was made of.

    Args:
        store: The store.
        made_of: The published runs that stay, by name, with the digests of outputs that they state themselves: their
            records may be another run's by now. One that states none, and of which no record tells, keeps everything.
        now: time.time(); what is younger than a day stays, for a run that failed may be run again, and checkpoints for
            two weeks, for a training may go on a budget a week.
    """
    waste, older_than = Waste(), now - YOUNG_SECONDS
    records = [(stage, record) for stage in STAGES for record in store.records(stage)]
    recorded = {record.value.get("run") for stage, record in records if stage == "publish"}
    if any(not digests and run not in recorded for run, digests in made_of.items()):
        return waste
    kept_runs, needed = made_of.keys(), _needed(records, made_of)
    for stage, record in records:
        if record.made < older_than * 1e9 and not _belongs(stage, record, needed, kept_runs):
            waste.keys.append(f"{stage}/{record.key}")
            waste.add(store.key_path(stage, record.key))
    for place in (store.place / "objects").glob("*/*/*"):
        if place.name not in needed and place.stat().st_mtime < older_than:
            waste.add(place)
    for name, limit in {
        **dict.fromkeys(("damaged", "met", "checked"), older_than),
        "partial": now - PARTIAL_SECONDS,
    }.items():
        for path in _children(store.place / name):
            if _changed(path) < limit:
                waste.add(path)
    return waste


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _changed(path: Path) -> float:
    """When a file, or anything directly in a folder, was last written."""
    inside = path.iterdir() if path.is_dir() else ()
    return max(float(each.lstat().st_mtime) for each in (path, *inside))


def _needed(records: Iterable[tuple[str, Record]], made_of: Mapping[str, Collection[str]]) -> set[str]:
    """Digests of all that the kept runs were made of: what each step read, back to the files received."""
    needed = {digest for digests in made_of.values() for digest in digests}
    waiting = [record for stage, record in records if stage == "publish" and record.value.get("run") in made_of]
    makers: dict[str, list[Record]] = {}
    for _, record in records:
        for handle in record.handles:
            makers.setdefault(handle.digest, []).append(record)
    for digest in tuple(needed):
        for maker in makers.get(digest, []):
            needed |= {handle.digest for handle in maker.handles}
            waiting.append(maker)
    while waiting:
        components = waiting.pop().components.get("inputs", {})
        inputs = {str(digest) for name, digest in components.items() if name != INITIAL_WEIGHTS}
        for digest in inputs - needed:
            needed.add(digest)
            for maker in makers.get(digest, []):
                needed |= {handle.digest for handle in maker.handles}
                waiting.append(maker)
    return needed


def _belongs(stage: str, record: Record, needed: set[str], kept_runs: Collection[str]) -> bool:
    if stage == "publish":
        return record.value.get("run") in kept_runs
    return all(handle.digest in needed for handle in record.handles)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
