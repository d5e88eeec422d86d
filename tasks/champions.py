"""The place of a dataset's champion: who holds it, and the history of how it was taken. A foundation.

One file an entry, `champions/DATASET/000001.json` and so on: the newest says who is champion, and nothing is ever
changed or removed. An entry gets its number by a link, which fails where the number is taken: of two promotions at once
one has the place, and the other learns that it came second. Not here: who deserves the place (tasks/compare).
"""

from __future__ import annotations

import datetime
import hashlib
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote

from pydantic import ValidationError

from schemas.champion import Champion, Entry
from schemas.errors import StorageError
from schemas.files import MANIFEST_FILE, RUNS
from schemas.manifest import Manifest
from tasks.seals import sync_folder
from tasks.store import writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.champion import Event, Verdict
    from tasks.store import Store

FOLDER: Final = "champions"
TRIES: Final = 100
Made = TypeVar("Made", Entry, Entry | None)
MOST_SECONDS: Final = 0.05  # between two tries


class PlaceTakenError(Exception):
    """Somebody else wrote the next entry meanwhile."""


class Champions:
    """The place of one dataset's champion, under an artifacts root."""

    def __init__(self, root: Path, dataset: str) -> None:
        self.dataset = dataset
        self.folder = root / FOLDER / quote(dataset, safe=" ")

    def history(self) -> list[Entry]:
        """All entries, the oldest first.

        Raises:
            StorageError: one cannot be read, or one before the newest is missing; that a newest one was removed
                cannot be seen.
        """
        entries = [_entry(path) for path in sorted(self.folder.glob("[0-9]*.json"))]
        if [entry.number for entry in entries] != list(range(1, len(entries) + 1)):
            numbers = ", ".join(str(entry.number) for entry in entries)
            raise StorageError(
                f"the history of champions has the entries {numbers}",
                f"the numbers 1 to {len(entries)}, without a gap",
                "Put back what was removed: who is champion hangs on it",
                str(self.folder),
            )
        return entries

    def newest(self) -> Entry | None:
        """The entry that says who is champion; None where nobody ever was looked at. Raises what `history` raises."""
        history = self.history()
        return history[-1] if history else None

    def champion(self) -> Champion | None:
        """Who holds the place."""
        newest = self.newest()
        return newest.record if newest else None

    def following(
        self,
        newest: Entry | None,
        decision: Event,
        run: str,
        reasons: tuple[str, ...],
        *,
        taking: Champion | None = None,
        by_hand: bool = False,
        verdict: Verdict | None = None,
    ) -> Entry:
        """The entry that follows the newest one; whoever is `taking` the place is champion after it."""
        record = taking or (newest.record if newest else None)
        return Entry(
            number=newest.number + 1 if newest else 1,
            at=datetime.datetime.now(datetime.UTC),
            dataset=self.dataset,
            decision=decision,
            run=run,
            champion=record.run if record else None,
            was=newest.champion if newest else None,
            reasons=reasons,
            by_hand=by_hand,
            record=record,
            verdict=verdict,
        )

    def enter(self, entry: Entry) -> None:
        """Write an entry under its number.

        Raises:
            PlaceTakenError: there is an entry of that number.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".entry-", encoding="utf-8") as file:
                file.write(entry.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                try:
                    os.link(file.name, self.folder / f"{entry.number:06d}.json")
                except FileExistsError as error:
                    raise PlaceTakenError from error
            sync_folder(self.folder)


def all_champions(root: Path) -> list[Champions]:
    """The places of all datasets that were ever looked at."""
    folders = sorted(path for path in (root / FOLDER).glob("*") if path.is_dir())
    return [Champions(root, unquote(folder.name)) for folder in folders]


def entered(place: Champions, make: Callable[[Entry | None], Made]) -> Made:
    """Make an entry that follows the newest one and write it, or none; made anew where somebody else came first.

    Raises:
        StorageError: others kept coming first.
    """
    for _ in range(TRIES):
        entry = make(place.newest())
        if entry is None:
            return entry
        try:
            place.enter(entry)
        except PlaceTakenError:
            time.sleep(random.uniform(0, MOST_SECONDS))  # noqa: S311 - no secret
            continue
        return entry
    raise StorageError(
        f"others wrote the next entry {TRIES} times in a row",
        "a moment without other promotions",
        "Rerun",
        str(place.folder),
    )


def record_of(store: Store, run: str) -> Champion:
    """What identifies the bytes of a published run."""
    content = (store.root / RUNS / run / MANIFEST_FILE).read_bytes()
    manifest = Manifest.model_validate_json(content)
    return Champion(
        run=run,
        manifest=hashlib.sha256(content).hexdigest(),
        weights=manifest.weights,
        accuracy=manifest.accuracy,
    )


def _entry(path: Path) -> Entry:
    try:
        return Entry.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StorageError(
            "an entry of the history of champions cannot be read",
            "an entry as it was written",
            "Put it back from a copy: who is champion hangs on it",
            str(path),
        ) from error
