"""The trial of a model before its run is published: a fresh process that finds what differs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import StorageError
from schemas.handles import Sequences, Table
from tasks import trial
from tasks.network import load
from tasks.store import Store
from tasks.trial import WITHOUT_PROGRAMS, UnansweredError, in_a_fresh_process, objection_to

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

pytestmark = pytest.mark.slow


def test_an_answer_that_is_not_the_written_one_keeps_a_run_from_being_published(
    smoke_run: SmokeRun, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run.folder, folder)
    shutil.rmtree(folder / "trial")
    path = folder / "predictions.parquet"
    predictions = pq.read_table(path)
    answers = np.array(predictions["probabilities"].to_pylist(), np.float32)
    answers[3] += 0.25
    column = predictions.schema.get_field_index("probabilities")
    flat = pa.FixedSizeListArray.from_arrays(pa.array(answers.reshape(-1)), answers.shape[1])
    pq.write_table(predictions.set_column(column, predictions.schema.field(column), flat), path)
    store = Store(smoke_run.artifacts)
    [parsed] = (record for record in store.records("parse") if record.step == "parse test")
    [reshaped] = (record for record in store.records("reshape") if record.step == "reshape test")
    with pytest.raises(StorageError) as refusal, in_a_fresh_process(folder) as tried:
        tried.ask(store, Table.model_validate(parsed.value), Sequences.model_validate(reshaped.value))
    assert "model.keras answers up to 0.25 apart; saved_model answers up to 0.25 apart" in str(refusal.value)


def test_a_published_model_is_tried_again_with_what_it_was_asked(smoke_run: SmokeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run.folder, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert objection_to(folder) == ""
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    model = load(folder / "model.keras")
    model.layers[-1].bias.assign(model.layers[-1].bias + np.arange(10, dtype=np.float32))
    model.save(folder / "model.keras")
    said = objection_to(folder)
    assert said.startswith("the model does not answer in a fresh process as it did when it was evaluated: model.keras ")
    assert "saved_model" not in said

    shutil.rmtree(folder / "saved_model")
    assert objection_to(folder, WITHOUT_PROGRAMS) == said, "the SavedModel is not even looked for"

    shutil.rmtree(folder / "trial")
    assert objection_to(folder) == "", "a run of an earlier version"


def test_a_trial_without_an_answer_in_time_speaks_against_the_machine(
    smoke_run: SmokeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 0.01)
    with pytest.raises(UnansweredError) as late:
        objection_to(smoke_run.folder)
    assert late.value.found == "the model gave no answer in a fresh process within 0.01 s"
    assert "nothing speaks against the model" in late.value.remedy
