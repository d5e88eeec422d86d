"""Publish: a run's evidence and model under one name that exists whole or not at all.

Everything is put into a staging folder, the model is tried in a fresh process, the manifest is written last, and one
rename gives the run its name. Not here: what is written (evidence, story, report), the fresh process (tasks/trial).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from pydantic import ValidationError

from schemas.errors import StorageError
from schemas.files import MANIFEST_FILE, REPORT_FILE, RUNS
from schemas.handles import PublishedRun
from schemas.manifest import Facts, Manifest
from schemas.steps import place
from tasks.mirror import Mirror
from tasks.pages import STYLES
from tasks.publish.cards import show_run
from tasks.publish.draft import Draft, Outcome, StageTiming, Subject
from tasks.publish.evidence import write_model_and_evidence
from tasks.publish.story import write_report
from tasks.published import manifest_digest, name_for_good, stands, write_manifest
from tasks.receipts import demand_seal
from tasks.seals import sha256_file
from tasks.stage import Key, log, once
from tasks.store import Store, writing
from tasks.trial import in_a_fresh_process

if TYPE_CHECKING:
    from schemas.receipt import Receipt


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


def _fill(draft: Draft) -> None:
    with in_a_fresh_process(draft.folder) as trial:  # it imports while the model is exported, and tries both meanwhile
        write_model_and_evidence(draft)
        test_table, test_sequences = draft.outcome.tables[1], draft.outcome.sequences[1]
        trial.ask(draft.store, test_table, test_sequences)
        write_report(draft)


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
        started_from=draft.began_with,
        stated=subject.stated,
    )
    return write_manifest(folder, facts.model_dump(mode="json"))
