"""`stepwise study timesteps` as a person types it: Dask's workers, the published page, and nothing done twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flow_support import environment_of, run_command
from install_support import free_port

from flows import study
from flows.study import run_batches
from schemas.design import designed, settings_of
from schemas.errors import StorageError
from schemas.handles import Sequences
from tasks.store import Store
from tasks.study.point import key_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from schemas.study import Point

ROOT = Path(__file__).parents[2]
ASKED = ("study", "timesteps", "--dataset", "glyphs", "--scan", "rows", "--timesteps", "28")
SMALL = ("--images", "300", "--epochs", "1", "--seeds", "1", "--workers", "1")


@pytest.mark.slow
def test_a_study_is_measured_on_dask_and_published(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    answer = run_command(tmp_path, *ASKED, *SMALL, "--artifacts", artifacts, "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    told = json.loads(answer.stdout)
    assert "point 2 of 2: 28 × 28 rows, " in answer.stderr
    folder = artifacts / told["place"]
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() == told["manifest"]
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, seal in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == seal["sha256"]
    results = json.loads((folder / "results.json").read_bytes())
    counts = [point["counts"] for point in results["points"]]
    assert [point["point"]["recipe"] for point in results["points"]] == ["question", "sound"]
    wanted = {"sequences": 12000, "fitted": 300, "held_out": 1000, "left_out": 10700, "seen": 300, "answered": 1000}
    assert counts == [wanted, wanted]
    assert (results["study"]["test_images"], results["study"]["data"], results["study"]["catalogs"]) == (2000, None, [])
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert "Found 750 input samples and 12000 target samples" in page
    assert "To read 16 images as one sequence and keep every label, group the labels too: " in page
    assert f'href="studies/{told["study"]}/study.html"' in (artifacts / "index.html").read_text(encoding="utf-8")
    assert len(list((artifacts / "store" / "keys" / "study").glob("*.json"))) == 2
    with contextlib.closing(sqlite3.connect(tmp_path / ".prefect" / "prefect.db")) as database, database:
        names = {name for (name,) in database.execute("select name from task_run where name like 'point %'")}
        [key] = {key for (key,) in database.execute("select key from artifact where key = 'study'")}
    assert names == {f"point 28 × 28 rows, {recipe} recipe, seed 0" for recipe in ("question", "sound")}
    assert key == "study"


@pytest.fixture
def cluster(server: tuple[str, Path], tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A scheduler and a worker of Dask that somebody else started: their address, and that of their Prefect server."""
    address, api = f"tcp://127.0.0.1:{free_port()}", f"{server[0]}/api"
    environment = environment_of(tmp_path) | {"PREFECT_API_URL": api}
    dask = [sys.executable, "-m", "dask"]
    own = ("--no-dashboard", "--host", "127.0.0.1")
    commands = (
        [*dask, "scheduler", *own, "--port", address.rpartition(":")[2]],
        [*dask, "worker", address, *own, "--nthreads", "1", "--local-directory", str(tmp_path)],
    )
    with (tmp_path / "dask.log").open("w") as log:
        started = [subprocess.Popen(c, cwd=ROOT, env=environment, stdout=log, stderr=log) for c in commands]
        try:
            yield address, api
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(30)


@pytest.mark.slow
def test_a_study_joins_the_dask_that_is_there(cluster: tuple[str, str], tmp_path: Path) -> None:
    dask, api = cluster
    there = ("--dask", dask, "--artifacts", tmp_path / "artifacts", "--json")
    answer = run_command(tmp_path, *ASKED, *SMALL, *there, PREFECT_API_URL=api)
    assert answer.returncode == 0, answer.stdout + answer.stderr + (tmp_path / "dask.log").read_text()
    assert f"1 min of work, among the workers of {dask}" in answer.stderr
    assert "point 2 of 2: 28 × 28 rows, " in answer.stderr
    assert "Register worker" in (tmp_path / "dask.log").read_text()


@pytest.mark.slow
@pytest.mark.soak  # three studies; `make test` has one
def test_a_point_that_fails_leaves_the_others_going(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    asked = (*ASKED, *SMALL, "--artifacts", artifacts)
    assert run_command(tmp_path, *asked).returncode == 0
    store = Store(artifacts)
    [sealed] = (Sequences.model_validate(record.value) for record in store.records("reshape"))
    settings = settings_of(scans=("rows",), timesteps=(28,), seeds=3, images=300, epochs=1)
    failing = next(point for point in designed(settings, 784, 12_000) if point.seed == 1)
    in_its_way = store.key_path("study", key_of(sealed, failing).digest)
    (in_its_way / "a folder where its record should be").mkdir(parents=True)
    answer = run_command(tmp_path, *asked, "--seeds", "3")
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert re.search(
        r"point \d of 2 failed: point 28 × 28 rows, question recipe, seed 1: ", answer.stdout + answer.stderr
    )
    assert len([path for path in in_its_way.parent.glob("*.json") if path.is_file()]) == 5, (
        "the others are kept, those of the next seed too"
    )
    assert len(list((artifacts / "studies").iterdir())) == 1
    shutil.rmtree(in_its_way)
    again = run_command(tmp_path, *asked, "--seeds", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "study: 6 points, 5 of them there already" in again.stdout + again.stderr


class FakeMeasuring:
    """Measures batches in place of Dask, all points but those that fail; knows what was measured, as the store does."""

    def __init__(self, failing: Collection[Point], known: Collection[Point]) -> None:
        """Begin with some points measured before."""
        self.failing, self.known = set(failing), set(known)
        self.begun: list[tuple[Point, ...]] = []

    def with_options(self, **_: object) -> FakeMeasuring:
        """Take any runner."""
        return self

    def __call__(self, _artifacts: Path, _sequences: object, batch: tuple[Point, ...]) -> None:
        """Measure a batch."""
        self.begun.append(batch)
        self.known |= set(batch) - self.failing
        if wrong := self.failing & set(batch):
            raise RuntimeError(f"{len(wrong)} failed")

    def missing(self, _store: Store, _sequences: object, points: Sequence[Point]) -> tuple[Point, ...]:
        """Which points nobody has measured yet."""
        return tuple(point for point in points if point not in self.known)


class ClosingBadly(FakeMeasuring):
    """A cluster that is too busy to answer when it should end, or ever."""

    def __call__(self, artifacts: Path, sequences: object, batch: tuple[Point, ...]) -> None:
        """Measure a batch and fail."""
        super().__call__(artifacts, sequences, batch) if not self.failing else self.begun.append(batch)
        raise TimeoutError


POINTS = designed(settings_of(scans=("rows",), timesteps=(28, 56), seeds=3), 784, 12_000)


def batches_begun(tmp_path: Path, patch: pytest.MonkeyPatch, failing: Sequence[Point], known: Sequence[Point]) -> int:
    """How many batches of three seeds were begun before the study failed."""
    fake = FakeMeasuring(failing, known)
    patch.setattr(study, "run_points", fake)
    patch.setattr(study, "missing_points", fake.missing)
    patch.setattr(study, "dask_runner", lambda *_: None)
    with pytest.raises(RuntimeError, match="failed"):
        run_batches(tmp_path, {}, POINTS, None, 1)
    return len(fake.begun)


@pytest.mark.parametrize("failing", [(), POINTS])
def test_a_cluster_that_does_not_answer_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: Sequence[Point]
) -> None:
    fake = ClosingBadly(failing, [])
    monkeypatch.setattr(study, "run_points", fake)
    monkeypatch.setattr(study, "missing_points", fake.missing)
    monkeypatch.setattr(study, "dask_runner", lambda *_: None)
    if failing:
        with pytest.raises(StorageError, match=r"did not answer in time.* give the same command again"):
            run_batches(tmp_path, {}, POINTS, None, 1)
        assert len(fake.begun) == 1
    else:
        run_batches(tmp_path, {}, POINTS, None, 1)
        assert len(fake.begun) == 3
        assert caplog.text.count("these points are measured, but their cluster did not end as it should: Timeout") == 3


def test_what_is_measured_and_not_there_ends_the_study_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the code was edited meanwhile: workers keep their points under other keys than those looked for."""
    fake = FakeMeasuring([], [])
    monkeypatch.setattr(study, "run_points", fake)
    monkeypatch.setattr(study, "missing_points", lambda _store, _sequences, points: tuple(points))
    monkeypatch.setattr(study, "dask_runner", lambda *_: None)
    with pytest.raises(StorageError, match="4 points are not in the store although they were measured: 56 × 14 rows"):
        run_batches(tmp_path, {}, POINTS, None, 1)
    assert len(fake.begun) == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_what_failed_before_and_fails_again_keeps_no_later_batch_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    assert batches_begun(tmp_path, monkeypatch, POINTS[:failing], POINTS[failing:4]) == 3


def test_where_nothing_at_all_can_be_measured_no_later_batch_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batches_begun(tmp_path, monkeypatch, POINTS, ()) == 1
    assert batches_begun(tmp_path, monkeypatch, POINTS, POINTS[:3]) == 2


def test_a_run_does_not_wait_for_dask() -> None:
    imported = "import sys, flows.run_command; print({'dask', 'distributed', 'prefect_dask'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--scan", "row"), "Did you mean 'rows'"), (("--budget-minutes", "0"), "budget_minutes = 0")],
)
def test_a_wrong_study_is_told_before_anything_begins(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    answer = run_command(tmp_path, "study", "timesteps", *arguments, "--artifacts", tmp_path / "artifacts")
    assert answer.returncode == 2
    assert said in answer.stderr
    assert not (tmp_path / "artifacts").exists()
