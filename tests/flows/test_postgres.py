"""An installation on a real Postgres: automations that do what the watchdog does, and `stepwise up`."""

from __future__ import annotations

import datetime
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from flow_support import environment_of
from install_support import STEPWISE, TOY, Receiver, client_of, free_port, postgres, served, until
from prefect.states import Completed, Crashed, Failed, Pending, Running

from flows.installation import automations
from flows.installation.deploy import deploy
from flows.installation.owned import owned_deployments
from schemas.errors import ConfigurationError
from schemas.installation import load_installation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


def put(client: SyncPrefectClient, folder: Path, text: str) -> list[str]:
    path = folder / "stepwise.toml"
    path.write_text(text)
    return [str(item) for item in deploy(client, load_installation(path)) if item.name.startswith("automation")]


def began(client: SyncPrefectClient) -> UUID:
    [deployment] = owned_deployments(client, "stepwise")
    return again(client, client.create_flow_run_from_deployment(deployment.id).id)


def again(client: SyncPrefectClient, run: UUID) -> UUID:
    client.set_flow_run_state(run, Pending())
    client.set_flow_run_state(run, Running())
    return run


@pytest.mark.soak  # `make test` has what is put there in test_deploy.py
def test_automations_are_put_there_once_and_end_try_again_and_tell(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = datetime.timedelta(seconds=10)  # the server takes no shorter ones
    monkeypatch.setattr(automations, "RETRY_AFTER", shorter)
    monkeypatch.setattr(automations, "HEARTBEATS_WITHIN", shorter)
    served_there = served(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    with Receiver() as hook, served_there as address, client_of(address) as client:
        text = f'automations = true\nconcurrency = 5\nalerts.webhook = "{hook.address}"\n'
        names = ("dead runs crash", "crashed runs go on", "failures are told")
        assert put(client, tmp_path, text + TOY) == [f"automation 'stepwise: {name}': created" for name in names]
        before = _stamps(client)
        assert put(client, tmp_path, text + TOY) == [f"automation 'stepwise: {name}': unchanged" for name in names]
        assert _stamps(client) == before
        assert len(before) == 3
        changed = put(client, tmp_path, f"retries = 1\n{text}{TOY}")
        assert changed[1] == "automation 'stepwise: crashed runs go on': changed: trigger"
        assert len(client.read_automations()) == 3

        silent, crashed, failed, well = (began(client) for _ in range(4))
        for run in (silent, well):
            _heartbeat(client, run)
        client.set_flow_run_state(crashed, Crashed(message="killed"))
        client.set_flow_run_state(failed, Failed(message="bad data"))
        client.set_flow_run_state(well, Completed())
        until(lambda: _named(client, crashed, "AwaitingRetry"), 90, "a crashed run that is tried again")
        until(lambda: _named(client, silent, "Crashed"), 90, "a silent run that has crashed")
        again(client, crashed)
        client.set_flow_run_state(crashed, Crashed(message="killed again"))
        until(lambda: len(hook.taken) >= 4, 60, "alerts")
        told = {(message["run"], message["state"]) for message in hook.taken}
        name = {run: client.read_flow_run(run).name for run in (silent, crashed, failed)}
        assert told >= {(name[crashed], "Crashed"), (name[failed], "Failed"), (name[silent], "Crashed")}
        assert client.read_flow_run(well).state_name == "Completed"
        time.sleep(15)  # longer than the first time took
        states = [state.name for state in client.read_flow_run_states(crashed)]
        assert states.count("AwaitingRetry") == 1  # the bound

        other = f"work_pool = 'other pool'\nautomations = true\n{TOY.replace('toy', 'theirs')}"
        theirs = put(client, tmp_path, other)
        assert theirs == [f"automation 'other pool: {name}': created" for name in names[:2]]
        assert len(client.read_automations()) == 5, "those of the other installation stay"

        gone = put(client, tmp_path, TOY)
        assert sorted(gone) == sorted(f"automation 'stepwise: {name}': removed" for name in names)
        assert {automation.name for automation in client.read_automations()} == {
            f"other pool: {name}" for name in names[:2]
        }
        with pytest.raises(ConfigurationError, match="there is no block 'slack-webhook/nobody' on the server"):
            put(client, tmp_path, 'automations = true\nalerts.block = "slack-webhook/nobody"\n' + TOY)


def _stamps(client: SyncPrefectClient) -> dict[str, str]:
    """When the server last wrote each automation down."""
    found = client._client.post("/automations/filter", json={}).json()
    return {automation["name"]: automation["updated"] for automation in found}


def _named(client: SyncPrefectClient, run: UUID, name: str) -> bool:
    return name in [state.name for state in client.read_flow_run_states(run)]


def _heartbeat(client: SyncPrefectClient, run: UUID) -> None:
    """What the engine of a run says every so often."""
    [deployment] = owned_deployments(client, "stepwise")
    event = {
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "event": automations.HEARTBEAT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.name": "run"},
        "related": [
            {"prefect.resource.id": f"prefect.deployment.{deployment.id}", "prefect.resource.role": "deployment"}
        ],
        "id": f"01a20ff5-6207-739f-87f7-{run.hex[:12]}",
    }
    client._client.post("/events", json=[event]).raise_for_status()


def test_up_runs_on_the_postgres_that_its_file_names(database: str, tmp_path: Path) -> None:
    (tmp_path / "stepwise.toml").write_text(f'database_url = "{database}"\n{TOY}')
    command = [*STEPWISE, "up", "--file", str(tmp_path / "stepwise.toml"), "--port", str(free_port())]
    log = tmp_path / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment_of(tmp_path), stdout=out, stderr=out)
    try:
        until(lambda: "deployment toy: next run" in log.read_text() or process.poll() is not None, 240, "all of it")
        said = log.read_text()
        assert "(postgresql)" in said, said
        assert "worker: online for pool stepwise" in said
        assert not list(tmp_path.glob(".prefect/*.db"))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
