"""Running again: after a failure only what failed and what hangs on it; one chosen stage; nothing published changes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flow_support import run_command

from tasks.idx import write_idx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

pytestmark = pytest.mark.slow

FINISHED = re.compile(r"^([a-z ]+): (done|nothing changed, reused) in", re.MULTILINE)


@pytest.fixture
def made(smoke_run: SmokeRun, tmp_path: Path) -> Path:
    """A home with a copy of a finished run, and with Prefect's records of it."""
    home = tmp_path / "home"
    shutil.copytree(smoke_run.home, home, symlinks=True)
    return home


def steps(said: str) -> dict[str, str]:
    """What became of each step, as the command told it."""
    return {step: what.split()[0].rstrip(",") for step, what in FINISHED.findall(said)}


def executed(said: str) -> list[str]:
    return [step for step, what in steps(said).items() if what == "done"]


def content(folder: Path) -> dict[str, str]:
    """Digests of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def attempts(home: Path) -> list[dict[str, Any]]:
    answer = run_command(home, "runs", "--all", "--json", "--artifacts", home / "artifacts")
    known: list[dict[str, Any]] = json.loads(answer.stdout)
    return known


def test_a_run_in_which_nothing_changed_verifies_the_champion_again_and_imports_no_tensorflow(made: Path) -> None:
    arguments = ("run", "--preset", "smoke", "--artifacts", made / "artifacts")
    answer = run_command(made, *arguments, PYTHONPROFILEIMPORTTIME="1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "tasks.train" in imported
    assert not {"tensorflow", "keras"} & imported
    assert executed(answer.stdout) == ["compare", "promote"], "it was judged as nobody's, and is the champion's own"
    assert len(steps(answer.stdout)) == 15
    [run] = (made / "artifacts" / "runs").iterdir()
    again, before = attempts(made)
    assert (again["outcome"], again["published"]) == ("unchanged", run.name)
    assert (before["outcome"], before["run"], before["published"]) == ("published", run.name, run.name)
    (made / "artifacts" / "index.html").unlink()
    skipped = run_command(made, *arguments, "--when-unchanged", "skip")
    assert skipped.returncode == 0, skipped.stdout + skipped.stderr
    assert "re-verified" in (made / "artifacts" / "index.html").read_text(encoding="utf-8")
    verdict = json.loads((run / "verdict.json").read_bytes())
    assert (verdict["decision"], verdict["champion"]) == ("first champion", None)
    history = run_command(made, "champion", "history", "--json", "--artifacts", made / "artifacts")
    decisions = [(entry["decision"], entry["champion"]) for entry in json.loads(history.stdout)]
    assert decisions == [("first champion", run.name), *[("re-verified", run.name)] * 2]


def test_one_stage_again_and_what_hangs_on_it(made: Path) -> None:
    runs = made / "artifacts" / "runs"
    [parent] = runs.iterdir()
    before = content(parent)
    answer = run_command(made, "rerun", "latest", "--task", "evaluate", "--artifacts", made / "artifacts")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert executed(answer.stdout) == ["evaluate", "compare", "publish", "promote"]
    assert content(parent) == before
    [revision] = set(runs.iterdir()) - {parent}
    manifests = [json.loads((run / "manifest.json").read_bytes()) for run in (parent, revision)]
    assert [manifest["parent"] for manifest in manifests] == [None, parent.name]
    assert manifests[0]["weights"] == manifests[1]["weights"]
    assert json.loads((revision / "metrics.json").read_bytes()) == json.loads((parent / "metrics.json").read_bytes())
    # The stage alone: what it gives is what it gave, so nothing follows.
    only = run_command(made, "rerun", revision.name, "--task", "evaluate", "--only", "--artifacts", made / "artifacts")
    assert only.returncode == 0, only.stdout + only.stderr
    assert executed(only.stdout) == ["evaluate", "promote"]
    assert set(runs.iterdir()) == {parent, revision}


@pytest.mark.soak  # `make test` has what goes in test_retention.py, and the nightly run in test_upkeep.py
def test_old_runs_go_with_all_that_only_they_needed_and_what_is_left_answers_for_everything(made: Path) -> None:
    runs = made / "artifacts" / "runs"
    again = run_command(made, "rerun", "latest", "--task", "evaluate", "--artifacts", made / "artifacts")
    assert again.returncode == 0, again.stdout + again.stderr
    parent, revision = sorted(runs.iterdir())
    keep = ("clean", "--keep-runs", "1", "--artifacts", made / "artifacts")
    assert parent.name not in run_command(made, *keep).stdout, "the champion stays"
    shutil.rmtree(made / "artifacts" / "champions")
    looked = run_command(made, *keep)
    assert (looked.returncode, parent.exists()) == (0, True), looked.stdout + looked.stderr
    assert parent.name in looked.stdout
    assert "Nothing was removed" in looked.stdout
    assert run_command(made, *keep, "--yes").returncode == 0
    assert list(runs.iterdir()) == [revision]
    page = (made / "artifacts" / "index.html").read_text(encoding="utf-8")
    assert f'data-name="{revision.name}"' in page
    assert f'data-name="{parent.name}"' not in page
    again = run_command(made, "run", "--preset", "smoke", "--artifacts", made / "artifacts")
    assert (again.returncode, executed(again.stdout)) == (0, ["promote"]), again.stdout + again.stderr


@pytest.mark.soak  # `make test` has it in the pages of the UI, in test_pages.py
def test_after_a_failure_only_the_rest_is_done(tmp_path: Path) -> None:
    data, artifacts = tmp_path / "digits", tmp_path / "artifacts"
    data.mkdir()
    draw = np.random.default_rng(0)
    for split, rows in (("train", 300), ("t10k", 60)):
        write_idx(data / f"{split}-images-idx3-ubyte", draw.integers(0, 256, (rows, 7, 4), np.uint8))
        write_idx(data / f"{split}-labels-idx1-ubyte", (np.arange(rows) % 3).astype("u1"))
    labels = (data / "t10k-labels-idx1-ubyte").read_bytes()
    write_idx(data / "t10k-labels-idx1-ubyte", (np.arange(59) % 3).astype("u1"))
    options = ("--preset", "smoke", "--set", "reshape.timesteps=7", "--set", "training.epochs=1")
    failed = run_command(tmp_path, "run", *options, "--data", data, "--artifacts", artifacts)
    assert failed.returncode == 3, failed.stdout + failed.stderr
    [attempt] = attempts(tmp_path)
    assert (attempt["outcome"], attempt["problem"]["step"]) == ("failed", "parse test")
    assert "59 (label header) against 60" in attempt["problem"]["found"]
    (data / "t10k-labels-idx1-ubyte").write_bytes(labels)
    mended = run_command(tmp_path, "rerun", attempt["run"], "--artifacts", artifacts)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert steps(mended.stdout)["parse train"] == "nothing"
    looked_at = {f"download {split} {role}" for split in ("train", "test") for role in ("images", "labels")}
    rest = {
        "parse test",
        "validate",
        "reshape train",
        "reshape test",
        "drift",
        "train",
        "evaluate",
        "compare",
        "publish",
        "promote",
    }
    assert set(executed(mended.stdout)) == looked_at | rest
    assert [each["outcome"] for each in attempts(tmp_path)] == ["published", "failed"]


def test_a_name_that_no_run_has_is_told_with_those_there_are(made: Path) -> None:
    answer = run_command(made, "rerun", "nonsense", "--artifacts", made / "artifacts")
    assert answer.returncode == 2
    assert "no run by the name 'nonsense'" in answer.stderr
    assert all(run.name in answer.stderr for run in (made / "artifacts" / "runs").iterdir())
    wrong = run_command(made, "rerun", "latest", "--task", "evalute", "--artifacts", made / "artifacts")
    assert wrong.returncode == 2
    assert "Did you mean 'evaluate'?" in wrong.stderr
