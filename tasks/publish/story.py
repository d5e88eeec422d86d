"""What the report of a run tells, gathered from the files and the store. Not here: how it is told (report, figures)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from schemas.champion import Verdict
from schemas.drift import Drift
from schemas.files import DRIFT_FILE, HISTORY_FILE, METRICS_FILE, PREDICTIONS_FILE, REPORT_FILE, RUNS, VERDICT_FILE
from schemas.history import History
from schemas.metrics import Metrics
from schemas.tables import FILE_NAME
from tasks.arrays import open_arrays
from tasks.drawing import grey
from tasks.learned import digests_of, learned_in
from tasks.publish.contents import ReportContents
from tasks.publish.evidence import environment
from tasks.seals import sha256_file
from tasks.table import TableReader
from tasks.upright import upright

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Table
    from tasks.publish.draft import Draft
    from tasks.store import Store


def write_report(draft: Draft) -> None:
    """Gather all that a report tells, from what was written before it, and write it."""
    from tasks.publish.report import render

    folder, store, subject, receipt = draft.folder, draft.store, draft.subject, draft.receipt
    metrics = Metrics.model_validate_json((folder / METRICS_FILE).read_bytes())
    test_table, test_sequences = draft.outcome.tables[1], draft.outcome.sequences[1]
    x, targets = open_arrays(store, test_sequences)
    worst = [mistake.index for mistake in metrics.worst]
    suspects = [suspect.index for suspect in metrics.suspects.worst] if metrics.suspects else []
    drawn = pictures(store, test_table, [*worst, *suspects, 0], subject.orientation)
    known, on_record = _learned_before(draft)
    contents = ReportContents(
        run=subject.run,
        created=subject.created,
        title=subject.title,
        homepage=subject.homepage,
        licence=subject.licence,
        mode=receipt.mode,
        configuration=subject.configuration,
        receipt=receipt,
        ledger=receipt.ledger,
        metrics=metrics,
        history=History.model_validate_json((folder / HISTORY_FILE).read_bytes()),
        pictures=drawn[: len(worst)],
        seen=np.asarray(x[worst]) if subject.configuration.reshape.layout == "pixels" else None,
        suspects=drawn[len(worst) : -1],
        reviewed=contradicted(folder / PREDICTIONS_FILE, subject.wrong_labels),
        sequence=np.asarray(x[0]),
        sequence_picture=drawn[-1],
        orientation=subject.orientation,
        timings={timing.step: timing.seconds for timing in draft.timings},
        reused=frozenset(timing.step for timing in draft.timings if timing.reused),
        environment=environment(),
        files={path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()},
        verdict=Verdict.model_validate_json((folder / VERDICT_FILE).read_bytes()),
        drift=Drift.model_validate_json((folder / DRIFT_FILE).read_bytes()),
        began_with=draft.began_with,
        learned_before=known,
        before_on_record=on_record,
        neighbours_alike=neighbours_alike(targets),
    )
    (folder / REPORT_FILE).write_text(render(contents), encoding="utf-8")


def contradicted(predictions: Path, rows: tuple[int, ...]) -> dict[int, bool]:
    """Of each of these rows that was answered, whether the answer is another one than the label."""
    import pyarrow.parquet as pq

    if not rows:
        return {}
    answers = pq.read_table(predictions, columns=["label", "predicted"])
    asked = [row for row in rows if row < len(answers)]  # layout frames may have dropped the last ones
    label, predicted = answers.take(asked).columns
    return dict(zip(asked, (label.to_numpy() != predicted.to_numpy()).tolist(), strict=True))


def pictures(store: Store, table: Table, rows: list[int], orientation: str) -> NDArray[np.uint8]:
    """Images (K, rows, columns) uint8 of the given rows of a table, upright, each stretched to 0..255."""
    found = TableReader(store.open(table.table, FILE_NAME)).pixels_of(set(rows))
    item = table.table.shape[1:]
    stored = b"".join(found[row].tobytes() for row in rows)
    images = np.frombuffer(stored, table.table.dtype).reshape(len(rows), *item)
    return grey(upright(images, item, orientation))


def neighbours_alike(targets: NDArray[np.int32]) -> float | None:
    """Share of images with the class of the one before them in their sequence; None where it holds one image."""
    if targets.ndim == 1 or targets.shape[1] == 1:
        return None
    return float((targets[:, 1:] == targets[:, :-1]).mean())


def _learned_before(draft: Draft) -> tuple[int, bool]:
    """How many test images the run that training began with had learned from, and whether that is wholly on record."""
    began_with = draft.began_with
    if began_with is None:
        return 0, True
    before = learned_in(draft.store, draft.store.root / RUNS / began_with)
    answered = draft.outcome.evaluation.evaluation.rows
    images = digests_of(draft.store, draft.outcome.tables[1].table)[:answered]
    return int(before.among(images).sum()), before.whole
