"""Running the retraining from the command: progress while it runs, a summary after it. Not here: the DAG (retrain)."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.retrain import dataset_for, require_timesteps, retrain
from flows.runs import ledger_table, print_json
from schemas.ledger import Ledger
from tasks.stage import Advanced, Finished, listening, log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.configuration import RunConfiguration
    from schemas.handles import PublishedRun


def run_and_tell(
    configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...], artifacts: Path, *, as_json: bool
) -> None:
    """Run the DAG; bars in a terminal, plain lines elsewhere, JSON where a program reads."""
    require_timesteps(configuration, dataset_for(configuration, data, catalogs))  # before Prefect takes its seconds
    console = Console(stderr=as_json)
    finished: list[Finished] = []
    with _told(console, finished):
        published = retrain(configuration, data, catalogs, artifacts)
    folder = artifacts.absolute() / published.place
    if as_json:
        print_json({**published.model_dump(mode="json"), "folder": str(folder)})
        return
    _summarise(console, published, folder, finished, configuration)


@contextlib.contextmanager
def _told(console: Console, finished: list[Finished]) -> Iterator[None]:
    """Collect what finishes; show bars in a terminal, elsewhere a line for whatever the steps log."""

    def note(event: Finished | Advanced) -> None:
        if isinstance(event, Finished):
            finished.append(event)

    shown = _bars(console) if console.is_terminal else contextlib.nullcontext()
    with shown, listening(note), _logged(console, logging.WARNING if console.is_terminal else logging.INFO):
        yield


@contextlib.contextmanager
def _logged(console: Console, level: int) -> Iterator[None]:
    """Show what the steps log: a source that failed, an output that was set aside, an epoch that ended."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(record.getMessage(), style=style, highlight=False, markup=False, soft_wrap=True)

    handler = Shown(level)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


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
    for event in finished:
        times.add_row(event.step, f"{event.seconds:.1f}", "reused" if event.reused else "")
    console.print(times)
    console.print(ledger_table(Ledger.model_validate_json((folder / "ledger.json").read_bytes())))
    low, high = published.interval
    if configuration.preset.startswith("question"):
        metrics = json.loads((folder / "metrics.json").read_bytes())
        # As the script of the question printed it.
        console.print(f"Test score: {metrics['configured_loss']['value']}", highlight=False)
        console.print(f"Test accuracy: {metrics['accuracy']}", highlight=False)
    console.print(
        f"[bold]accuracy {published.accuracy:.2%}[/bold] (95 % interval {low:.2%} to {high:.2%})", highlight=False
    )
    console.print(f"run: {published.run}", highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
