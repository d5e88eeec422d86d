"""The files of a published run but for its report: the model, and the evidence of how it came to be.

Not here: the report (story, report), the manifest (the stage itself).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from importlib import metadata
from typing import TYPE_CHECKING, Final

from schemas.drift import Drift
from schemas.files import (
    CONFIGURATION_FILE,
    DRIFT_FILE,
    ENVIRONMENT_FILE,
    HISTORY_FILE,
    LEARNED_FILE,
    LEDGER_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    PROFILE_FILE,
    RECEIPT_FILE,
    RUNS,
    SAVED_MODEL,
    TIMINGS_FILE,
    VERDICT_FILE,
)
from tasks.documents import open_document
from tasks.learned import learned_from, write_learned
from tasks.profile import confidence_on

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.handles import Frozen
    from tasks.publish.draft import Draft

LIBRARIES: Final = ("prefect", "tensorflow", "keras", "numpy", "pyarrow", "pandera", "polars")


def write_model_and_evidence(draft: Draft) -> None:
    """The model in both forms, and all that was found out about it, but for the report."""
    from tasks.network import load
    from tasks.publish.serving import export

    folder, store, configuration = draft.folder, draft.store, draft.subject.configuration
    model, evaluation = draft.outcome.trained.model, draft.outcome.evaluation.evaluation
    model_path = store.open(model, MODEL_FILE)
    shutil.copyfile(model_path, folder / MODEL_FILE)
    export(load(model_path), configuration.reshape, draft.receipt, folder / SAVED_MODEL)
    for name in (METRICS_FILE, PREDICTIONS_FILE):
        shutil.copyfile(store.open(evaluation, name), folder / name)
    shutil.copyfile(store.open(draft.outcome.trained.history, HISTORY_FILE), folder / HISTORY_FILE)
    _write_what_it_learned(draft)
    shutil.copyfile(store.open(draft.outcome.judged.verdict, VERDICT_FILE), folder / VERDICT_FILE)
    _write_json(folder / LEDGER_FILE, draft.receipt.ledger)
    _write_json(folder / RECEIPT_FILE, draft.receipt)
    _write_json(folder / CONFIGURATION_FILE, configuration)
    (folder / ENVIRONMENT_FILE).write_text(json.dumps(environment(), indent=1), encoding="utf-8")
    (folder / TIMINGS_FILE).write_text(
        json.dumps([timing.model_dump() for timing in draft.timings], indent=1), encoding="utf-8"
    )


def _write_what_it_learned(draft: Draft) -> None:
    """What the model learned from, what that looked like, and how sure the model is of what it did not learn."""
    folder, store, before = draft.folder, draft.store, draft.began_with
    train, test = draft.outcome.tables
    learned = learned_from(store, train.table, store.root / RUNS / before if before else None)
    write_learned(learned, folder / LEARNED_FILE)
    drift = open_document(store, draft.outcome.drifted.drift, DRIFT_FILE, Drift)
    _write_json(folder / DRIFT_FILE, drift)
    asked = confidence_on(store, test, draft.subject.configuration.reshape, folder, learned)
    _write_json(folder / PROFILE_FILE, drift.profile.model_copy(update={"confidence": asked}))


def _write_json(path: Path, value: Frozen) -> None:
    path.write_text(value.model_dump_json(indent=1), encoding="utf-8")


def environment() -> dict[str, str]:
    """Versions and machine, nothing of the process's environment variables."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    machine = {"python": platform.python_version(), "system": platform.platform(), "processors": str(os.cpu_count())}
    return {"stepwise": metadata.version("stepwise"), **machine, **versions}
