"""The champion as a person meets it: by runs, by hand, and in predictions."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flow_support import run_command

from flows.champion import UNKNOWN_HERE
from flows.doctor import outputs
from tasks.idx import write_idx
from tasks.published import write_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

pytestmark = pytest.mark.slow


@pytest.fixture
def home(smoke_run: SmokeRun, tmp_path: Path) -> Path:
    """A copy of the finished run's home, to be changed."""
    shutil.copytree(smoke_run.home, tmp_path / "home", symlinks=True)
    return tmp_path / "home"


def champion(home: Path, *arguments: object) -> Any:  # noqa: ANN401 - a JSON value
    answer = run_command(home, "champion", *arguments, "--json", "--artifacts", home / "artifacts")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def test_a_worse_model_is_published_and_kept_out_until_a_person_decides(home: Path, smoke_run: SmokeRun) -> None:
    artifacts, first = home / "artifacts", smoke_run.folder.name
    worse = ("--set", "training.epochs=1", "--set", "training.learning_rate=0.0001", "--set", "promotion.demanded=true")
    answer = run_command(home, "run", "--preset", "smoke", *worse, "--artifacts", artifacts)
    assert answer.returncode == 6, answer.stdout + answer.stderr
    assert "is published and was not promoted: not met: better than the champion: " in answer.stderr
    [second] = {run.name for run in (artifacts / "runs").iterdir()} - {first}
    verdict = json.loads((artifacts / "runs" / second / "verdict.json").read_bytes())
    assert (verdict["decision"], verdict["champion"], verdict["comparison"]["samples"]) == ("keep", first, 2000)
    assert [entry["champion"] for entry in champion(home, "show")] == [first]

    assert run_command(home, "champion", "promote", second, "--reason", " ", "--artifacts", artifacts).returncode == 2
    by_hand = champion(home, "promote", second, "--reason", "to see it at work")
    assert (by_hand["decision"], by_hand["champion"], by_hand["was"]) == ("by hand", second, first)
    assert (by_hand["by_hand"], by_hand["reasons"]) == (True, ["to see it at work"])
    write_idx(home / "images", np.zeros((3, 28, 28), np.uint8))
    answered = run_command(home, "predict", home / "images", "-o", home / "answers.parquet", "--artifacts", artifacts)
    assert f"3 images answered by {second}" in answered.stdout, answered.stdout + answered.stderr

    back = champion(home, "rollback")
    assert (back["decision"], back["champion"], back["was"]) == ("rolled back", first, second)
    nobody = run_command(home, "champion", "rollback", "--artifacts", artifacts)
    assert (nobody.returncode, f"no champion of glyphs before {first}" in nobody.stderr) == (2, True), nobody.stderr
    model = artifacts / "runs" / second / "model.keras"
    model.write_bytes(model.read_bytes()[:-1])
    refused = run_command(home, "champion", "promote", second, "--reason", "again", "--artifacts", artifacts)
    assert refused.returncode == 6
    assert f"{second} cannot be champion: model.keras: " in refused.stderr
    told = [finding.found for finding in outputs.champions(artifacts)]
    assert told == [f"{first}, {json.loads((smoke_run.folder / 'manifest.json').read_bytes())['accuracy']:.2%}, whole"]
    decisions = [entry["decision"] for entry in champion(home, "history")]
    assert decisions == ["first champion", "kept", "by hand", "rolled back"]


def test_no_program_of_a_run_that_comes_from_elsewhere_is_run(smoke_run: SmokeRun, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "runs" / smoke_run.folder.name
    shutil.copytree(smoke_run.folder, folder)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"a program")
    facts = json.loads((folder / "manifest.json").read_bytes())
    facts.pop("files")
    (folder / "manifest.json").unlink()
    write_manifest(folder, facts)
    entry = champion(tmp_path, "promote", folder.name, "--reason", "a colleague's")
    assert (entry["champion"], entry["reasons"]) == (folder.name, ["a colleague's", UNKNOWN_HERE])
