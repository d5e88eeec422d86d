"""Running the retraining from the command: progress while it runs, a summary after it. Not here: the flow (retrain)."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import tags
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.attempts import ENDED_BADLY, Attempt, Attempts, rerun_command
from flows.console_log import logged
from flows.datasets import resolved
from flows.embedded import bind_embedded_server
from flows.installation.watchdog import reconcile
from flows.retrain import retrain
from flows.runs import ledger_table, print_json
from flows.shutdown import end_in_time
from flows.verdict_card import said
from schemas.files import LEDGER_FILE, METRICS_FILE
from schemas.ledger import Ledger
from schemas.policy import Policy, policy_of
from schemas.presets import validated
from schemas.steps import place
from tasks.stage import Advanced, Finished, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.configuration import RunConfiguration
    from schemas.handles import PublishedRun
    from schemas.plan import Stage


@dataclass(frozen=True)
class Request:
    """What a run is asked for: the flow's parameters."""

    configuration: RunConfiguration
    data: Path | None
    catalogs: tuple[Path, ...]
    artifacts: Path
    policy: Policy = field(default_factory=Policy)
    rerun: tuple[Stage, ...] = ()
    rerun_only: bool = False
    of: str | None = None


def rerun_and_tell(artifacts: Path, name: str, stages: tuple[Stage, ...], *, only: bool, as_json: bool) -> None:
    """Run an attempt again with its own parameters; where stages are named, they and what hangs on them anew.

    One that was to do stages again and did not come to its end is still to do them.

    Raises:
        ConfigurationError: there is no such run, or it had settings that this version does not know.
    """
    attempt = Attempts(artifacts).find(name)
    given = attempt.parameters
    if not stages and attempt.outcome in ENDED_BADLY:
        stages, only = attempt.rerun, attempt.rerun_only
    request = Request(
        validated(given["configuration"], f"record of {attempt.run}"),
        Path(given["data"]) if given["data"] else None,
        tuple(map(Path, given["catalogs"])),
        artifacts,
        policy_of(**given["policy"]),
        stages,
        only,
        attempt.run if stages else None,
    )
    run_and_tell(request, as_json=as_json)


def run_and_tell(request: Request, *, as_json: bool) -> None:
    """Run the DAG; bars in a terminal, plain lines elsewhere, JSON where a program reads."""
    configuration, artifacts = request.configuration, request.artifacts
    dataset, _ = resolved(configuration, request.data, request.catalogs)  # before Prefect takes its seconds
    end_in_time()
    bind_embedded_server()
    console = Console(stderr=as_json)
    for deed in reconcile(artifacts):
        console.print(f"left from before: {deed}", highlight=False, markup=False, soft_wrap=True)
    finished: list[Finished] = []
    began = datetime.datetime.now(datetime.UTC)
    try:
        with _told(console, finished), tags(dataset.name, configuration.preset):
            promoted = retrain(**vars(request))
    except KeyboardInterrupt:
        _tell_how_to_go_on(console, [attempt for attempt in Attempts(artifacts).all() if attempt.created >= began])
        raise
    if promoted is None:  # skipped, as the log has said
        if as_json:
            print_json({"run": None, "outcome": "skipped"})
        return
    published, entry = promoted.published, promoted.entry
    folder = artifacts.absolute() / published.place
    if as_json:
        promotion = entry.model_dump(mode="json", include={"decision", "champion", "reasons"})
        print_json({**published.model_dump(mode="json"), "folder": str(folder), "promotion": promotion})
        return
    _summarise(console, published, folder, finished, configuration)
    console.print(f"{said(entry)}: {'; '.join(entry.reasons)}", highlight=False, markup=False, soft_wrap=True)


def _tell_how_to_go_on(console: Console, begun: list[Attempt]) -> None:
    """What becomes of a run that was stopped; of one that had hardly begun there is nothing to go on with."""
    stopped = [attempt for attempt in begun if attempt.outcome == "stopped"]
    if stopped:
        told = "Stopped. What was finished is kept, and training goes on from its last checkpoint:"
        console.print(told, soft_wrap=True)
        console.print(rerun_command(stopped[0]), highlight=False, markup=False, soft_wrap=True)
    else:
        console.print("Stopped before anything was done: give the same command again.")


@contextlib.contextmanager
def _told(console: Console, finished: list[Finished]) -> Iterator[None]:
    """Collect what finishes; show bars in a terminal, elsewhere a line for whatever the steps log."""

    def note(event: Finished | Advanced) -> None:
        if isinstance(event, Finished):
            finished.append(event)

    shown = _bars(console) if console.is_terminal else contextlib.nullcontext()
    with shown, listening(note), logged(console, logging.WARNING if console.is_terminal else logging.INFO):
        yield


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[None]:
    """A bar a step."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def tell(event: Finished | Advanced) -> None:
            if event.step not in bars:
                bars[event.step] = progress.add_task(event.step, total=None, note="")
            bar = bars[event.step]
            if isinstance(event, Finished):
                note = "nothing changed, reused" if event.reused else "done"
                progress.update(bar, total=1, completed=1, note=note)
                progress.stop_task(bar)
            else:
                progress.update(bar, total=event.total, completed=event.done, note=event.note)

        with listening(tell):
            yield


def _summarise(
    console: Console, published: PublishedRun, folder: Path, finished: list[Finished], configuration: RunConfiguration
) -> None:
    times = Table("step", title="Where the time went", title_justify="left")
    times.add_column("seconds", justify="right")
    times.add_column("")
    for event in sorted(finished, key=lambda event: place(event.step)):
        times.add_row(event.step, f"{event.seconds:.1f}", "reused" if event.reused else "")
    console.print(times)
    console.print(ledger_table(Ledger.model_validate_json((folder / LEDGER_FILE).read_bytes())))
    low, high = published.interval
    if configuration.preset.startswith("question"):
        metrics = json.loads((folder / METRICS_FILE).read_bytes())
        # As the script of the question printed it.
        console.print(f"Test score: {metrics['configured_loss']['value']}", highlight=False)
        console.print(f"Test accuracy: {metrics['accuracy']}", highlight=False)
    console.print(
        f"[bold]accuracy {published.accuracy:.2%}[/bold] (95 % interval {low:.2%} to {high:.2%})", highlight=False
    )
    console.print(f"run: {published.run}", highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
