"""What a run shows in the Prefect UI: markdown artifacts with stable keys. Not here: the figures themselves.

Descriptions begin with what matters: a card of the UI shows their first 30 characters or so. The ledger is a markdown
table, since the UI's own tables show ten rows a page and cut long texts. Texts that come from data are escaped.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact

from schemas.champion import Verdict
from schemas.files import HISTORY_FILE, LEDGER_FILE, MANIFEST_FILE, METRICS_FILE, REPORT_FILE, VERDICT_FILE
from schemas.handles import SPLITS
from schemas.history import History
from schemas.ledger import MEANING, Ledger
from schemas.manifest import Manifest
from schemas.metrics import Metrics
from tasks.drawing import data_uri
from tasks.wording import as_text, fenced, percent

if TYPE_CHECKING:
    from pathlib import Path


def show_standing(run: Path, form: str | None = None) -> None:
    """Create the summary of a run that nothing had to be made for: the one published before stands, verified again."""
    metrics = Metrics.model_validate_json((run / METRICS_FILE).read_bytes())
    history = History.model_validate_json((run / HISTORY_FILE).read_bytes())
    told = f"Nothing changed: `{run.name}` stands. All its bytes were compared with its manifest again."
    create_markdown_artifact(
        key="summary",
        markdown=f"{told}\n\n{summary(run, metrics, history, form)}",
        description=f"Nothing changed: {percent(metrics.accuracy, 2)} as published before",
    )


def show_run(run: Path, form: str | None = None) -> None:
    """Create the artifacts of a published run: summary, ledger, evaluation, learning curves.

    Args:
        run: The published run's folder.
        form: Address of the form that does one of its stages again.
    """
    from tasks.publish.figures import confusion_png, learning_curves_png

    metrics = Metrics.model_validate_json((run / METRICS_FILE).read_bytes())
    history = History.model_validate_json((run / HISTORY_FILE).read_bytes())
    ledger = Ledger.model_validate_json((run / LEDGER_FILE).read_bytes())
    interval = "95 % interval {} to {}".format(*(percent(end, 2) for end in metrics.interval))
    for key, description, markdown in (
        (
            "summary",
            f"{percent(metrics.accuracy, 2)} right on {metrics.samples:,} test images ({interval})",
            summary(run, metrics, history, form),
        ),
        ("ledger", "No sample lost, duplicated or moved: the count at every station", ledger_card(ledger)),
        (
            "evaluation",
            "True class against the answer, and each class by itself, on the test images",
            _pictured(
                _most_frequent_mistake(metrics),
                confusion_png(metrics),
                f"Rows: the true class. Columns: what the model answered. The diagonal is right.\n\n{classes(metrics)}",
            ),
        ),
        (
            "learning-curves",
            "Loss and accuracy by epoch",
            _pictured(
                f"{len(history.epochs)} epochs, number {history.kept} kept",
                learning_curves_png(history),
                "Training and held out samples. The model of the kept epoch is the one that was evaluated.",
            ),
        ),
    ):
        create_markdown_artifact(key=key, markdown=markdown, description=description)


def summary(run: Path, metrics: Metrics, history: History, form: str | None = None) -> str:
    """The markdown of a run in a few lines."""
    manifest = Manifest.model_validate_json((run / MANIFEST_FILE).read_bytes())
    report = (run / REPORT_FILE).as_uri()
    low, high = metrics.interval
    artifacts = f"--artifacts {shlex.quote(str(run.parents[1]))}"
    rows = {
        "Test images": f"{metrics.correct:,} of {metrics.samples:,} right",
        "95 % interval": f"{percent(low, 2)} to {percent(high, 2)}",
        "Loss": f"{metrics.loss:.4f}",
        "Calibration error": percent(metrics.calibration.ece, 2),
        "Parameters": f"{history.parameters:,}",
        "Epochs": f"{len(history.epochs)}, number {history.kept} kept",
        "Weights": f"`{manifest.weights[:16]}…`",
        "Samples": "all accounted for (artifact `ledger`)",
    }
    verdict = verdict_of(run)
    if verdict:
        rows["Verdict when published"] = f"{verdict.decision} ({'; '.join(map(as_text, verdict.reasons))})"
    if manifest.parent:
        rows["Revision of"] = f"`{manifest.parent}`"
    return "\n".join(
        [
            f"# {percent(metrics.accuracy, 2)} on {as_text(manifest.dataset)}, {as_text(manifest.preset)}",
            "",
            "| Measure | Value |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            f"**Report**, to be opened by hand, since a browser follows no link from here to a file: `{report}`",
            "",
            "**Use the model**",
            "",
            fenced(f"stepwise predict IMAGES -o OUT.parquet \\\n  --run {run.name} \\\n  {artifacts}"),
            "",
            "**Do one stage again, and what hangs on it**",
            "",
            *_opening(form),
            fenced(f"stepwise rerun {shlex.quote(run.name)} --task evaluate \\\n  {artifacts}"),
        ]
    )


def verdict_of(run: Path) -> Verdict | None:
    """What promotion said of a run when it was published; None for runs from before there was promotion."""
    path = run / VERDICT_FILE
    return Verdict.model_validate_json(path.read_bytes()) if path.is_file() else None


def _opening(form: str | None) -> list[str]:
    """A line with the link that opens the form, where there is one."""
    said = "filled in to evaluate this run again"
    return [f"[Open the form, {said}]({form}); another stage can be chosen there. Or type:", ""] if form else []


def classes(metrics: Metrics) -> str:
    """A table of each class against all others."""
    rows = (
        f"| {as_text(each.name)} | {each.support:,} "
        f"| {' | '.join(_share(share) for share in (each.recall, each.precision, each.f1))} |"
        for each in metrics.classes
    )
    heads = (
        "| Class | Test images | Found (recall) | Right when answered (precision) | F1 |",
        "| --- | ---: | ---: | ---: | ---: |",
    )
    return "\n".join([*heads, *rows])


def ledger_card(ledger: Ledger) -> str:
    """The ledger in markdown: one station a row, both splits side by side, then the equations that hold."""
    stages = {entry.station: entry.stage for entry in ledger.entries}
    rows = [
        f"| {station} | {' | '.join(_count(ledger.count(split, station)) for split in SPLITS)} | {stage} "
        f"| {MEANING[station]} |"
        for station, stage in stages.items()
    ]
    equations = dict.fromkeys(str(balance.equation) for balance in ledger.balances() if balance.holds)
    return "\n".join(
        [
            "| Station | Train | Test | Counted by | Meaning |",
            "| --- | ---: | ---: | --- | --- |",
            *rows,
            "",
            "**What holds, in every split that has these stations**",
            "",
            *(f"- {equation}" for equation in equations),
        ]
    )


def _share(share: float | None) -> str:
    return "" if share is None else percent(share, 2)


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _pictured(heading: str, png: bytes, legend: str) -> str:
    return f"## {heading}\n\n![{heading}]({data_uri(png)})\n\n{legend}"


def _most_frequent_mistake(metrics: Metrics) -> str:
    """The cell off the diagonal that counts most, in words."""
    wrong = (
        (count, -row, -column)
        for row, counts in enumerate(metrics.confusion)
        for column, count in enumerate(counts)
        if row != column
    )
    count, row, column = max(wrong, default=(0, 0, 0))
    if not count:
        return "No mistake on the test images"
    true, answered = (as_text(metrics.classes[-place].name) for place in (row, column))
    often = "once" if count == 1 else f"{count:,} times"
    return f"Most frequent mistake: {true} answered as {answered}, {often}"
