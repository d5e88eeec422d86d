"""The command as a person meets it: run, look, predict, break."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from flow_support import environment_of

from flows.command import main
from flows.runs import damaged_files
from schemas.manifest import Manifest
from schemas.metrics import Metrics
from schemas.plan import STAGES
from schemas.presets import presets
from schemas.receipt import Receipt
from tasks.idx import write_idx
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.flows.conftest import SmokeRun

    Command = Callable[..., subprocess.CompletedProcess[str]]

STEPWISE = [sys.executable, "-m", "flows.command"]


def stepwise(*arguments: object, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a home of its own."""
    environment = environment_of(home) | more
    return subprocess.run(
        [*STEPWISE, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


HELP_ALONE = """
import sys, typer, rich
before = set(sys.modules)
sys.argv = ["stepwise", "--help"]
from flows.command import main
try:
    main()
finally:
    print(*(set(sys.modules) - before), file=sys.stderr)
"""


def test_help_imports_the_command_alone() -> None:
    answer = subprocess.run([sys.executable, "-c", HELP_ALONE], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0
    besides = {name.partition(".")[0] for name in answer.stderr.split()} - {"flows", "schemas", "typer"}
    assert besides <= {"__future__", "_socket", "array", "atexit", "socket"}, "small parts of Python itself"


@pytest.mark.parametrize(("name", "known"), [("run", presets()), ("plan", presets()), ("rerun", STAGES)])
def test_help_names_every_preset_and_every_stage(
    name: str, known: Iterable[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stepwise", name, "--help"])
    with pytest.raises(SystemExit):
        main()
    said = re.sub(r"[\s│]", "", capfd.readouterr().out)  # a name may be broken at its hyphen
    assert [each for each in known if each not in said] == []


PRESET_BY_NAME = """
from flows.retrain import retrain
from schemas.configuration import RunConfiguration
retrain(RunConfiguration(preset="best", dataset="glyphs"))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("client")  # what it leaves on the server goes
def test_in_a_form_a_preset_by_name_alone_is_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    there = {"PYTHONPATH": str(Path(__file__).parents[2]), "PREFECT_API_URL": f"{server[0]}/api"}
    answer = subprocess.run(
        [sys.executable, "-c", PRESET_BY_NAME],
        env={**environment_of(tmp_path), **there},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 1
    assert "the configuration is called 'best' and has none of that preset's settings" in answer.stderr
    assert not (tmp_path / "artifacts" / "runs").exists()


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command called here, where the imports are made already."""

    def command(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(os, "environ", environment_of(tmp_path))  # the command adds to it
        monkeypatch.setattr(sys, "argv", ["stepwise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said, complained = capfd.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, said, complained)

    return command


@pytest.fixture(params=["called", pytest.param("in a process", marks=pytest.mark.slow)])
def command(request: pytest.FixtureRequest, called: Command, tmp_path: Path) -> Command:
    """The command both ways: called, and as a process of its own."""
    return called if request.param == "called" else functools.partial(stepwise, home=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--preset", "rowz"], "Did you mean 'rows'?"),
        (["run", "--set", "training.epoch=3"], "there is no key 'training.epoch'. Did you mean 'epochs'?"),
        (["run", "--set", "training.epochs=-1"], "training.epochs = -1"),
        (["run", "--set", "reshape.scan=row"], "Did you mean 'rows'?"),
        (["run", "--set", "reshape.timesteps=15"], "one of 1, 2, 4, 7, 8, 14, 16, 28, 49, 56, 98, 112, 196, 392, 784"),
        (["run", "--dataset", "mnits"], "Did you mean 'mnist'"),
        (["run", "--config", "none.toml"], "none.toml: the file cannot be read"),
        (["run", "--data", "nowhere"], "this is not a folder"),
        (["run", "--set", "preset=best"], "name it by --preset best"),
        (["show", "latest"], "no published run"),
    ],
)
def test_a_wrong_command_is_refused_at_once_with_the_right_word(
    called: Command, arguments: list[str], said: str, tmp_path: Path
) -> None:
    expect_refusal(called, arguments, said, tmp_path / "artifacts")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Address already in use. Expected: a port that nobody uses"),
        (("--host", "nowhere.invalid"), "cannot listen at nowhere.invalid:"),
        (("--port", "99999"), "Invalid value for '--port'"),
    ],
)
def test_where_a_server_cannot_listen_it_is_said(called: Command, options: tuple[str, ...], said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = called("ui", "--port", taken.getsockname()[1], *options)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in " ".join(answer.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_a_process_of_its_own_is_refused_alike(tmp_path: Path) -> None:
    there = functools.partial(stepwise, home=tmp_path)
    expect_refusal(there, ["run", "--preset", "rowz"], "Did you mean 'rows'?", tmp_path / "artifacts")
    expect_refusal(there, ["show", "latest"], "no published run", tmp_path / "artifacts")


def expect_refusal(command: Command, arguments: list[str], said: str, artifacts: Path) -> None:
    """A wrong command: exit code 2, the words, and nothing written."""
    answer = command(*arguments, "--artifacts", artifacts)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not artifacts.exists()


def test_inspect_tells_what_a_file_is_and_what_it_is_not(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    told = json.loads(stepwise("inspect", tmp_path / "x", "--json", home=tmp_path).stdout)
    assert (told["shape"], told["minimum"], told["maximum"]) == ([2, 3, 4], 0, 23)
    (tmp_path / "page.gz").write_text("<!DOCTYPE html><html>404</html>")
    (tmp_path / "x").rename(tmp_path / "x[bold]")
    assert told["payload_sha256"] in stepwise("inspect", tmp_path / "x[bold]", home=tmp_path).stdout, "to be copied"
    refused = stepwise("inspect", tmp_path / "page.gz", home=tmp_path)
    assert refused.returncode == 3
    assert "HTML page" in refused.stderr
    assert "page.gz" in refused.stderr


def test_convert_writes_a_table_that_common_readers_read(command: Command, tmp_path: Path) -> None:
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    images = np.random.default_rng(3).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "images", images)
    write_idx(tmp_path / "labels", np.arange(50, dtype=np.uint8) % 10)
    output = tmp_path / "samples.parquet"
    assert command("convert", tmp_path / "images", tmp_path / "labels", "-o", output).returncode == 0
    table = pq.read_table(output)
    read = {
        "pyarrow": np.frombuffer(b"".join(table["pixels"].to_pylist()), np.uint8).reshape(-1, 28, 28),
        "pandas": np.stack([np.frombuffer(p, np.uint8) for p in pandas.read_parquet(output).pixels]).reshape(
            -1, 28, 28
        ),
        "polars": np.frombuffer(b"".join(polars.read_parquet(output)["pixels"]), np.uint8).reshape(-1, 28, 28),
    }
    for pixels in read.values():
        np.testing.assert_array_equal(pixels, images)
    counted = duckdb.sql(f"select label, count(*) from '{output}' group by label order by label").fetchall()  # noqa: S608
    assert counted == [(label, 5) for label in range(10)]


def test_convert_of_a_broken_file_leaves_nothing(command: Command, tmp_path: Path) -> None:
    write_idx(tmp_path / "images", np.zeros((5, 4, 4), np.uint8))
    write_idx(tmp_path / "labels", np.zeros(4, np.uint8))
    answer = command("convert", tmp_path / "images", tmp_path / "labels", "-o", tmp_path / "o.parquet")
    assert answer.returncode == 3
    assert "labels: parse, train split: 4 (label header) against 5 (image header)" in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".pre")) == ["images", "labels"]


@pytest.mark.slow
def test_a_run_is_published_whole(smoke_run: SmokeRun) -> None:
    manifest = Manifest.model_validate_json((smoke_run.folder / "manifest.json").read_bytes())
    assert damaged_files(smoke_run.folder, manifest) == []
    written = {path.relative_to(smoke_run.folder).as_posix() for path in smoke_run.folder.rglob("*") if path.is_file()}
    assert written == {*manifest.files, "manifest.json"}
    assert manifest.accuracy > 0.9
    assert [path.name for path in (smoke_run.artifacts / "runs").iterdir()] == [smoke_run.folder.name]
    assert list((smoke_run.artifacts / "store" / "staging").iterdir()) == []
    for secret in ("HOME", str(smoke_run.home)):
        assert secret not in (smoke_run.folder / "environment.json").read_text()


@pytest.mark.slow
def test_a_run_is_measured_against_more_than_its_labels(smoke_run: SmokeRun) -> None:
    metrics = Metrics.model_validate_json((smoke_run.folder / "metrics.json").read_bytes())
    receipt = Receipt.model_validate_json((smoke_run.folder / "receipt.json").read_bytes())
    predictions = pq.read_table(smoke_run.folder / "predictions.parquet")
    right = predictions["label"].to_numpy() == predictions["predicted"].to_numpy()
    slicings = {slicing.by: slicing.slices for slicing in metrics.slices}
    assert [piece.correct for piece in slicings["half"]] == [right[:1000].sum(), right[1000:].sum()]
    assert all(sum(piece.correct for piece in pieces) == metrics.correct for pieces in slicings.values())
    assert [(floor.name, floor.trained_on) for floor in metrics.floors] == [
        ("nearest centroid", 12_000),
        ("logistic regression", 12_000),
    ]
    assert all(0.5 < floor.accuracy <= 1 for floor in metrics.floors)
    assert metrics.suspects is not None
    assert metrics.suspects.count <= metrics.samples - metrics.correct
    tables = [pq.read_table(path) for path in (smoke_run.artifacts / "store/objects/table").rglob("*.parquet")]
    [train] = [table["pixels"].to_pylist() for table in tables if len(table) == 12_000]
    learned = pq.read_table(smoke_run.folder / "learned.parquet")["image"].to_pylist()
    assert learned == sorted({hashlib.sha256(pixels).digest()[:16] for pixels in train})
    assert receipt.repeated is not None
    assert [found.of for found in receipt.repeated] == [2_000, 12_000, 2_000]


@pytest.mark.slow
def test_the_page_of_all_runs_is_made_by_the_run_and_by_hand(smoke_run: SmokeRun, tmp_path: Path) -> None:
    link = f'href="runs/{smoke_run.folder.name}/report.html"'
    assert link in (smoke_run.artifacts / "index.html").read_text(encoding="utf-8")
    shutil.copytree(smoke_run.folder, tmp_path / "a" / "runs" / smoke_run.folder.name)
    answer = stepwise("runs", "--html", "--artifacts", tmp_path / "a", "--json", home=tmp_path)
    page = Path(json.loads(answer.stdout)["index"])
    assert page == tmp_path / "a" / "index.html"
    assert link in page.read_text(encoding="utf-8")
    assert "as published" in page.read_text(encoding="utf-8")


def test_no_command_writes_over_what_it_reads_or_where_nothing_can_be(command: Command, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        write_idx(tmp_path / name, np.zeros((5, 4, 4) if name == "images" else 5, np.uint8))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    (tmp_path / "link").symlink_to("labels")
    Store(tmp_path / "artifacts")
    (tmp_path / "artifacts" / "runs" / "a-run").mkdir(parents=True)
    for output, said in (
        ("artifacts/runs/a-run/o.parquet", f"this is inside of {tmp_path}/artifacts, where what was published stays"),
        ("artifacts/store/o.parquet", f"this is inside of {tmp_path}/artifacts, where what was published stays"),
        ("images", "this is the file to read, which would be lost"),
        ("link", "this is the file to read, which would be lost"),
        ("nowhere/o.parquet", f"there is no folder {tmp_path / 'nowhere'}"),
        (".", "this is a folder"),
    ):
        answer = command("convert", tmp_path / "images", tmp_path / "labels", "-o", tmp_path / output)
        assert (answer.returncode, said in answer.stderr) == (2, True), answer.stderr
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_runs_and_show_name_the_run_and_its_damage(smoke_run: SmokeRun, tmp_path: Path) -> None:
    shutil.copytree(smoke_run.folder, tmp_path / "runs" / smoke_run.folder.name)
    place = ("--artifacts", tmp_path)
    [listed] = json.loads(stepwise("runs", *place, "--json", home=tmp_path).stdout)
    assert listed["run"] == smoke_run.folder.name
    shown = json.loads(stepwise("show", "smoke", *place, "--json", home=tmp_path).stdout)
    assert shown["damaged"] == []
    with (tmp_path / "runs" / smoke_run.folder.name / "metrics.json").open("a") as file:
        file.write(" ")
    shown_damaged = stepwise("show", "latest", *place, home=tmp_path)
    assert (shown_damaged.returncode, "damaged: metrics.json" in shown_damaged.stdout) == (5, True)
    assert f"stepwise rerun {smoke_run.folder.name} --task publish" in shown_damaged.stdout
    refused = stepwise("predict", "any", "-o", tmp_path / "o.parquet", *place, home=tmp_path)
    assert (refused.returncode, "metrics.json" in refused.stderr) == (5, True)


@pytest.mark.slow
def test_predict_repeats_the_evaluation(smoke_run: SmokeRun, tmp_path: Path) -> None:
    [images] = (smoke_run.artifacts / "store" / "objects" / "idx").glob("*/*/t10k-images*")
    output = tmp_path / "answers.parquet"
    place = ("--artifacts", smoke_run.artifacts)
    answer = stepwise("predict", images, "-o", output, *place, "--json", home=tmp_path)
    assert json.loads(answer.stdout)["rows"] == 2000, answer.stderr
    evaluated, predicted = pq.read_table(smoke_run.folder / "predictions.parquet"), pq.read_table(output)
    for column in ("index", "predicted"):
        assert predicted[column].to_pylist() == evaluated[column].to_pylist()
    gap = np.abs(np.stack(predicted["probabilities"].to_numpy()) - np.stack(evaluated["probabilities"].to_numpy()))
    assert gap.max() < 1e-6
    write_idx(tmp_path / "small", np.zeros((3, 20, 20), np.uint8))
    refused = stepwise("predict", tmp_path / "small", "-o", tmp_path / "no.parquet", *place, home=tmp_path)
    assert refused.returncode == 3
    assert "images of 20 × 20 of uint8. Expected: 28 × 28 of uint8, as the model was trained on" in refused.stderr
    assert not (tmp_path / "no.parquet").exists()
    lost = stepwise("predict", tmp_path / "small", "-o", tmp_path / "small", *place, home=tmp_path)
    assert (lost.returncode, "this is the file to read" in lost.stderr) == (2, True)


@pytest.mark.slow
def test_the_saved_model_takes_raw_images(smoke_run: SmokeRun) -> None:
    code = (
        "import sys, numpy as np, tensorflow as tf, pyarrow.parquet as pq\n"
        "folder, images = sys.argv[1:]\n"
        "x = np.frombuffer(open(images, 'rb').read(), np.uint8, offset=16).reshape(-1, 28, 28)\n"
        "answer = tf.saved_model.load(folder + '/saved_model').signatures['serving_default'](images=tf.constant(x))\n"
        "wrote = pq.read_table(folder + '/predictions.parquet')['predicted'].to_numpy()\n"
        "print((answer['probabilities'].numpy().argmax(1) == wrote).mean())\n"
    )
    [images] = (smoke_run.artifacts / "store" / "objects" / "idx").glob("*/*/t10k-images*")
    answer = subprocess.run(
        [sys.executable, "-c", code, str(smoke_run.folder), str(images)],
        capture_output=True,
        text=True,
        check=True,
        cwd=smoke_run.home,
    )
    assert float(answer.stdout) == 1.0


@pytest.mark.slow
@pytest.mark.soak  # that equal seeds give equal weights is in test_resume.py, what a setting redoes in test_plan.py
def test_another_folder_gives_equal_weights_and_a_changed_setting_redoes_its_stage_alone(
    smoke_run: SmokeRun, tmp_path: Path
) -> None:
    weights = json.loads((smoke_run.folder / "manifest.json").read_bytes())["weights"]
    fresh = stepwise("run", "--preset", "smoke", "--artifacts", tmp_path / "a", "--json", home=tmp_path)
    folder = Path(json.loads(fresh.stdout)["folder"])
    assert json.loads((folder / "manifest.json").read_bytes())["weights"] == weights
    changed = ("--set", "evaluation.calibration_bins=5", "--artifacts", tmp_path / "a", "--json")
    third = Path(json.loads(stepwise("run", "--preset", "smoke", *changed, home=tmp_path).stdout)["folder"])
    assert third != folder
    timings = json.loads((third / "timings.json").read_bytes())
    assert [timing["step"] for timing in timings if not timing["reused"]] == ["evaluate", "compare"]


@pytest.mark.slow
@pytest.mark.soak  # `make test` has a sample of kills in test_kills.py
def test_a_kill_at_any_moment_leaves_the_whole_run_or_nothing(smoke_run: SmokeRun, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(smoke_run.artifacts / "store", artifacts / "store")
    environment = environment_of(tmp_path)
    command = [*STEPWISE, "run", "--preset", "smoke", "--artifacts", str(artifacts)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(artifacts.glob("store/staging/*/saved_model")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    [staged] = artifacts.glob("store/staging/*/saved_model")
    long_ago = time.time() - 600
    os.utime(staged.parent, (long_ago, long_ago))
    assert json.loads(stepwise("runs", "--artifacts", artifacts, "--json", home=tmp_path).stdout) == []
    after = stepwise("run", "--preset", "smoke", "--artifacts", artifacts, "--json", home=tmp_path)
    assert after.returncode == 0, after.stderr
    assert len(json.loads(stepwise("runs", "--artifacts", artifacts, "--json", home=tmp_path).stdout)) == 1
    assert not staged.exists(), "the next run removes what the killed one left"


@pytest.mark.slow
def test_the_advice_that_broke_is_stopped_before_training_on_real_mnist(tmp_path: Path) -> None:
    answer = stepwise("run", "--preset", "question-3750", "--artifacts", tmp_path / "a", home=tmp_path)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "3,750 (sequences) against 60,000 (targets), a ratio of 16" in answer.stderr
    assert "Probably 16 consecutive images were grouped" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "a" / "runs").exists()
    assert not (tmp_path / "a" / "store" / "keys" / "train").exists()
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "No run was published here yet" in page
    assert "reshape train" in page
    assert "3,750 (sequences) against 60,000 (targets), a ratio of 16" in page


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_reads_real_mnist(tmp_path: Path) -> None:
    answer = stepwise("run", "--artifacts", tmp_path / "a", "--json", "--set", "training.epochs=2", home=tmp_path)
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["accuracy"] >= 0.98
    receipt = json.loads((Path(told["folder"]) / "receipt.json").read_bytes())
    assert {file["verified"] for file in receipt["files"]} == {"payload sha256"}
    assert {table["split"]: table["rows"] for table in receipt["tables"]} == {"train": 60000, "test": 10000}
