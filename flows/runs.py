"""Published runs: finding, listing and showing them. Not here: making them (tasks/publish)."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.attempts import Attempts
from schemas.errors import ConfigurationError, StorageError
from schemas.files import LEDGER_FILE, MANIFEST_FILE, RUNS
from schemas.ledger import Ledger
from schemas.manifest import Manifest
from tasks.audit import damage_of
from tasks.stage import log

if TYPE_CHECKING:
    from pathlib import Path


def manifests(artifacts: Path) -> list[tuple[Path, Manifest]]:
    """Every published run's folder and manifest, the newest first; a folder without a manifest is no run.

    A manifest that cannot be read is passed over with a warning: one damaged run is no reason to lose the others.
    """
    return published(artifacts)[0]


def published(artifacts: Path) -> tuple[list[tuple[Path, Manifest]], set[str]]:
    """The same, and the names of the runs whose manifest cannot be read."""
    found, unreadable = [], set()
    for path in sorted((artifacts / RUNS).glob(f"[!.]*/{MANIFEST_FILE}")):
        try:
            found.append((path.parent, Manifest.model_validate_json(path.read_bytes())))
        except (OSError, ValidationError):
            log.warning("%s is passed over: its %s cannot be read", path.parent, path.name)
            unreadable.add(path.parent.name)
    return sorted(found, key=lambda entry: (entry[1].created, entry[0].name), reverse=True), unreadable


def find_run(artifacts: Path, name: str) -> tuple[Path, Manifest]:
    """The run of a name, of a part that only one run has, or the latest.

    Raises:
        ConfigurationError: there is none, or more than one.
        StorageError: its manifest cannot be read.
    """
    known, unreadable = published(artifacts)
    if name in unreadable:
        raise StorageError(
            "the manifest of this run cannot be read",
            "a manifest as it was published",
            "Put it back from a copy, or choose another run: see `stepwise runs`",
            str(artifacts / RUNS / name / MANIFEST_FILE),
        )
    exact = [entry for entry in known if entry[0].name == name]
    fitting = exact or (known[:1] if name == "latest" else [entry for entry in known if name in entry[0].name])
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(entry[0].name for entry in (fitting or known)[:5]) or "none yet"
    raise ConfigurationError(
        f"{len(fitting) or 'no'} published run{'s' if len(fitting) > 1 else ''} by the name '{name}'",
        f"the name of one run; published: {names}",
        "See `stepwise runs`" if known else "Make one with `stepwise run`",
        str(artifacts / RUNS),
    )


def list_runs(artifacts: Path, *, as_json: bool) -> None:
    """Print all runs."""
    known = manifests(artifacts)
    if as_json:
        fields = {"run", "created", "dataset", "preset", "accuracy", "interval", "weights"}
        print_json([manifest.model_dump(mode="json", include=fields) for _, manifest in known])
        return
    table = Table(title=f"{len(known)} published run{'' if len(known) == 1 else 's'}", title_justify="left")
    # A name is there to be copied: it is never cut, and the others give way.
    table.add_column("run", no_wrap=True, min_width=max((len(folder.name) for folder, _ in known), default=0))
    table.add_column("dataset")
    table.add_column("preset")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    for folder, manifest in known:
        low, high = manifest.interval
        row = (folder.name, manifest.dataset, manifest.preset)
        table.add_row(*row, f"{manifest.accuracy:.2%}", f"{low:.2%} to {high:.2%}")
    Console().print(table)


def list_attempts(artifacts: Path, *, as_json: bool) -> None:
    """Print everything that was tried: what became of it, and where it stopped."""
    known = Attempts(artifacts).all()
    if as_json:
        print_json([attempt.model_dump(mode="json") for attempt in known])
        return
    table = Table(title=f"{len(known)} run{'' if len(known) == 1 else 's'}", title_justify="left")
    longest = max((len(attempt.run) for attempt in known), default=0)
    table.add_column("run", no_wrap=True, min_width=longest)
    for name in ("became", "published", "stopped at"):
        table.add_column(name, overflow="fold")
    for attempt in known:
        problem = attempt.problem
        where = f"{problem.step or 'its beginning'}: {problem.found}" if problem else ""
        table.add_row(attempt.run, attempt.outcome, attempt.published or "", escape(where))
    Console().print(table)


def write_page(artifacts: Path, *, as_json: bool) -> None:
    """Make the page of all runs anew and print where it is."""
    from flows.index import index_made

    page = index_made(artifacts)
    if as_json:
        print_json({"index": str(page)})
        return
    Console().print(f"index: {page}", soft_wrap=True, highlight=False)


def show_one(artifacts: Path, name: str, *, as_json: bool) -> bool:
    """Print one run: result, ledger, files, and which files are no longer what was published; whether none is."""
    folder, manifest = find_run(artifacts, name)
    damaged = damaged_files(folder, manifest)
    whole = LEDGER_FILE not in damaged
    ledger = Ledger.model_validate_json((folder / LEDGER_FILE).read_bytes()) if whole else None
    if as_json:
        entries = ledger.model_dump(mode="json")["entries"] if ledger else None
        print_json({**manifest.model_dump(mode="json"), "damaged": damaged, "ledger": entries})
    else:
        _show(folder, manifest, damaged, ledger)
    return not damaged


def _show(folder: Path, manifest: Manifest, damaged: list[str], ledger: Ledger | None) -> None:
    console = Console()
    low, high = manifest.interval
    console.print(f"[bold]{folder.name}[/bold]", highlight=False)
    console.print(f"accuracy {manifest.accuracy:.2%}, 95 % interval {low:.2%} to {high:.2%}")
    if ledger:
        console.print(ledger_table(ledger))
    console.print("files: " + (f"[red]damaged: {', '.join(damaged)}[/red]" if damaged else "all as published"))
    if damaged:
        console.print(to_mend(folder), soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def to_mend(folder: Path) -> str:
    """What helps where a published run is damaged."""
    again = (
        f"stepwise rerun {shlex.quote(folder.name)} --task publish --artifacts {shlex.quote(str(folder.parents[1]))}"
    )
    return f"A published run is not mended: `{again}` makes its revision"


def damaged_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of a run's files that are missing or have other bytes than its manifest states."""
    return [name for name, seal in manifest.files.items() if damage_of(folder / name, seal, deep=True)]


def ledger_table(ledger: Ledger) -> Table:
    """The ledger, one station a row, both splits side by side."""
    table = Table("station", title="No sample was lost", title_justify="left")
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    table.add_column("measured by")
    for station in dict.fromkeys(entry.station for entry in ledger.entries):
        counts = [ledger.count(split, station) for split in ("train", "test")]
        stage = next(entry.stage for entry in ledger.entries if entry.station == station)
        table.add_row(station, *("" if count is None else f"{count:,}" for count in counts), stage)
    return table


def print_json(value: object) -> None:
    """Print one JSON value for a program."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
