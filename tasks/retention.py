"""What may be removed from the store, given the published runs that stay. A foundation of upkeep: decides, removes.

Whatever a published run was made of stays with it: from its record back through the records of every step, by digest.
Nothing is removed while a run goes on. Not here: which runs stay (flows/clean).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.plan import STAGES
from tasks.store import INITIAL_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from tasks.store import Record, Store


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

    def remove(self) -> None:
        """Remove all of it; records first, so that none names what is gone."""
        for path in self.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def waste_of(store: Store, kept_runs: Collection[str], older_than: float) -> Waste:
    """What the store holds that no kept run was made of.

    Args:
        store: The store.
        kept_runs: Names of the published runs that stay.
        older_than: time.time(); what is younger stays, for a run that failed may be run again.
    """
    waste = Waste()
    records = [(stage, record) for stage in STAGES for record in store.records(stage)]
    needed = _needed(records, kept_runs)
    for stage, record in records:
        if record.made < older_than * 1e9 and not _belongs(stage, record, needed, kept_runs):
            waste.keys.append(f"{stage}/{record.key}")
            waste.add(store.key_path(stage, record.key))
    for place in (store.place / "objects").glob("*/*/*"):
        if place.name not in needed and place.stat().st_mtime < older_than:
            waste.add(place)
    for name in ("partial", "damaged", "met", "checked"):
        for path in _children(store.place / name):
            if path.stat().st_mtime < older_than:
                waste.add(path)
    return waste


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _needed(records: Iterable[tuple[str, Record]], kept_runs: Collection[str]) -> set[str]:
    """Digests of all that the kept runs were made of: what each step read, back to the files received."""
    needed: set[str] = set()
    waiting = [record for stage, record in records if stage == "publish" and record.value.get("run") in kept_runs]
    makers: dict[str, list[Record]] = {}
    for _, record in records:
        for handle in record.handles:
            makers.setdefault(handle.digest, []).append(record)
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
