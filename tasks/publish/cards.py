"""What a run shows in the Prefect UI: markdown artifacts with stable keys. Not here: the figures themselves."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from schemas.history import History
from schemas.ledger import MEANING, Ledger
from schemas.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path


def show_run(run: Path) -> None:
    """Create the artifacts of a published run: summary, ledger, confusion matrix, learning curves."""
    from tasks.publish.figures import confusion_png, learning_curves_png

    metrics = Metrics.model_validate_json((run / "metrics.json").read_bytes())
    history = History.model_validate_json((run / "history.json").read_bytes())
    ledger = Ledger.model_validate_json((run / "ledger.json").read_bytes())
    create_markdown_artifact(
        key="run-summary",
        markdown=summary(run, metrics, history),
        description=f"{metrics.accuracy:.2%} of {metrics.samples:,} test images, and where the report is",
    )
    create_table_artifact(
        key="sample-ledger",
        table=ledger_rows(ledger),
        description="Samples at every station: none was lost, duplicated or moved",
    )
    for key, picture, description in (
        ("confusion-matrix", confusion_png(metrics), "True class by predicted class on the test images"),
        ("learning-curves", learning_curves_png(history), "Loss and accuracy by epoch"),
    ):
        address = base64.b64encode(picture).decode("ascii")
        markdown = f"# {description}\n\n![{description}](data:image/png;base64,{address})\n"
        create_markdown_artifact(key=key, markdown=markdown, description=description)


def summary(run: Path, metrics: Metrics, history: History) -> str:
    """The markdown of a run in a few lines."""
    manifest = json.loads((run / "manifest.json").read_bytes())
    low, high = metrics.interval
    return "\n".join(
        [
            f"# {metrics.accuracy:.2%} on {manifest['dataset']}, preset {manifest['preset']}",
            "",
            f"{metrics.correct:,} of {metrics.samples:,} test images right; 95 % interval {low:.2%} to {high:.2%}.",
            "",
            f"Loss {metrics.loss:.4f}; calibration error {metrics.calibration.ece:.2%}.",
            "",
            f"- Run: `{run.name}`",
            f"- Report: [{run / 'report.html'}]({(run / 'report.html').as_uri()})",
            f"- Parameters: {history.parameters:,}; epochs: {len(history.epochs)}, kept: {history.kept}",
            f"- Weights: `{manifest['weights'][:16]}…`",
            "",
            "The ledger is closed: every equation between the stations holds (artifact `sample-ledger`).",
            "",
            f"Use it: `stepwise predict IMAGES -o OUT.parquet --run {run.name}`",
        ]
    )


def ledger_rows(ledger: Ledger) -> list[dict[str, str]]:
    """The ledger as rows of a table."""
    return [
        {
            "split": entry.split,
            "station": entry.station,
            "count": f"{entry.count:,}",
            "measured by": entry.stage,
            "meaning": MEANING[entry.station],
        }
        for entry in ledger.entries
    ]
