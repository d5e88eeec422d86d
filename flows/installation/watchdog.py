"""The watchdog: what the server believes is made to agree with what is, again and again.

It marks runs whose process died as crashed, has crashed ones tried again, lets one late run stand for all that were
missed, keeps what waits as its deployment is (ahead), and has failures told (alerts). A finished run's state is never
overwritten. It keeps no state of its own: what it does follows from the server, the attempts' records and their locks,
so that it can be killed at any moment. Not here: starting it (up), telling (alerts).
"""

from __future__ import annotations

import datetime
import functools
import itertools
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx
from prefect.client.schemas import filters
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed

from flows.attempts import Attempts
from flows.index import index_renewed
from flows.installation.ahead import brought_up_to_date
from flows.installation.alerts import Alarm, Record
from flows.installation.owned import owned_deployments, owned_runs, say, set_unless_changed
from flows.reach import require_named_server, server_client
from schemas.errors import SourceError, StorageError
from schemas.handles import Frozen
from schemas.installation import Installation, load_installation
from schemas.visible import without_user
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from flows.attempts import Attempt

POLL_SECONDS: Final = 3.0
START_GRACE: Final = datetime.timedelta(seconds=15)  # from Running until the process is known to the server
WAIT_GRACE: Final = datetime.timedelta(seconds=90)  # from Pending until there is a process
END_GRACE: Final = datetime.timedelta(seconds=20)  # from the flow's last line until the server knows its state
LAST_GRACE: Final = datetime.timedelta(minutes=5)  # the same, where its process lives and the server was away
TASK_GRACE: Final = datetime.timedelta(seconds=5)  # until the last that a run's process said of its tasks has arrived
RETRY_WITHIN: Final = datetime.timedelta(days=1)  # what crashed longer ago is left to people
MOST_STOPS: Final = 10  # that a run goes on after: beyond, something stops it each time
STOPPED: Final = "termination signal"  # how Prefect names the end of a run that was told to stop
UNDER_WAY: Final = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
SUPERSEDED: Final = "Superseded"
LOCK: Final = "watch"


class Deed(Frozen):
    """Something that the watchdog did."""

    what: str
    run: str
    why: str

    def __str__(self) -> str:
        """One line a person reads."""
        return f"{self.run}: {self.what}: {self.why}"


def watch(file: Path) -> None:
    """Watch the server for a file's installation until interrupted; what is done is told, a line each."""
    installation = load_installation(file)
    require_named_server()
    with Store(installation.artifacts).lock(LOCK, shared=True):  # so that others know that somebody watches
        _keep_watching(installation)


def _keep_watching(installation: Installation) -> NoReturn:
    while True:
        try:
            with server_client() as client:
                say(f"watching pool {installation.work_pool} at {without_user(str(client.api_url))}")
                watchdog = Watchdog(client, installation)
                while True:
                    for deed in watchdog.look_once():
                        say(str(deed))
                    time.sleep(POLL_SECONDS)
        except ObjectNotFound:  # somebody removed a run that was just looked at
            time.sleep(POLL_SECONDS)
        except StorageError as error:
            say(f"{error} Looking again in {POLL_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        except (httpx.HTTPError, SourceError) as error:  # its runs go on without the server, and so does this
            say(f"the server is away ({type(error).__name__}); looking again in {POLL_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)


def reconcile(artifacts: Path) -> list[Deed]:
    """Where no watchdog runs: end on the server what died under these artifacts since somebody last looked.

    The server is asked only where an attempt is found dead that nobody has noticed.
    """
    attempts = Attempts(artifacts)
    dead = attempts.newly_dead()
    if not dead:
        return []
    with server_client() as client:
        deeds = Watchdog(client, Installation(artifacts=artifacts.absolute())).end_dead()
    for attempt in dead:
        attempts.note_death(attempt)
    return deeds


@dataclass(frozen=True)
class Watchdog:
    """Looks after the runs of one installation.

    Attributes:
        client: The server.
        installation: Whose runs.
        grace: Factor on the times that a run has to show itself; tests shorten them.
        unkept: What alerts could not write down, from one look to the next.
    """

    client: SyncPrefectClient
    installation: Installation
    grace: float = 1.0
    unkept: dict[Path, Record] = field(default_factory=dict)

    def look_once(self) -> list[Deed]:
        """Do whatever is to be done now; a second look at once finds nothing more."""
        deployments = {found.id for found in owned_deployments(self.client, self.installation.work_pool)}
        alarm = Alarm(self.client, self.installation, self.unkept)
        alarm.begin()
        deeds = [*self._end_dead(deployments), *self._end_tasks_of_ended(deployments)]
        ended = self._ended_badly(deployments)
        next_try = functools.partial(self._next_try, deployments)
        new = [run for run in ended if alarm.note(run, next_try)]
        deeds += [Deed(what="noted for an alert", run=run.name, why=_told(run)) for run in new]
        deeds += self._leave_one_late(deployments)
        deeds += self._bring_up_to_date()
        deeds += self._try_again(deployments, ended)
        deeds += [Deed(what=done, run=name, why=why) for name, done, why in alarm.deliver()]
        if ended or deeds:
            self._show_the_dead()
        return deeds

    def _show_the_dead(self) -> None:
        """Make the page of all runs anew where one has died since: it could not do so itself."""
        attempts = Attempts(self.artifacts)
        dead = attempts.newly_dead()
        for attempt in dead:
            attempts.note_death(attempt)
        if dead:
            index_renewed(self.artifacts)

    def end_dead(self) -> list[Deed]:
        """End what is known by the attempts' records to have ended, and nothing else."""
        return list(self._end_dead(set()))

    def _end_dead(self, deployments: set[UUID]) -> Iterator[Deed]:
        """End the runs whose process is gone."""
        for run, state in self.dead(deployments):
            if self._set(run, state):
                yield Deed(what=f"set to {state.name}", run=run.name, why=state.message or "")
                yield from self._end_tasks(run)

    def dead(self, deployments: set[UUID]) -> Iterator[tuple[FlowRun, State[Any]]]:
        """The runs that the server believes under way but that are not, with the state that they should have."""
        under_way = self._runs(state=_of_types(UNDER_WAY))
        attempts = {attempt.flow_run: attempt for attempt in Attempts(self.artifacts).all()} if under_way else {}
        for run in under_way:
            if run.deployment_id not in deployments and str(run.id) not in attempts:
                continue
            state = self._end_of(run, attempts.get(str(run.id)))
            if state is not None:
                yield run, state

    def _end_of(self, run: FlowRun, attempt: Attempt | None) -> State[Any] | None:
        """The state of a run that the server believes under way but that is not; None where it is, or may be."""
        assert run.state is not None  # noqa: S101 - the server gives every run a state
        waited = _now() - run.state.timestamp
        seen = attempt is not None and attempt.tries >= run.run_count
        if attempt is None and not self._is_here(run):
            return None
        if attempt is not None and seen and run.state.type is not StateType.PENDING:
            return self._end_by_record(run, attempt)
        if run.infrastructure_pid and _is_alive(run.infrastructure_pid, run.id):
            return None
        begun = run.state.type is not StateType.PENDING and run.infrastructure_pid
        if waited < (START_GRACE if begun else WAIT_GRACE) * self.grace:
            return None
        return _dead(run, "the process that ran it is gone" if begun else "it was taken up but never began")

    def _end_by_record(self, run: FlowRun, attempt: Attempt) -> State[Any] | None:
        """How a run ended by what its own process wrote down; None where that still holds its lock."""
        if attempt.outcome == "running":
            return None
        if attempt.outcome == "died":
            return _dead(run, "the process that ran it is gone")
        if attempt.ended is None or self._may_say_so_itself(run, attempt):
            return None
        found = attempt.problem.found if attempt.problem else ""
        if attempt.outcome == "failed":
            return Failed(message=f"{found} (its process ended before it could say so)")
        if attempt.outcome == "stopped":
            return _dead(run, f"it was ended by a {STOPPED} ({found}) and could not say so")
        return Completed(message=f"{attempt.outcome}: {attempt.published} (its process ended before it could say so)")

    def _may_say_so_itself(self, run: FlowRun, attempt: Attempt) -> bool:
        """Whether the process of a run that ended is at its last deeds, or has just been, and will tell the server."""
        waited = _now() - (attempt.ended or _now())
        if Attempts(self.artifacts).is_held(attempt) or waited < END_GRACE * self.grace:
            return True
        pid = run.infrastructure_pid
        return waited < LAST_GRACE * self.grace and pid is not None and _is_alive(pid, run.id)

    def _end_tasks_of_ended(self, deployments: set[UUID]) -> Iterator[Deed]:
        """End the task runs that still count as running although their run crashed, whoever found that."""
        before = _now() - TASK_GRACE * self.grace
        conditions = {
            "state": _of_types((StateType.CRASHED, StateType.CANCELLED)),
            "end_time": filters.FlowRunFilterEndTime(after_=_now() - RETRY_WITHIN, before_=before),
        }
        ended = filters.FlowRunFilter(**conditions)
        lasting = self.client.read_task_runs(flow_run_filter=ended, task_run_filter=_lasting())
        of = {task.flow_run_id for task in lasting}
        for run in self._runs(**conditions) if of else ():
            if run.id in of and (run.deployment_id in deployments or self._is_here(run)):
                yield from self._end_tasks(run)

    def _end_tasks(self, run: FlowRun) -> Iterator[Deed]:
        """End the task runs of a run that ended without them."""
        of = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run.id]))
        for task in self.client.read_task_runs(flow_run_filter=of, task_run_filter=_lasting()):
            self.client.set_task_run_state(task.id, Crashed(message="Its run ended in the midst of it."), force=True)
            yield Deed(what="set to Crashed", run=f"{run.name}, {task.name}", why="its run ended in the midst of it")

    def _ended_badly(self, deployments: set[UUID]) -> list[FlowRun]:
        """Our runs that failed or crashed of late."""
        since = filters.FlowRunFilterEndTime(after_=_now() - RETRY_WITHIN)
        runs = self._runs(state=_of_types((StateType.FAILED, StateType.CRASHED)), end_time=since)
        return [run for run in runs if run.deployment_id in deployments or self._is_here(run)]

    def _leave_one_late(self, deployments: set[UUID]) -> Iterator[Deed]:
        """Of the scheduled runs of a deployment that were missed, leave the newest."""
        for deployment in deployments:
            late = [run for run in self.due(deployment) if run.auto_scheduled and run.run_count == 0]
            late.sort(key=lambda run: run.expected_start_time or _now())
            for run in late[:-1]:
                stands = late[-1].expected_start_time
                message = f"Missed. The run that was scheduled for {stands:%Y-%m-%d %H:%M} UTC stands for it."
                if self._set(run, Cancelled(name=SUPERSEDED, message=message)):
                    yield Deed(what="set to Superseded", run=run.name, why=message)

    def _bring_up_to_date(self) -> Iterator[Deed]:
        """Make what waits as its deployment is now."""
        for outdated in brought_up_to_date(self.client, self.installation.work_pool):
            done = "removed" if outdated.parameters is None else "given its deployment's parameters"
            yield Deed(what=done, run=outdated.run.name, why=outdated.why)

    def _try_again(self, deployments: set[UUID], ended: Sequence[FlowRun]) -> Iterator[Deed]:
        """Have what crashed tried again, so often as the installation says, and not beside another run."""
        busy: set[UUID] = set()
        for run in ended:
            deployment = run.deployment_id
            if deployment is None or deployment in busy:
                continue
            tried = self._next_try(deployments, run)
            if tried is None or self._is_busy(deployment):
                continue
            yield from self._end_tasks(run)
            if self._set(run, AwaitingRetry(scheduled_time=_now(), message=f"It goes on: {tried}.")):
                busy.add(deployment)
                yield Deed(what="set to AwaitingRetry", run=run.name, why=tried)

    def _next_try(self, deployments: set[UUID], run: FlowRun) -> str | None:
        """How a run that crashed is tried again once its deployment is free; None where it is left to people."""
        if run.state_type is not StateType.CRASHED or run.deployment_id not in deployments or not self._is_served(run):
            return None
        crashes, stops = self._ends(run)
        if crashes > self.installation.retries or stops > MOST_STOPS or self._stood_for(run):
            return None
        return f"try {crashes + 1} of {self.installation.retries + 1}" if crashes else "it was told to stop"

    def _ends(self, run: FlowRun) -> tuple[int, int]:
        """How often a run crashed, and how often it was told to stop, which is no crash; two words for one are one."""
        states = sorted(self.client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
        told = [
            STOPPED in (after.message or "")
            for before, after in itertools.pairwise(states)
            if after.type is StateType.CRASHED and before.type is not StateType.CRASHED
        ]
        return told.count(False), told.count(True)

    def _is_served(self, run: FlowRun) -> bool:
        """Whether the installation's worker takes a run up: one of before a change of pools stays in the old one."""
        return run.work_pool_name == self.installation.work_pool

    def _is_busy(self, deployment: UUID) -> bool:
        """Whether a deployment has a run that goes on or is due."""
        of = filters.FlowRunFilterDeploymentId(any_=[deployment])
        return bool(self._runs(state=_of_types(UNDER_WAY), deployment_id=of) or self.due(deployment))

    def _stood_for(self, run: FlowRun) -> bool:
        """Whether a later scheduled run stands for a scheduled run that crashed."""
        if not run.auto_scheduled or run.deployment_id is None or run.expected_start_time is None:
            return False
        of = filters.FlowRunFilterDeploymentId(any_=[run.deployment_id])
        between = filters.FlowRunFilterExpectedStartTime(after_=run.expected_start_time, before_=_now())
        later = self._runs(deployment_id=of, expected_start_time=between)
        return any(other.auto_scheduled and other.id != run.id and _counts(other) for other in later)

    def due(self, deployment: UUID) -> list[FlowRun]:
        """The runs of a deployment that wait although their time has come."""
        of = filters.FlowRunFilterDeploymentId(any_=[deployment])
        until = filters.FlowRunFilterNextScheduledStartTime(before_=_now())
        waiting = self._runs(state=_of_types((StateType.SCHEDULED,)), deployment_id=of, next_scheduled_start_time=until)
        return [run for run in waiting if self._is_served(run)]

    def _runs(self, **conditions: Any) -> list[FlowRun]:  # noqa: ANN401 - the server's conditions by name
        return owned_runs(self.client, **conditions)

    def _set(self, run: FlowRun, state: State[Any]) -> bool:
        return set_unless_changed(self.client, run, state)

    def _is_here(self, run: FlowRun) -> bool:
        """Whether a run's outputs are those of this installation."""
        return Path(str(run.parameters.get("artifacts", ""))) == self.artifacts

    @property
    def artifacts(self) -> Path:
        """The artifacts root."""
        return self.installation.artifacts


def _dead(run: FlowRun, why: str) -> State[Any]:
    """The end of a run whose process is gone: as asked where it was being cancelled, else a crash."""
    if run.state_type is StateType.CANCELLING:
        return Cancelled(message=f"Cancelled; {why}.")
    return Crashed(message=f"Found by the watchdog on {socket.gethostname()}: {why}.")


def _is_alive(infrastructure: str, run: UUID) -> bool:
    """Whether the process that a worker named runs this flow run; a number that was given away anew does not count."""
    number = infrastructure.rpartition(":")[2]
    if not number.isdigit():
        return True  # not a process of this machine: nothing is known of it
    try:
        os.kill(int(number), 0)
        environment = Path(f"/proc/{number}/environ").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process, or no /proc: it exists, and that is all that can be known
        return True
    return f"PREFECT__FLOW_RUN_ID={run}".encode() in environment.split(b"\0")


def _counts(run: FlowRun) -> bool:
    """Whether a run was, or will be: one that was cancelled before it began, as one too many, stands for nobody."""
    return run.state_type is not StateType.CANCELLED or run.start_time is not None


def _told(run: FlowRun) -> str:
    return f"{run.state_name}: {run.state.message if run.state else ''}"


def _of_types(types: Sequence[StateType]) -> filters.FlowRunFilterState:
    return filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[*types]))


def _lasting() -> filters.TaskRunFilter:
    types = filters.TaskRunFilterStateType(any_=[*UNDER_WAY])
    return filters.TaskRunFilter(state=filters.TaskRunFilterState(type=types))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
