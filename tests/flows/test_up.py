"""`stepwise up` as it is used: started, worked with, killed here and there, stopped; with a password throughout."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from flow_support import environment_of
from install_support import STEPWISE, TOY, Receiver, client_of, free_port, until
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD = "team:open sesame"  # noqa: S105 - of this test's own server


@dataclasses.dataclass
class Place:
    """Where an installation is: its home, its file and its port."""

    home: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **environment_of(self.home),
            "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def stepwise(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*STEPWISE, *arguments, "--file", str(self.home / "stepwise.toml")],
            env=environment_of(self.home) | more, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def attempts(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in self.home.glob("artifacts/store/attempts/*.json")]


class Up:
    """A running `stepwise up`."""

    def __init__(self, place: Place) -> None:
        self._log = place.home / "up.log"
        command = [*STEPWISE, "up", "--file", str(place.home / "stepwise.toml"), "--port", str(place.port)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=place.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.waits_for("deployment toy: next run ")

    @property
    def said(self) -> str:
        return self._log.read_text()

    def waits_for(self, text: str, seconds: float = 240) -> None:
        until(lambda: text in self.said or self._process.poll() is not None, seconds, f"{text!r} in {self.said}")
        assert text in self.said, self.said

    def below(self, *words: str) -> list[psutil.Process]:
        """The processes below it in whose command the words stand."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # any of them may end while it is looked at
                if all(word in " ".join(process.cmdline()) for word in words):
                    found.append(process)
        return found

    def ends(self, number: signal.Signals) -> float:
        """Send a signal; returns the seconds until it and all below it are gone."""
        processes = [psutil.Process(self._process.pid), *self.below()]
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(30)
        _, alive = psutil.wait_procs(processes[1:], timeout=20)
        assert alive == [], self.said
        return time.monotonic() - began

    def close(self) -> None:
        if self._process.poll() is None:
            self.ends(signal.SIGTERM)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def place(tmp_path: Path, hook: Receiver) -> Place:
    (tmp_path / "stepwise.toml").write_text(f'alerts.webhook = "{hook.address}"\n{TOY}')
    return Place(tmp_path, free_port())


def run_now(client: SyncPrefectClient, seed: int, epochs: int = 1) -> UUID:
    """Start a run of the deployment by hand."""
    deployment = client.read_deployment_by_name("retrain/toy")
    configuration = deployment.parameters["configuration"]
    configuration["training"] |= {"seed": seed, "epochs": epochs}
    return client.create_flow_run_from_deployment(deployment.id, parameters={"configuration": configuration}).id


def until_ended(client: SyncPrefectClient, run: UUID) -> list[str]:
    """Wait for a run's good end; returns the names of its states."""
    until(lambda: client.read_flow_run(run).state_name == "Completed", 240, "a run that completes")
    states = sorted(client.read_flow_run_states(run), key=lambda state: state.timestamp)
    return [state.name or "" for state in states]


def under_way(place: Place, tries: int = 1) -> bool:
    """Whether a run has begun, for the so-manieth time."""
    return any(attempt["outcome"] == "running" and attempt["tries"] == tries for attempt in place.attempts())


def test_everything_from_one_command_and_what_dies_goes_on(place: Place, hook: Receiver) -> None:
    up = Up(place)
    try:
        for line in ("server: healthy at ", "deployment toy: created", "worker: online for pool", "watchdog: running"):
            assert line in up.said
        refused = place.stepwise("deploy", PREFECT_API_URL=f"{place.address}/api")
        assert refused.returncode == 2
        assert "the Prefect server refused: 401" in refused.stderr
        assert "Set PREFECT_API_AUTH_STRING" in refused.stderr
        allowed = place.stepwise("deploy", PREFECT_API_URL=f"{place.address}/api", PREFECT_API_AUTH_STRING=PASSWORD)
        assert "deployment toy: unchanged" in allowed.stdout
        well = place.stepwise("doctor", PREFECT_API_URL=f"{place.address}/api", PREFECT_API_AUTH_STRING=PASSWORD)
        assert well.returncode == 0, well.stdout
        for line in ("well  watchdog: it watches", "well  deployment toy: next run", "0 to look at, 0 bad"):
            assert line in well.stdout
        second = place.stepwise("up", "--port", str(free_port()))
        assert second.returncode == 2
        assert "stepwise up runs already for these artifacts" in second.stderr

        with client_of(place.address, PASSWORD) as client:
            run = run_now(client, seed=1)
            until(lambda: under_way(place), 120, "a run under way")
            [flow] = up.below("prefect.engine")
            [worker] = up.below("worker", "start")
            [server] = up.below("uvicorn")
            killed = time.monotonic()
            flow.kill()
            worker.kill()
            until(lambda: "AwaitingRetry" in up.said, 120, "a crash that is noticed")
            noticed = time.monotonic() - killed
            server.kill()
            states = until_ended(client, run)
        assert noticed < 30
        assert states.count("Crashed") == 1
        assert states.count("AwaitingRetry") == 1
        assert states[-1] == "Completed"
        assert "worker: started again" in up.said
        assert "server: started again" in up.said
        assert len(list(place.home.glob("artifacts/runs/*/manifest.json"))) == 1
        [told] = hook.taken
        assert told["state"] == "Crashed"
        assert told["flow_run"] == str(run)
        print(f"noticed after {noticed:.1f} s, whole again after {time.monotonic() - killed:.1f} s")  # noqa: T201
    finally:
        up.close()


@pytest.mark.soak  # `make test` has the orders and what they leave in test_shutdown.py
def test_stopped_in_the_midst_it_goes_on_at_the_next_start_and_killed_it_leaves_nobody(place: Place) -> None:
    up = Up(place)
    try:
        with client_of(place.address, PASSWORD) as client:
            run = run_now(client, seed=2)
            until(lambda: under_way(place), 120, "a run under way")
            seconds = up.ends(signal.SIGTERM)
            assert seconds < 10
            assert "runs: 1 stopped, 0 had to be killed; they go on at the next start" in up.said
            assert up.said.endswith("stopped\n")
            [attempt] = place.attempts()
            assert attempt["outcome"] == "stopped"
            up = Up(place)
            assert "left from before: " in up.said
            assert ": set to AwaitingRetry: it was told to stop" in up.said
            states = until_ended(client, run)
            assert states.count("Running") == 2
            [attempt] = place.attempts()
            assert (attempt["outcome"], attempt["tries"]) == ("published", 2)
            run_now(client, seed=3)
            until(lambda: under_way(place), 120, "another run under way")
            killed = up.ends(signal.SIGKILL)
        assert killed < 10
        print(f"stopped in {seconds:.1f} s, killed in {killed:.1f} s")  # noqa: T201
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            up.close()


@pytest.mark.soak
@pytest.mark.parametrize("how", ["hangs", "dies again and again"])
def test_a_server_that_is_away_for_a_minute_costs_a_run_nothing(place: Place, how: str) -> None:
    up = Up(place)
    try:
        with client_of(place.address, PASSWORD) as client:
            run = run_now(client, seed=4, epochs=60)
            until(lambda: list(place.home.glob("artifacts/store/partial/train-*/*")), 240, "a training under way")
            away_for(60, up, hangs=how == "hangs")
            back = time.monotonic()
            states = until_ended(client, run)
            print(f"server {how}: the run ended {time.monotonic() - back:.1f} s after it was back, {states}")  # noqa: T201
            rows = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
        assert states.count("Running") == 1
        assert sorted({row.state_name for row in rows}) == ["Completed"]
        assert len(rows) == 12
        [attempt] = place.attempts()
        assert (attempt["outcome"], attempt["tries"]) == ("published", 1)
    finally:
        up.close()


def away_for(seconds: float, up: Up, *, hangs: bool) -> None:
    """Let the server answer nobody for so long: it is stopped, or killed whenever it comes up again."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for server in up.below("uvicorn"):
            with contextlib.suppress(psutil.NoSuchProcess):
                server.suspend() if hangs else server.kill()
        time.sleep(0.5)
    for server in up.below("uvicorn"):
        server.resume()


def test_a_port_that_is_taken_is_told_at_once(place: Place) -> None:
    with Receiver() as other:
        port = other.address.rpartition(":")[2].partition("/")[0]
        answer = place.stepwise("up", "--port", port)
    assert answer.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}: " in answer.stderr
    assert "Choose another with --port" in answer.stderr
    assert os.listdir(place.home / "artifacts" / "store")  # noqa: PTH208 - nothing but the store's own beginnings
