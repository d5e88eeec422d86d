"""Removing old runs with all that only they needed. Said before it is done; the newest runs and champions stay.

Not here: doing it on a schedule (installation/upkeep), what of the store nothing needs any more (tasks/retention).
"""

from __future__ import annotations

import contextlib
import datetime
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from flows.attempts import ENDED_BADLY, ENDED_WELL, Attempt, Attempts
from flows.champion import champions_kept
from flows.embedded import bind_embedded_server
from flows.index import index_renewed
from flows.runs import print_json, published
from schemas.errors import ConfigurationError
from schemas.files import MANIFEST_FILE, RECEIPT_FILE, RUNS
from schemas.receipt import Receipt
from tasks.retention import YOUNG_SECONDS, Waste, removed, size_of, waste_of
from tasks.store import Store, writing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from schemas.manifest import Manifest

AWAY: Final = ".{name}.removed"  # what a run is called while it is removed


@dataclass(frozen=True)
class Keeping:
    """Which published runs stay: of each dataset and preset the newest, and what either rule keeps.

    Attributes:
        runs: So many of each dataset and preset; None: no such rule.
        days: Those younger than so many days; None: no such rule.
    """

    runs: int | None
    days: float | None

    def kept(
        self,
        known: Sequence[tuple[Path, Manifest]],
        now: datetime.datetime,
        ended: Mapping[str, datetime.datetime] | None = None,
    ) -> set[str]:
        """Names of the runs that stay.

        Args:
            known: Published runs with their manifests, the newest first.
            now: The time.
            ended: When a run was published, by name, where that is on record: one that failed at first, and was tried
                again after others, is newer than these.
        """
        kept: set[str] = set()
        seen: dict[tuple[str, str], int] = {}
        ends = {folder.name: (ended or {}).get(folder.name, manifest.created) for folder, manifest in known}
        for folder, manifest in sorted(known, key=lambda run: ends[run[0].name], reverse=True):
            kind = (manifest.dataset, manifest.preset)
            seen[kind] = seen.get(kind, 0) + 1
            age = now - _published(folder, manifest)
            young = self.days is not None and age < datetime.timedelta(days=self.days)
            if seen[kind] <= max(self.runs or 0, 1) or young:
                kept.add(folder.name)
        return kept


def _published(folder: Path, manifest: Manifest) -> datetime.datetime:
    """When a run was published: a run that failed at first, and was tried again days later, is as old as its end."""
    with contextlib.suppress(OSError):
        written = (folder / MANIFEST_FILE).stat().st_mtime
        return max(manifest.created, datetime.datetime.fromtimestamp(written, datetime.UTC))
    return manifest.created


@dataclass(frozen=True)
class Cleaning:
    """What was removed, or would be.

    Attributes:
        runs: Names of published runs.
        records: How many records of what steps gave.
        outputs: How many outputs and left-overs in the store.
        attempts: How many attempts, with Prefect's rows.
        bytes: What it frees.
    """

    runs: tuple[str, ...]
    records: int
    outputs: int
    attempts: int
    bytes: int

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What and how many, for a table."""
        return [
            ("published runs", f"{len(self.runs):,}"),
            ("records of what steps gave", f"{self.records:,}"),
            ("outputs and left-overs", f"{self.outputs:,}"),
            ("attempts, with Prefect's rows", f"{self.attempts:,}"),
        ]


def clean(artifacts: Path, keeping: Keeping, *, really: bool, as_json: bool) -> None:
    """Say what would be removed, and remove it if that is wanted; raises what `cleaned` raises."""
    _tell(cleaned(artifacts, keeping, really=really), really=really, as_json=as_json)


def cleaned(artifacts: Path, keeping: Keeping, *, really: bool) -> Cleaning:
    """Find what is not kept, and remove it if that is wanted.

    Raises:
        ConfigurationError: no rule says what is kept.
        RunGoesOnError: a run is going on.
    """
    if keeping.runs is None and keeping.days is None:
        raise ConfigurationError(
            "nothing says what is kept",
            "--keep-runs or --keep-days, or `retention` in the installation's file",
            "Give one of them, or both",
        )
    with Attempts(artifacts).none_running():
        (known, unreadable), store = published(artifacts), Store(artifacts)
        known_attempts = Attempts(artifacts).all()
        ended = {each.run: each.ended for each in known_attempts if each.outcome == "published" and each.ended}
        kept = keeping.kept(known, datetime.datetime.now(datetime.UTC), ended) | champions_kept(artifacts)
        kept |= _begun_with(known, known_attempts, kept) | unreadable  # what nobody can judge stays, with all it needs
        runs = [folder for folder, _ in known if folder.name not in kept]
        made_of: dict[str, set[str]] = {folder.name: _stated(folder, manifest) for folder, manifest in known}
        made_of |= {run: set() for run in unreadable}
        gone = {folder.name for folder in runs}
        waste = waste_of(store, {run: made_of[run] for run in made_of.keys() - gone}, time.time())
        attempts = _old_attempts(known_attempts, kept, gone)
        for half in sorted((artifacts / RUNS).glob(AWAY.format(name="*"))):  # of a removal that was killed
            waste.add(half)
        freed = waste.bytes + sum(map(size_of, runs))
        if really:
            _remove(artifacts, runs, waste, attempts)
            index_renewed(artifacts)
    names = tuple(folder.name for folder in runs)
    return Cleaning(names, len(waste.keys), len(waste.paths) - len(waste.keys), len(attempts), freed)


def _begun_with(known: Sequence[tuple[Path, Manifest]], attempts: Sequence[Attempt], kept: Collection[str]) -> set[str]:
    """Runs whose weights something that stays began with, or may begin with when it is tried again."""
    policies = [attempt.parameters.get("policy") or {} for attempt in attempts if attempt.published in {None, *kept}]
    asked = {policy["start_from"] for policy in policies if policy.get("start_from")}
    asked |= {manifest.started_from for folder, manifest in known if folder.name in kept and manifest.started_from}
    return {folder.name for folder, _ in known if any(name in folder.name for name in asked)}


def _stated(folder: Path, manifest: Manifest) -> set[str]:
    """Digests of outputs that a run states itself: its model's, its tables', its files'."""
    stated = {manifest.weights, *filter(None, [manifest.test])}
    with contextlib.suppress(OSError, ValidationError):
        receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
        stated |= {table.digest for table in receipt.tables} | {file.payload_sha256 for file in receipt.files}
    return stated


def _old_attempts(attempts: Sequence[Attempt], kept: Collection[str], gone: Collection[str]) -> list[Attempt]:
    """Attempts whose run goes, and those that published nothing and are not young.

    One that ended badly stays until a later one of its dataset and preset ended well: nobody has answered it yet.
    """
    young = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=YOUNG_SECONDS)
    old, well = [], set()
    for attempt in attempts:  # the newest first
        kind = (attempt.dataset, attempt.preset)
        unanswered = attempt.outcome in ENDED_BADLY and kind not in well
        if attempt.outcome in ENDED_WELL:
            well.add(kind)
        aged = attempt.run not in kept and attempt.created < young and not unanswered
        if attempt.published in gone or aged:
            old.append(attempt)
    return old


def _remove(artifacts: Path, runs: Sequence[Path], waste: Waste, attempts: Sequence[Attempt]) -> None:
    """Prefect's rows and results first, then the runs, then what only they needed: no name outlives its content.

    Raises:
        StorageError: something cannot be removed; everything else is.
    """
    forgotten = _forget_flow_runs([attempt.flow_run for attempt in attempts])
    _remove_results(waste.keys)
    for attempt in attempts:
        if attempt.flow_run in forgotten:
            Attempts(artifacts).forget(attempt)
    removed([*waste.paths, *[_without_a_name(folder) for folder in runs]])
    Store(artifacts).forget_locks(time.time() - YOUNG_SECONDS)


def _without_a_name(folder: Path) -> Path:
    """Take a run's name away, in one step: no half of it is ever under its name."""
    away = folder.with_name(AWAY.format(name=folder.name))
    if away.exists():  # of a removal that was killed, of a run that somebody put back since
        removed([away])
    with writing(folder):
        return folder.rename(away)


def _forget_flow_runs(identities: Sequence[str]) -> set[str]:
    """Delete Prefect's rows of flow runs, and return whose are gone; those it does not have are none to delete.

    One that somebody has just had tried again stays, though nothing of it runs yet.
    """
    import uuid

    from prefect import get_client

    if not identities:
        return set()
    bind_embedded_server()
    with get_client(sync_client=True) as client:
        forgotten = set()
        for identity in identities:
            if not _goes_on(client, uuid.UUID(identity)):  # asked now: removing takes a while
                forget(client, uuid.UUID(identity))
                forgotten.add(identity)
    return forgotten


def _goes_on(client: SyncPrefectClient, flow_run: UUID) -> bool:
    """Whether a run waits for its next try, or is at it: one that was just taken up waits until nothing is removed."""
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound

    with contextlib.suppress(ObjectNotFound):
        state = client.read_flow_run(flow_run).state
        age = datetime.datetime.now(datetime.UTC) - state.timestamp if state else datetime.timedelta.max
        under_way = {StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING}
        young = age < datetime.timedelta(seconds=YOUNG_SECONDS)
        return state is not None and (
            state.type in {StateType.SCHEDULED, StateType.PENDING} or (state.type in under_way and young)
        )
    return False


def forget(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Delete what Prefect has of a flow run; its artifacts and its result would outlive the run's own row."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.exceptions import ObjectNotFound

    result = _result_of(client, flow_run)  # now: it is known by an artifact
    of = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
    while found := client.read_artifacts(artifact_filter=of):
        for artifact in found:
            with contextlib.suppress(ObjectNotFound):
                client.delete_artifact(artifact.id)
    with contextlib.suppress(ObjectNotFound):
        client.delete_flow_run(flow_run)
    _remove_result(result)


def _result_of(client: SyncPrefectClient, flow_run: UUID) -> str | None:
    """The key of what a flow run returned."""
    from prefect.exceptions import ObjectNotFound

    with contextlib.suppress(ObjectNotFound):
        state = client.read_flow_run(flow_run).state
        return getattr(state.data, "storage_key", None) if state else None
    return None


def _remove_results(keys: Sequence[str]) -> None:
    """Remove Prefect's copies of what the store remembered."""
    for key in keys:
        _remove_result(f"stepwise-{key.replace('/', '-')}")


def _remove_result(key: str | None) -> None:
    """Remove a file of Prefect's results on this machine, whatever folder its key names."""
    from pathlib import Path

    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

    if key and (name := Path(key).name):
        (PREFECT_LOCAL_STORAGE_PATH.value() / name).unlink(missing_ok=True)


def _tell(cleaning: Cleaning, *, really: bool, as_json: bool) -> None:
    if as_json:
        counts = {"records": cleaning.records, "attempts": cleaning.attempts, "bytes": cleaning.bytes}
        print_json({"runs": [*cleaning.runs], **counts, "removed": really})
        return
    verb = "Removed" if really else "Would remove"
    table = Table("what", title=f"{verb} {cleaning.bytes / 1e6:,.1f} MB", title_justify="left")
    table.add_column("how many", justify="right")
    for row in cleaning.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for name in cleaning.runs:
        console.print(f"  {name}", highlight=False)
    if not really:
        console.print("Nothing was removed: add --yes to do it.")
