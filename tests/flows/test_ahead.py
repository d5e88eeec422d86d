"""Runs that the server scheduled ahead, on a real server: what its scheduler writes too late, and what was missed."""

from __future__ import annotations

import datetime
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from install_support import TOY, until
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType

from flows.doctor.server import server as examined_server
from flows.installation.ahead import outdated_runs
from flows.installation.deploy import deploy
from flows.installation.owned import owned_deployments
from flows.installation.watchdog import Watchdog
from schemas.installation import load_installation

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = pytest.mark.slow


@pytest.fixture
def scheduled(client: SyncPrefectClient, tmp_path: Path) -> list[FlowRun]:
    """The runs that the server scheduled ahead for the deployment of a file, once they are there."""
    put(client, tmp_path, TOY)
    return until(lambda: waiting(client), 60, "runs that are scheduled")


def put(client: SyncPrefectClient, folder: Path, text: str) -> list[str]:
    path = folder / "stepwise.toml"
    path.write_text(text)
    return [str(item) for item in deploy(client, load_installation(path))]


def look(client: SyncPrefectClient, folder: Path) -> list[str]:
    watchdog = Watchdog(client, load_installation(folder / "stepwise.toml"))
    return [f"{deed.what}: {deed.why}" for deed in watchdog.look_once()]


def waiting(client: SyncPrefectClient) -> list[FlowRun]:
    scheduled = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    found = client.read_flow_runs(flow_run_filter=filters.FlowRunFilter(state=scheduled))
    return sorted(found, key=lambda run: str(run.next_scheduled_start_time))


def epochs(client: SyncPrefectClient) -> set[Any]:
    return {run.parameters["configuration"]["training"]["epochs"] for run in waiting(client)}


def written(server: tuple[str, Path], statement: str, *values: str) -> None:
    """Write to the server's database as only the server does."""
    with sqlite3.connect(server[1] / ".prefect" / "prefect.db", timeout=30) as database:
        database.execute(statement, values)


def missed(server: tuple[str, Path], run: FlowRun) -> None:
    """Move a run's time an hour into the past, as if no worker had been there."""
    when = f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1):%Y-%m-%d %H:%M:%S.000000}"
    change = "update flow_run set next_scheduled_start_time = ?, expected_start_time = ? where id = ?"
    written(server, change, when, when, str(run.id))


def test_what_the_scheduler_wrote_just_after_a_change_is_set_right(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    assert look(client, tmp_path) == []
    old = json.dumps(scheduled[0].parameters)
    put(client, tmp_path, TOY.replace("epochs = 1", "epochs = 2"))
    until(lambda: waiting(client), 60, "runs that are scheduled anew")
    assert epochs(client) == {2}
    written(server, "update flow_run set parameters = ? where auto_scheduled", old)
    assert epochs(client) == {1}
    installation = load_installation(tmp_path / "stepwise.toml")
    [finding] = [each for each in examined_server(installation, None) if each.about == "runs that wait"]
    assert finding.verdict == "warn"
    assert finding.found.endswith(" of toy (its parameters are of before a change)")
    assert finding.remedy == "The watchdog sets them right, and so does stepwise deploy"
    told = look(client, tmp_path)
    assert set(told) == {"given its deployment's parameters: its parameters are of before a change"}
    assert len(told) == len(waiting(client))
    assert epochs(client) == {2}
    assert look(client, tmp_path) == []
    assert not [each for each in examined_server(installation, None) if each.about == "runs that wait"]


def test_a_missed_run_is_made_up_for_as_the_deployment_is_now(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    missed(server, scheduled[0])
    told = put(client, tmp_path, TOY.replace("epochs = 1", "epochs = 2").replace("0 3 * * 1", "0 4 * * 1"))
    assert told[-1] == "runs of toy that wait: changed: 1: its parameters are of before a change"
    late = client.read_flow_run(scheduled[0].id)
    assert late.parameters["configuration"]["training"]["epochs"] == 2
    assert late.state_name in {"Scheduled", "Late"}, "it is still to be made up for"


@pytest.mark.parametrize("how", ["no schedule of the deployment's", "a schedule that was changed meanwhile"])
def test_what_a_schedule_left_behind_is_removed(
    how: str, client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    if how == "no schedule of the deployment's":
        change = "update flow_run set created_by = json_set(created_by, '$.id', ?) where auto_scheduled"
        written(server, change, str(scheduled[0].id))
    else:
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
        written(server, "update deployment_schedule set updated = ?", f"{later:%Y-%m-%d %H:%M:%S.%f}")
    missed(server, scheduled[0])
    _, *others = waiting(client)
    told = look(client, tmp_path)
    assert told == ["removed: its schedule has changed"] * len(others) != []
    assert not {run.id for run in others} & {run.id for run in waiting(client)}
    assert look(client, tmp_path) == []
    assert client.read_flow_run(scheduled[0].id).state_name in {"Scheduled", "Late"}, "what was missed is made up for"


def test_what_was_missed_is_not_made_up_for_where_the_schedule_is_off(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    missed(server, scheduled[0])
    told = put(client, tmp_path, TOY + "active = false\n")
    assert told[-1] == "runs of toy that wait: removed: 1: its schedule has changed"
    late = client.read_flow_run(scheduled[0].id)
    assert (late.state_name, late.state.message if late.state else "") == (
        "Unscheduled", "Missed, and its deployment is not scheduled any more.",
    )  # fmt: skip
    assert waiting(client) == []
    assert not list(outdated_runs(client, owned_deployments(client, "stepwise")))
