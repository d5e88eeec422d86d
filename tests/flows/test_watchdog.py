"""The watchdog on a real server: dead runs, tries, late runs and alerts, look by look; the dead are really killed."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from install_support import TOY
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Pending, Running, Scheduled
from watchdog_support import Process, attempt_of, began, begun, look, state_of

from flows.attempts import Attempts, Problem
from flows.events import tell
from flows.installation.deploy import deploy
from flows.installation.owned import owned_deployments
from flows.installation.watchdog import Watchdog, _counts, reconcile
from flows.retrain import retrain
from schemas.installation import Installation, load_installation
from tasks.store import Store
from tasks.train import train

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.states import State

pytestmark = pytest.mark.slow


def test_a_run_whose_process_is_killed_is_tried_again_up_to_a_bound(
    client: SyncPrefectClient, installation: Installation
) -> None:
    run = began(client, installation)
    for left in (2, 1, 0):
        process = Process(installation, run)
        task = client.create_task_run(train, run.id, dynamic_key=str(left), name="train", state=Running())
        assert look(client, installation) == []  # alive, and the look disturbs nothing
        assert state_of(client, run)[0] == "Running"
        process.kill()
        told = look(client, installation)
        assert told[0].startswith("set to Crashed: Found by the watchdog on ")
        assert told[0].endswith(": the process that ran it is gone.")
        assert told[1] == "set to Crashed: its run ended in the midst of it"
        assert client.read_task_run(task.id).state.type is StateType.CRASHED
        page = installation.artifacts / "index.html"
        assert attempt_of(run).run in page.read_text(encoding="utf-8"), "the page of all runs names the dead"
        page.unlink()
        if left:
            assert told[2:] == [f"set to AwaitingRetry: try {4 - left} of 3"]
            assert look(client, installation) == []  # once each
            run = begun(client, run.id)
    assert told[2:] == []
    assert look(client, installation) == []
    assert state_of(client, run)[0] == "Crashed"
    assert client.read_flow_run(run.id).run_count == 3


@pytest.mark.parametrize(
    ("state", "began", "counts"),
    [
        (Cancelled(name="Superseded"), False, False),
        (Cancelled(message="Deployment concurrency limit reached."), False, False),
        (Cancelled(), True, True),
        (Completed(), True, True),
        (Scheduled(), False, True),
    ],
)
def test_a_run_that_was_cancelled_before_it_began_stands_for_none_that_crashed(
    state: State[object], *, began: bool, counts: bool
) -> None:
    run = FlowRun(
        flow_id=uuid4(),
        state=state,
        state_type=state.type,
        start_time=datetime.datetime.now(datetime.UTC) if began else None,
    )
    assert _counts(run) == counts


def test_what_died_by_hand_is_ended_at_the_next_start_and_asked_for_once(
    client: SyncPrefectClient, installation: Installation
) -> None:
    runs = [client.create_flow_run(retrain, parameters={"artifacts": str(installation.artifacts)}) for _ in range(3)]
    died, finished, lives = [begun(client, run.id) for run in runs]
    processes = [Process(installation, run) for run in (died, finished, lives)]
    tasks = [client.create_task_run(train, run.id, dynamic_key="0", name="train", state=Running()) for run in runs]
    client.set_flow_run_state(finished.id, Completed(message="by itself"))
    assert reconcile(installation.artifacts) == []
    for process in processes[:2]:
        process.kill()
    told = [f"{deed.what}: {deed.why}" for deed in reconcile(installation.artifacts)]
    assert told[0].startswith("set to Crashed: Found by the watchdog on ")
    assert told[1:] == ["set to Crashed: its run ended in the midst of it"]
    assert [state_of(client, run)[0] for run in (died, finished, lives)] == ["Crashed", "Completed", "Running"]
    assert [client.read_task_run(task.id).state.type for task in tasks[::2]] == [StateType.CRASHED, StateType.RUNNING]
    client.set_flow_run_state(died.id, Running(), force=True)  # were it asked for again, it would be ended again
    assert reconcile(installation.artifacts) == []
    assert state_of(client, died)[0] == "Running"
    processes[2].kill()


def test_a_slot_is_free_again_after_a_crash(client: SyncPrefectClient, installation: Installation) -> None:
    run = began(client, installation)
    [deployment] = owned_deployments(client, installation.work_pool)
    second = client.create_flow_run_from_deployment(deployment.id)
    client.set_flow_run_state(second.id, Pending())
    assert state_of(client, second) == ("Cancelled", "Deployment concurrency limit reached.")
    process = Process(installation, run)
    process.kill()
    look(client, installation.model_copy(update={"retries": 0}))
    third = begun(client, client.create_flow_run_from_deployment(deployment.id).id)
    assert state_of(client, third)[0] == "Running"


def test_a_finished_run_is_never_overwritten(client: SyncPrefectClient, installation: Installation) -> None:
    run = began(client, installation)
    process = Process(installation, run)
    process.kill()
    client.set_flow_run_state(run.id, Completed(message="by itself"))
    assert look(client, installation) == []
    stale = run  # as a look has it that read the server a moment before the run finished
    assert not Watchdog(client, installation)._set(stale, Crashed())
    assert client.set_flow_run_state(run.id, Crashed()).status.value == "ABORT"  # and the server would refuse it too
    assert state_of(client, run) == ("Completed", "by itself")


def test_a_run_that_ended_and_could_not_say_so_ends_as_its_record_says(
    client: SyncPrefectClient, installation: Installation
) -> None:
    run = began(client, installation)
    attempts = Attempts(installation.artifacts)
    Store(installation.artifacts)
    ended = datetime.datetime.now(datetime.UTC)
    attempts.keep(attempt_of(run, outcome="published", published="the-run", ended=ended))
    assert look(client, installation) == []  # it may be about to say so
    with Store(installation.artifacts).lock(f"attempt-{attempt_of(run).run}"):
        assert look(client, installation, grace=0) == [], "its process is at its last deeds"
    with subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": str(run.id)}) as own:
        client.update_flow_run(run.id, infrastructure_pid=str(own.pid))
        earlier = ended - datetime.timedelta(minutes=2)
        attempts.keep(attempt_of(run, outcome="published", published="the-run", ended=earlier))
        time.sleep(0.3)
        assert look(client, installation) == [], "the server was away, and its process lives"
        own.kill()
    told = look(client, installation, grace=0)
    assert told == ["set to Completed: published: the-run (its process ended before it could say so)"]


@pytest.mark.parametrize(
    ("outcome", "state"), [("failed", "Failed"), ("stopped", "Crashed"), ("unchanged", "Completed")]
)
def test_a_run_ends_by_what_its_process_wrote_down(
    client: SyncPrefectClient, installation: Installation, outcome: str, state: str
) -> None:
    run = began(client, installation)
    Store(installation.artifacts)
    problem = Problem(step="train", found="the reason") if state != "Completed" else None
    ended = datetime.datetime.now(datetime.UTC)
    Attempts(installation.artifacts).keep(attempt_of(run, outcome=outcome, problem=problem, ended=ended))
    none = installation.model_copy(update={"retries": 0})
    told = look(client, none, grace=0)
    assert told[0].startswith(f"set to {state}: ")
    assert ("the reason" in told[0]) == (problem is not None)
    # What was told to stop goes on, what failed or is done does not.
    assert told[1:] == (["set to AwaitingRetry: it was told to stop"] if outcome == "stopped" else [])


def test_what_crashed_is_not_tried_again_beside_another_run(
    client: SyncPrefectClient, installation: Installation
) -> None:
    several = installation.model_copy(update={"concurrency": 2})
    deploy(client, several)
    run, other = began(client, several), began(client, several)
    process = Process(several, other)
    client.set_flow_run_state(run.id, Crashed(message="Execution was aborted by a termination signal."))
    assert look(client, several) == []
    client.set_flow_run_state(other.id, Completed())
    process.kill()
    assert look(client, several) == ["set to AwaitingRetry: it was told to stop"]


def test_a_run_that_was_taken_up_but_never_began_is_tried_again(
    client: SyncPrefectClient, installation: Installation
) -> None:
    [deployment] = owned_deployments(client, installation.work_pool)
    run = client.create_flow_run_from_deployment(deployment.id)
    client.set_flow_run_state(run.id, Pending())
    assert look(client, installation) == []
    told = look(client, installation, grace=0)
    assert told[0].endswith(": it was taken up but never began.")
    assert told[1] == "set to AwaitingRetry: try 2 of 3"


def test_the_number_of_a_dead_process_that_another_bears_now_is_not_taken_for_it(
    client: SyncPrefectClient, installation: Installation
) -> None:
    run = began(client, installation)
    with subprocess.Popen(["sleep", "600"]) as other:
        client.update_flow_run(run.id, infrastructure_pid=str(other.pid))
        assert look(client, installation) == []
        assert look(client, installation, grace=0)[0].endswith(": the process that ran it is gone.")
        other.kill()
    with subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": str(run.id)}) as own:
        begun(client, run.id)
        client.update_flow_run(run.id, infrastructure_pid=str(own.pid))
        time.sleep(0.3)
        assert look(client, installation, grace=0) == []
        own.kill()


def test_being_told_to_stop_is_no_crash_and_what_is_cancelled_is_not_tried_again(
    client: SyncPrefectClient, installation: Installation
) -> None:
    run = began(client, installation)
    client.set_flow_run_state(run.id, Crashed(message="Execution was aborted by a termination signal."))
    none = installation.model_copy(update={"retries": 0})
    assert look(client, none) == ["set to AwaitingRetry: it was told to stop"]
    begun(client, run.id)
    process = Process(installation, client.read_flow_run(run.id))
    Attempts(installation.artifacts).keep(attempt_of(run, tries=2))
    client.set_flow_run_state(run.id, Cancelling())
    assert look(client, installation) == []
    process.kill()
    [told] = look(client, installation)
    assert told.startswith("set to Cancelled: Cancelled; the process that ran it is gone.")
    assert look(client, installation) == []


def test_what_is_stopped_each_time_is_left_to_people_in_the_end(
    client: SyncPrefectClient, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.installation.watchdog.MOST_STOPS", 2)
    run = began(client, installation)
    for told in (["set to AwaitingRetry: it was told to stop"], ["set to AwaitingRetry: it was told to stop"], []):
        client.set_flow_run_state(run.id, Crashed(message="Execution was aborted by a termination signal."))
        assert look(client, installation) == told
        begun(client, run.id)


def test_a_run_of_before_a_change_of_pools_waits_in_none_and_holds_nothing_up(
    client: SyncPrefectClient, installation: Installation, tmp_path: Path
) -> None:
    run = began(client, installation)
    client.set_flow_run_state(run.id, Crashed(message="Execution was aborted by a termination signal."))
    (tmp_path / "stepwise.toml").write_text(f"work_pool = 'other'\n{TOY}")
    moved = load_installation(tmp_path / "stepwise.toml")
    deploy(client, moved)
    assert look(client, moved) == []
    assert state_of(client, run)[0] == "Crashed", "no worker would take it up"
    again = began(client, moved)
    client.set_flow_run_state(again.id, Crashed(message="Execution was aborted by a termination signal."))
    assert look(client, moved) == ["set to AwaitingRetry: it was told to stop"]


def test_of_the_runs_that_were_missed_the_newest_stands_for_all(
    client: SyncPrefectClient, installation: Installation, server: tuple[str, Path]
) -> None:
    [deployment] = owned_deployments(client, installation.work_pool)
    first = sorted(_scheduled(client, deployment.id), key=lambda run: run.expected_start_time)[:3]
    # Three weeks in which nothing ran: the times of three runs that the server scheduled are moved into the past.
    with contextlib.closing(sqlite3.connect(server[1] / ".prefect" / "prefect.db", timeout=30)) as database, database:
        for weeks, run in zip((3, 2, 1), first, strict=True):
            when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(weeks=weeks)
            text = f"{when:%Y-%m-%d %H:%M:%S.000000}"
            database.execute(
                "update flow_run set next_scheduled_start_time = ?, expected_start_time = ? where id = ?",
                (text, text, str(run.id)),
            )
    told = look(client, installation)
    assert [line.partition(":")[0] for line in told] == ["set to Superseded"] * 2
    states = [state_of(client, run) for run in first]
    assert [name for name, _ in states[:2]] == ["Superseded", "Superseded"]
    newest = client.read_flow_run(first[2].id)
    assert newest.state_type is StateType.SCHEDULED
    assert (
        states[0][1]
        == f"Missed. The run that was scheduled for {newest.expected_start_time:%Y-%m-%d %H:%M} UTC stands for it."
    )
    assert look(client, installation) == []


def _scheduled(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    waiting = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.read_flow_runs(flow_run_filter=waiting)
        if len(found) >= 3:
            return found
        time.sleep(0.5)
    raise AssertionError("the server scheduled nothing")


def test_what_happens_at_a_station_is_an_event_of_the_server(
    client: SyncPrefectClient, installation: Installation
) -> None:
    from prefect.events.worker import EventsWorker

    run = began(client, installation)
    tell("stepwise.model.published", attempt_of(run), {"accuracy": 0.99})
    EventsWorker.instance().drain()
    wanted = {"filter": {"event": {"name": ["stepwise.model.published"]}}}
    deadline = time.monotonic() + 30
    found: list[dict[str, object]] = []
    while not found and time.monotonic() < deadline:
        found = client._client.post("/events/filter", json=wanted).json()["events"]
        time.sleep(0.2)
    [event] = found
    assert event["payload"] == {"accuracy": 0.99}
    assert event["resource"] == {
        "prefect.resource.id": f"stepwise.run.{attempt_of(run).run}", "prefect.resource.name": attempt_of(run).run,
        "stepwise.dataset": "glyphs", "stepwise.preset": "smoke",
    }  # fmt: skip
