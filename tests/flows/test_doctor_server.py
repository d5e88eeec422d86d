"""The doctor at a real server: what is the installation's on it, well and not, each fault planted and told."""

from __future__ import annotations

import contextlib
import datetime
import re
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import prefect
import pytest
from install_support import TOY, until
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.states import Failed, Pending, Running

from flows.doctor.server import server as examined_server
from flows.installation import watchdog
from flows.installation.deploy import deploy
from flows.installation.owned import next_start, owned_deployments
from schemas.installation import load_installation
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from flows.doctor.finding import Finding
    from schemas.installation import Installation

pytestmark = pytest.mark.slow


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    path = tmp_path / "stepwise.toml"
    path.write_text(TOY)
    return load_installation(path)


def told(installation: Installation) -> dict[str, str]:
    """What is said about each thing on the server; the last where there are several."""
    findings = examined_server(installation, Store(installation.artifacts))
    return {each.about: f"{each.verdict}: {each.found} → {each.remedy}".removesuffix(" → ") for each in findings}


def test_what_is_the_installations_on_a_server(
    client: SyncPrefectClient, server: tuple[str, Path], installation: Installation
) -> None:
    installation = installation.model_copy(update={"work_pool": "doctor"})
    lines = told(installation)
    assert lines["server"] == f"well: {server[0]}/api answers, Prefect {prefect.__version__} as here"
    assert lines["work pool"].startswith("warn: 'doctor' is not on the server → stepwise deploy makes it")
    assert lines["deployment toy"].startswith("warn: it stands in the file and is not on the server → stepwise deploy")

    deploy(client, installation)
    [deployment] = owned_deployments(client, "doctor")
    until(lambda: next_start(client, deployment.id), 60, "a run that is scheduled")
    lines = told(installation)
    assert lines["work pool"] == "well: 'doctor' is there"
    assert lines["worker"].startswith("bad: none is online for pool 'doctor' (there never was one): nothing runs → ")
    assert lines["worker"].endswith("prefect worker start --pool doctor --type process")
    assert lines["watchdog"].startswith("warn: none here: crashed runs are not tried again")
    assert lines["deployment toy"].startswith("well: next run 20")
    assert lines["deployment toy"].endswith("; it has not run yet")
    assert lines["runs on the server"] == "well: none dead, none late"

    client.update_work_pool("doctor", WorkPoolUpdate(is_paused=True))
    client._client.post("/work_pools/doctor/workers/heartbeat", json={"name": "worker"}).raise_for_status()
    slower = installation.model_copy(
        update={"deployments": {"toy": installation.deployments["toy"].model_copy(update={"cron": "0 4 * * 1"})}}
    )
    with Store(installation.artifacts).lock(watchdog.LOCK, shared=True):
        lines = told(slower)
    assert lines["work pool"] == "bad: 'doctor' is paused: nothing runs → Resume it in the UI, under Work Pools"
    assert lines["worker"] == "well: worker: online"
    assert lines["watchdog"] == "well: it watches these artifacts"
    assert lines["deployment toy"] == (
        'warn: the file says otherwise: schedule.cron "0 3 * * 1" → "0 4 * * 1" → stepwise deploy makes it so'
    )
    gone = told(installation.model_copy(update={"deployments": {}}))["deployment toy"]
    assert gone.startswith("warn: it runs on a schedule and is no longer in the file → stepwise deploy takes")


def test_runs_that_are_dead_late_or_failed_and_a_schedule_that_gives_none(
    client: SyncPrefectClient, server: tuple[str, Path], installation: Installation
) -> None:
    deploy(client, installation)
    [deployment] = owned_deployments(client, installation.work_pool)
    failed, dead, late = (client.create_flow_run_from_deployment(deployment.id) for _ in range(3))
    client.set_flow_run_state(failed.id, Pending())
    client.set_flow_run_state(failed.id, Running())
    client.set_flow_run_state(failed.id, Failed(message="bad data"))
    client.set_flow_run_state(dead.id, Pending())
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    client.update_flow_run(dead.id, infrastructure_pid=str(gone.pid))
    client.set_flow_run_state(dead.id, Running())
    until(lambda: next_start(client, deployment.id), 60, "a run that is scheduled")
    state = client.read_flow_run(dead.id).state_id
    minutes_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    text = f"{minutes_ago:%Y-%m-%d %H:%M:%S.000000}"
    path = server[1] / ".prefect" / "prefect.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:  # as if five minutes had passed
        database.execute("update deployment_schedule set updated = ?", (text,))
        database.execute("update flow_run set next_scheduled_start_time = ? where id = ? ", (text, str(late.id)))
        database.execute("update flow_run_state set timestamp = ? where id = ?", (text, str(state)))

    def unscheduled() -> list[Finding] | None:
        """What is found where the runs that the server scheduled are gone; not where it has just scheduled others."""
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
            database.execute("delete from flow_run where auto_scheduled")
        found = list(examined_server(installation, Store(installation.artifacts)))
        return None if next_start(client, deployment.id) else found

    findings = until(unscheduled, 60, "a moment in which nothing is scheduled")
    runs = [each for each in findings if each.about == "runs on the server"]
    assert [each.verdict for each in runs] == ["bad", "bad"]
    assert runs[0].found.startswith(f"1 run that the server believes under way: {dead.name} (Found by the watchdog on ")
    assert runs[0].remedy.startswith("The watchdog ends it and has it tried again (stepwise up, stepwise watch)")
    assert runs[1].found == f"1 run late: {late.name}"
    assert runs[1].remedy == "A worker that is online takes them up"
    [schedule] = [each for each in findings if each.about == "deployment toy"]
    told = r"its schedule is on, and the server has scheduled no run; last run Failed \d+ min ago"
    assert re.fullmatch(told, schedule.found)
    assert "a SQLAlchemy that is too new does this silently" in schedule.remedy
    assert client.read_flow_run(dead.id).state_name == "Running", "the doctor changes nothing"
