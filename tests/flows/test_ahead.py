"""Runs that the server scheduled ahead, on a real server: what its scheduler writes too late, and what was missed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from install_support import TOY, until
from prefect.client.schemas import filters
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServersCronSchedule
from prefect.states import AwaitingRetry, Crashed, Pending

from flows.doctor.server import server as examined_server
from flows.installation import ahead
from flows.installation.ahead import Outdated, _has_a_run_at, brought_up_to_date, outdated_runs
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
    with contextlib.closing(sqlite3.connect(server[1] / ".prefect" / "prefect.db", timeout=30)) as database, database:
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


@pytest.mark.parametrize("how", ["no schedule of the deployment's", "the same schedule at another time"])
def test_what_a_schedule_left_behind_is_removed(
    how: str, client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    if how == "no schedule of the deployment's":
        change = "update flow_run set created_by = json_set(created_by, '$.id', ?) where auto_scheduled"
        written(server, change, str(scheduled[0].id))
    else:
        change = "update deployment_schedule set schedule = json_set(schedule, '$.cron', ?)"
        written(server, change, "0 4 * * 1")
        (tmp_path / "stepwise.toml").write_text(TOY.replace("0 3 * * 1", "0 4 * * 1"))
    missed(server, scheduled[0])
    _, *others = waiting(client)
    told = look(client, tmp_path)
    assert told == ["removed: its schedule has changed"] * len(others) != []
    assert not {run.id for run in others} & {run.id for run in waiting(client)}
    assert look(client, tmp_path) == []
    assert client.read_flow_run(scheduled[0].id).state_name in {"Scheduled", "Late"}, "what was missed is made up for"


def test_a_clock_that_was_wrong_removes_nothing(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    later = f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365):%Y-%m-%d %H:%M:%S.%f}"
    written(server, "update deployment_schedule set updated = ?", later)
    written(server, "update deployment set updated = ?", later)
    assert look(client, tmp_path) == []
    assert {run.id for run in scheduled} <= {run.id for run in waiting(client)}


@pytest.mark.parametrize("cron", ["0 * * * *", "*/15 * * * *", "0 2,3 * * *", "0 3 * * *", "0 1-5 * * *"])
@pytest.mark.parametrize(
    ("zone", "day"),
    [("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("America/New_York", "2026-03-08")],
)
def test_the_schedule_has_the_runs_that_it_gave_when_clocks_change(cron: str, zone: str, day: str) -> None:
    """They would be removed and made anew, minute by minute, until the time has passed."""
    schedule = CronSchedule(cron=cron, timezone=zone)
    begin = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00") - datetime.timedelta(hours=2)
    own = DeploymentSchedule(schedule=schedule)
    server = ServersCronSchedule.model_validate(schedule.model_dump())
    dates = asyncio.run(server.get_dates(start=begin, end=begin + datetime.timedelta(hours=14)))
    assert dates
    for when in dates:
        assert _has_a_run_at(own, when), when
        assert not _has_a_run_at(own, when + datetime.timedelta(minutes=1)), when


def test_what_the_server_schedules_is_never_removed(client: SyncPrefectClient, tmp_path: Path) -> None:
    crons = (("30 2 * * *", "Europe/Berlin"), ("@daily", "Asia/Kolkata"), ("*/7 * * * *", "UTC"))
    text = ""
    for number, (cron, timezone) in enumerate(crons):
        one = TOY.replace("toy", f"toy{number}").replace("0 3 * * 1", cron)
        text += one.replace("Europe/Berlin", timezone)
    put(client, tmp_path, text)
    scheduled = until(lambda: of_all(client, len(crons)), 60, "runs of each")
    assert look(client, tmp_path) == []
    assert {run.id for run in scheduled} <= {run.id for run in waiting(client)}


def of_all(client: SyncPrefectClient, deployments: int) -> list[FlowRun]:
    """The runs that wait, once each of so many deployments has some."""
    found = waiting(client)
    return found if len({run.deployment_id for run in found}) == deployments else []


def test_what_people_or_the_watchdog_had_tried_again_goes_on(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    """Of a run that crashed before it began nothing was counted yet."""
    run = scheduled[0]
    missed(server, run)
    client.set_flow_run_state(run.id, Crashed(message="no memory"), force=True)
    client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    put(client, tmp_path, TOY + "active = false\n")
    assert look(client, tmp_path) == []
    assert client.read_flow_run(run.id).state_name == "AwaitingRetry"


def test_a_run_that_is_taken_up_meanwhile_is_left_alone(
    client: SyncPrefectClient, tmp_path: Path, scheduled: list[FlowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, tmp_path, TOY.replace("epochs = 1", "epochs = 2"))
    first, second, *_ = until(lambda: waiting(client)[2:] and waiting(client), 60, "runs that are scheduled anew")
    stale = [Outdated(run, "toy", {"epochs": 1}, "read before it was taken up") for run in (first, second)]
    client.set_flow_run_state(first.id, Pending())
    client.delete_flow_run(second.id)
    monkeypatch.setattr(ahead, "outdated_runs", lambda *_: iter(stale))
    assert list(brought_up_to_date(client, "stepwise")) == []
    assert client.read_flow_run(first.id).parameters == first.parameters


def test_somebody_elses_schedule_is_switched_off_and_what_was_missed_stays(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    missed(server, scheduled[0])
    [deployment] = owned_deployments(client, "stepwise")
    other = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 5 * * *", timezone="UTC"), active=True)
    client.create_deployment_schedules(deployment.id, [other])
    told = put(client, tmp_path, TOY)
    assert told[2] == 'schedule of toy: changed: switched off "0 5 * * *" UTC'
    assert client.read_flow_run(scheduled[0].id).state_name in {"Scheduled", "Late"}
    assert put(client, tmp_path, TOY)[2] == "schedule of toy: unchanged"


def test_what_was_missed_is_not_made_up_for_where_the_schedule_is_off(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    missed(server, scheduled[0])
    told = put(client, tmp_path, TOY + "active = false\n")
    assert told[-1] == "runs of toy that wait: removed: 1: its deployment has no schedule any more"
    late = client.read_flow_run(scheduled[0].id)
    assert (late.state_name, late.state.message if late.state else "") == (
        "Unscheduled", "Missed: its deployment has no schedule any more.",
    )  # fmt: skip
    assert waiting(client) == []
    assert not list(outdated_runs(client, "stepwise"))


def test_what_was_missed_does_not_wait_for_a_pool_that_nobody_works_for(
    client: SyncPrefectClient, server: tuple[str, Path], tmp_path: Path, scheduled: list[FlowRun]
) -> None:
    missed(server, scheduled[0])
    told = put(client, tmp_path, "work_pool = 'other'\n" + TOY)
    assert told[-1] == "runs of toy that wait: removed: 1: its deployment's work pool is other now"
    assert client.read_flow_run(scheduled[0].id).state_name == "Unscheduled"
