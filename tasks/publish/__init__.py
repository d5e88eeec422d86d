"""Publish: a run's evidence and model under one name that exists whole or not at all.

Everything is put into a staging folder, the model is tried in a fresh process, the manifest is written last, and one
rename gives the run its name. Not here: how the report looks (report, figures), the fresh process (trial, fresh).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from prefect import task
from pydantic import ValidationError

from schemas.champion import Verdict
from schemas.configuration import RunConfiguration
from schemas.drift import Drift
from schemas.errors import StorageError
from schemas.files import (
    CONFIGURATION_FILE,
    DRIFT_FILE,
    ENVIRONMENT_FILE,
    HISTORY_FILE,
    LEARNED_FILE,
    LEDGER_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    PROFILE_FILE,
    RECEIPT_FILE,
    REPORT_FILE,
    RUNS,
    TIMINGS_FILE,
    VERDICT_FILE,
)
from schemas.handles import Evaluation, Frozen, PublishedRun, Sequences, Table, TrainedModel
from schemas.history import History
from schemas.manifest import Facts, Manifest
from schemas.metrics import Metrics
from schemas.steps import place
from schemas.tables import FILE_NAME
from tasks.arrays import open_arrays
from tasks.documents import open_document
from tasks.drawing import grey
from tasks.learned import digests_of, learned_from, learned_in, write_learned
from tasks.mirror import Mirror
from tasks.pages import STYLES
from tasks.profile import confidence_on
from tasks.publish.cards import show_run
from tasks.published import manifest_digest, name_for_good, stands, write_manifest
from tasks.receipts import demand_seal
from tasks.seals import sha256_file
from tasks.stage import Key, log, once
from tasks.store import Store, writing
from tasks.table import TableReader
from tasks.trial import in_a_fresh_process
from tasks.upright import upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.catalog import Dataset
    from schemas.champion import Judged
    from schemas.drift import Drifted
    from schemas.receipt import Receipt

LIBRARIES: Final = ("prefect", "tensorflow", "keras", "numpy", "pyarrow", "pandera", "polars")


class StageTiming(Frozen):
    """How long a step took, and whether its output was there already."""

    step: str
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Outcome:
    """Everything that the stages of one run returned."""

    tables: tuple[Table, Table]
    sequences: tuple[Sequences, Sequences]
    trained: TrainedModel
    evaluation: Evaluation
    judged: Judged
    drifted: Drifted


class Subject(Frozen):
    """What a run was about."""

    run: str
    created: datetime.datetime
    title: str
    homepage: str = ""
    licence: str = ""
    orientation: str
    configuration: RunConfiguration
    wrong_labels: tuple[int, ...] = ()  # rows of the test split that people have found labelled wrong
    parent: str | None = None
    started_from: str | None = None
    form: str | None = None  # address of the form of the Prefect UI that does a stage of it again

    @classmethod
    def about(
        cls,
        dataset: Dataset,
        configuration: RunConfiguration,
        run: str,
        created: datetime.datetime,
        **others: str | None,
    ) -> Subject:
        """A run of a dataset; `others` are the parent, the run that it began with, and the form."""
        return cls(
            run=run,
            created=created,
            title=dataset.title,
            homepage=dataset.homepage,
            licence=dataset.licence,
            orientation=dataset.orientation,
            wrong_labels=dataset.splits["test"].wrong_labels,
            configuration=configuration,
            **others,
        )


def key_of(
    artifacts: Path,
    subject: Subject,
    outcome: Outcome,
) -> Key[PublishedRun]:
    """What a published run depends on: the outputs it shows and the configuration, not its name, hour or timings.

    The verdict does not count either: it was about the champion of its day.
    """
    sequences = {f"{each.split} sequences": each for each in outcome.sequences}
    return Key(
        step="publish",
        stage="publish",
        form=PublishedRun,
        module=__name__,
        inputs={
            **{f"{table.split} table": table.table.digest for table in outcome.tables},
            **{name: each.x.digest for name, each in sequences.items()},
            **{f"receipt of {name}": each.receipt.digest for name, each in sequences.items()},
            "weights": outcome.trained.model.digest,
            "evaluation": outcome.evaluation.evaluation.digest,
            "report template": sha256_file(Path(__file__).with_name("report.html.jinja")),
            **{style.name: sha256_file(style) for style in STYLES},
        },
        settings={
            **subject.configuration.model_dump(mode="json", exclude={"promotion", "drift"}),
            "title": subject.title,
            "homepage": subject.homepage,
            "licence": subject.licence,
            "orientation": subject.orientation,
            "wrong_labels": subject.wrong_labels,
        },
        libraries=("tensorflow", "keras", "numpy", "matplotlib"),
        stands=lambda published: stands(Store(artifacts), published.place, published.manifest),
    )


@dataclass(frozen=True)
class Draft:
    """A run that is being assembled: the staging folder it grows in, and all that goes into it."""

    folder: Path
    store: Store
    subject: Subject
    outcome: Outcome
    receipt: Receipt
    timings: tuple[StageTiming, ...]


@task(
    name="publish",
    description="Writes model, metrics, predictions, report, ledger and receipt into a staging folder, tries the model "
    "in a fresh process, and gives the run its name by one rename. Refuses a run whose ledger does not close.",
    task_run_name="publish",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def publish(
    artifacts: Path, subject: Subject, outcome: Outcome, timings: tuple[StageTiming, ...], anew: str | None = None
) -> PublishedRun:
    """Publish a run and show its summary, ledger and evaluation in the Prefect UI; or the run that shows the same."""
    store = Store(artifacts)
    key = key_of(artifacts, subject, outcome)
    published = once(store, key, lambda: published_run(store, subject, outcome, timings), anew)
    show_run(store.root / published.place, subject.form)
    return published


def published_run(store: Store, subject: Subject, outcome: Outcome, timings: tuple[StageTiming, ...]) -> PublishedRun:
    """Assemble, try and name the run.

    Raises:
        CountsBrokenError: the ledger does not close.
        StorageError: the model answers differently in a fresh process, or the run cannot be written.
    """
    receipt = closed_receipt(store, outcome)
    timings = tuple(sorted(timings, key=lambda timing: place(timing.step)))  # they come as the steps ended
    final = store.root / RUNS / subject.run
    with writing(final):
        final.parent.mkdir(exist_ok=True)
        if known := _named_before(store, subject, outcome):
            return known
        with store.staging() as folder:
            draft = Draft(folder, store, subject, outcome, receipt, timings)
            _fill(draft)
            manifest = _seal(draft)
            name_for_good(folder, final)
    log.info("published %s", final)
    return _published(subject, outcome, manifest)


def _published(subject: Subject, outcome: Outcome, manifest: str) -> PublishedRun:
    return PublishedRun(
        run=subject.run,
        place=f"{RUNS}/{subject.run}",
        report=f"{RUNS}/{subject.run}/{REPORT_FILE}",
        manifest=manifest,
        accuracy=outcome.evaluation.accuracy,
        interval=outcome.evaluation.interval,
    )


def _named_before(store: Store, subject: Subject, outcome: Outcome) -> PublishedRun | None:
    """This very run, where it got its name before it was killed and nobody remembers it; None where it is another.

    Raises:
        StorageError: another run, or a damaged one, has the name.
    """
    final = store.root / RUNS / subject.run
    if not final.exists():
        return None
    with contextlib.suppress(OSError, ValidationError):
        manifest = Manifest.model_validate_json((final / MANIFEST_FILE).read_bytes())
        found = _published(subject, outcome, manifest_digest(final))
        same = (manifest.created, manifest.weights, manifest.test) == (
            subject.created, outcome.trained.model.digest, outcome.tables[1].table.digest,
        )  # fmt: skip
        if same and stands(store, found.place, found.manifest):
            return found
    raise StorageError(
        f"a run named {subject.run} is published already", "a new name", "Run again: a name is given once", str(final)
    )


def closed_receipt(store: Store, outcome: Outcome) -> Receipt:
    """Both splits' seals on one receipt, with the whole ledger.

    Raises:
        CountsBrokenError: an equation does not hold or was never counted.
    """
    train, test = (demand_seal(store, sequences) for sequences in outcome.sequences)
    ledger = train.ledger.merged(test.ledger)
    ledger = ledger.entered("train", "train", outcome.trained.counts)
    ledger = ledger.entered("test", "evaluate", outcome.evaluation.counts)
    ledger.verify_complete()
    return train.sealed(test.seals[-1], ledger)


def environment() -> dict[str, str]:
    """Versions and machine, nothing of the process's environment variables."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    machine = {"python": platform.python_version(), "system": platform.platform(), "processors": str(os.cpu_count())}
    return {"stepwise": metadata.version("stepwise"), **machine, **versions}


def _fill(draft: Draft) -> None:
    with in_a_fresh_process(draft.folder) as trial:  # it imports while the model is exported, and tries both meanwhile
        _write_model_and_evidence(draft)
        test_table, test_sequences = draft.outcome.tables[1], draft.outcome.sequences[1]
        trial.ask(draft.store, test_table, test_sequences)
        _write_report(draft)


def _write_model_and_evidence(draft: Draft) -> None:
    from tasks.network import load
    from tasks.publish.serving import export

    folder, store, configuration = draft.folder, draft.store, draft.subject.configuration
    model, evaluation = draft.outcome.trained.model, draft.outcome.evaluation.evaluation
    model_path = store.open(model, MODEL_FILE)
    shutil.copyfile(model_path, folder / MODEL_FILE)
    export(load(model_path), configuration.reshape, draft.receipt, folder / "saved_model")
    drift = open_document(store, draft.outcome.drifted.drift, DRIFT_FILE, Drift)
    _write_json(folder / DRIFT_FILE, drift)
    # On images that it did not learn, as the images will be on which it is asked again.
    asked = confidence_on(store, draft.outcome.tables[1], configuration.reshape, folder)
    _write_json(folder / PROFILE_FILE, drift.profile.model_copy(update={"confidence": asked}))
    for name in (METRICS_FILE, PREDICTIONS_FILE):
        shutil.copyfile(store.open(evaluation, name), folder / name)
    shutil.copyfile(store.open(draft.outcome.trained.history, HISTORY_FILE), folder / HISTORY_FILE)
    _write_learned(draft)
    shutil.copyfile(store.open(draft.outcome.judged.verdict, VERDICT_FILE), folder / VERDICT_FILE)
    _write_json(folder / LEDGER_FILE, draft.receipt.ledger)
    _write_json(folder / RECEIPT_FILE, draft.receipt)
    _write_json(folder / CONFIGURATION_FILE, configuration)
    (folder / ENVIRONMENT_FILE).write_text(json.dumps(environment(), indent=1), encoding="utf-8")
    (folder / TIMINGS_FILE).write_text(
        json.dumps([timing.model_dump() for timing in draft.timings], indent=1), encoding="utf-8"
    )


def _write_learned(draft: Draft) -> None:
    before, store = _began_with(draft), draft.store
    learned = learned_from(store, draft.outcome.tables[0], store.root / RUNS / before if before else None)
    write_learned(learned, draft.folder / LEARNED_FILE)


def _write_json(path: Path, value: Frozen) -> None:
    path.write_text(value.model_dump_json(indent=1), encoding="utf-8")


def _write_report(draft: Draft) -> None:
    from tasks.publish.report import ReportContents, render

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
        began_with=_began_with(draft),
        learned_before=known,
        before_on_record=on_record,
        neighbours_alike=_neighbours_alike(targets),
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


def _seal(draft: Draft) -> str:
    """Write the manifest: digests of all files; a folder without one is no run."""
    folder, subject, outcome = draft.folder, draft.subject, draft.outcome
    facts = Facts(
        run=subject.run,
        created=subject.created,
        dataset=subject.configuration.dataset,
        preset=subject.configuration.preset,
        accuracy=outcome.evaluation.accuracy,
        interval=outcome.evaluation.interval,
        weights=outcome.trained.model.digest,
        test=outcome.tables[1].table.digest,
        parent=subject.parent,
        started_from=_began_with(draft),
    )
    return write_manifest(folder, facts.model_dump(mode="json"))


def _neighbours_alike(targets: NDArray[np.int32]) -> float | None:
    """Share of images with the class of the one before them in their sequence; None where it holds one image."""
    if targets.ndim == 1 or targets.shape[1] == 1:
        return None
    return float((targets[:, 1:] == targets[:, :-1]).mean())


def _learned_before(draft: Draft) -> tuple[int, bool]:
    """How many test images the run that training began with had learned from, and whether that is wholly on record."""
    began_with = _began_with(draft)
    if began_with is None:
        return 0, True
    before = learned_in(draft.store.root / RUNS / began_with)
    answered = draft.outcome.evaluation.evaluation.rows
    images = digests_of(draft.store, draft.outcome.tables[1])[:answered]
    return int(before.among(images).sum()), before.whole


def _began_with(draft: Draft) -> str | None:
    """The run whose weights training began with; one that it was meant to begin with may not have fitted."""
    history = History.model_validate_json((draft.folder / HISTORY_FILE).read_bytes())
    return draft.subject.started_from if history.started_from else None
