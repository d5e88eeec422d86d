"""Upkeep: removing old runs with all that only they needed. Said before it is done; the newest runs always stay."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from flows.attempts import Attempt, Attempts
from flows.embedded import bind_embedded_server
from flows.runs import manifests, print_json
from schemas.errors import ConfigurationError
from tasks.retention import Waste, size_of, waste_of
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

YOUNG_SECONDS: Final = 86_400.0


@dataclass(frozen=True)
class Keeping:
    """Which published runs stay: of each dataset and preset the newest, and what either rule keeps.

    Attributes:
        runs: So many of each dataset and preset; None: no such rule.
        days: Those younger than so many days; None: no such rule.
    """

    runs: int | None
    days: float | None

    def kept(self, known: Sequence[tuple[Path, dict[str, Any]]], now: datetime.datetime) -> set[str]:
        """Names of the runs that stay, of published runs with their manifests, the newest first."""
        kept: set[str] = set()
        seen: dict[tuple[str, str], int] = {}
        for folder, manifest in known:
            kind = (manifest["dataset"], manifest["preset"])
            seen[kind] = seen.get(kind, 0) + 1
            age = now - datetime.datetime.fromisoformat(manifest["created"])
            young = self.days is not None and age < datetime.timedelta(days=self.days)
            if seen[kind] <= max(self.runs or 0, 1) or young:
                kept.add(folder.name)
        return kept


def clean(artifacts: Path, keeping: Keeping, *, really: bool, as_json: bool) -> None:
    """Say what would be removed, and remove it if that is wanted.

    Raises:
        ConfigurationError: no rule says what is kept.
        StorageError: a run is going on.
    """
    if keeping.runs is None and keeping.days is None:
        raise ConfigurationError("nothing says what is kept", "--keep-runs or --keep-days", "Give one of them, or both")
    with Attempts(artifacts).none_running():
        known, store = manifests(artifacts), Store(artifacts)
        kept = keeping.kept(known, datetime.datetime.now(datetime.UTC))
        runs = [folder for folder, _ in known if folder.name not in kept]
        waste = waste_of(store, kept, time.time() - YOUNG_SECONDS)
        attempts = _old_attempts(artifacts, kept, {folder.name for folder in runs})
        freed = waste.bytes + sum(map(size_of, runs))
        if really:
            _remove(artifacts, runs, waste, attempts)
    _tell(runs, waste, attempts, freed, really=really, as_json=as_json)


def _old_attempts(artifacts: Path, kept: Collection[str], gone: Collection[str]) -> list[Attempt]:
    """Attempts whose run goes, and those that published nothing and are not young."""
    young = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=YOUNG_SECONDS)
    return [
        attempt
        for attempt in Attempts(artifacts).all()
        if attempt.published in gone or (attempt.run not in kept and attempt.created < young)
    ]


def _remove(artifacts: Path, runs: Sequence[Path], waste: Waste, attempts: Sequence[Attempt]) -> None:
    """Prefect's rows and results first, then the runs, then what only they needed: no name outlives its content."""
    asyncio.run(_forget_flow_runs([attempt.flow_run for attempt in attempts]))
    _remove_results(waste.keys)
    for folder in runs:
        away = folder.with_name(f".{folder.name}.removed")  # in one step: no half of a run under its name
        folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)
    waste.remove()
    for attempt in attempts:
        Attempts(artifacts).forget(attempt)


async def _forget_flow_runs(identities: Sequence[str]) -> None:
    """Delete Prefect's rows of flow runs; those it does not have are none to delete."""
    import uuid

    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    bind_embedded_server()
    async with get_client() as client:
        for identity in identities:
            with contextlib.suppress(ObjectNotFound):
                await client.delete_flow_run(uuid.UUID(identity))


def _remove_results(keys: Sequence[str]) -> None:
    """Remove Prefect's copies of what the store remembered."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

    for key in keys:
        (PREFECT_LOCAL_STORAGE_PATH.value() / f"stepwise-{key.replace('/', '-')}").unlink(missing_ok=True)


def _tell(
    runs: Sequence[Path], waste: Waste, attempts: Sequence[Attempt], freed: int, *, really: bool, as_json: bool
) -> None:
    if as_json:
        counts = {"records": len(waste.keys), "attempts": len(attempts), "bytes": freed, "removed": really}
        print_json({"runs": [folder.name for folder in runs], **counts})
        return
    verb = "Removed" if really else "Would remove"
    table = Table("what", title=f"{verb} {freed / 1e6:,.1f} MB", title_justify="left")
    table.add_column("how many", justify="right")
    table.add_row("published runs", str(len(runs)))
    table.add_row("records of what steps gave", str(len(waste.keys)))
    table.add_row("outputs and left-overs", str(len(waste.paths) - len(waste.keys)))
    table.add_row("attempts, with Prefect's rows", str(len(attempts)))
    console = Console()
    console.print(table)
    for folder in runs:
        console.print(f"  {folder.name}", highlight=False)
    if not really:
        console.print("Nothing was removed: add --yes to do it.")
