"""Examining the Prefect server and what is the installation's on it. Nothing is written, and no server is started."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import prefect
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from flows.doctor.finding import bad, examined, some, warn, well
from flows.installation import up, watchdog
from flows.installation.ahead import outdated_runs
from flows.installation.deploy import differences
from flows.installation.owned import next_start, owned_deployments
from flows.installation.watchdog import Watchdog
from flows.reach import require_server, server_client
from flows.server import address_of
from schemas.errors import SourceError
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

    from flows.doctor.finding import Finding
    from schemas.installation import Installation
    from tasks.store import Store

LATE: Final = datetime.timedelta(seconds=60)
JUST_NOW: Final = datetime.timedelta(minutes=3)  # the server goes through all deployments once a minute
UP: Final = "stepwise up starts server, worker and watchdog, and keeps them running"


def server(installation: Installation, store: Store | None) -> Iterator[Finding]:
    """Everything about the server; where there is none, whether one is needed."""
    configured = get_current_settings().api.url
    api = get_current_settings().server.api
    address = configured or f"{address_of(str(api.host), api.port)}/api"
    try:
        require_server(address)
    except SourceError as error:
        yield _silent(error, installation, store, configured=configured is not None)
        return
    with _asked_once(address):
        findings = examined("server", lambda: _version(address))
        yield from findings
        if any(finding.verdict == "bad" for finding in findings):
            return
        with server_client() as client:
            yield from examined("work pool", lambda: _pool(client, installation))
            yield from examined("watchdog", lambda: _watchdog(client, installation, store))
            yield from examined("deployments", lambda: _deployments(client, installation))
            yield from examined("runs on the server", lambda: _runs(client, installation, store))
            yield from examined("runs that wait", lambda: _waiting(client, installation))


def _silent(error: SourceError, installation: Installation, store: Store | None, *, configured: bool) -> Finding:
    address = error.file
    if configured:
        found = f"{address}: {error.found}"
        return bad(
            "server", found, f"{error.remedy}. The address stands in PREFECT_API_URL or a profile of Prefect's", 4
        )
    if store and store.is_locked(up.LOCK):
        found = f"stepwise up runs for these artifacts, but no Prefect server answers at {address}"
        return bad("server", found, "Set PREFECT_API_URL to the address that it told, such as http://host:port/api", 4)
    scheduled = [name for name, each in installation.deployments.items() if each.cron and each.active]
    if scheduled:
        found = f"no Prefect server answers at {address}, so nothing runs on a schedule ({some(scheduled)})"
        return warn("server", found, f"{UP}; or set PREFECT_API_URL to one that runs elsewhere")
    return well("server", f"no Prefect server answers at {address}; none is needed: a run brings its own")


@contextmanager
def _asked_once(address: str) -> Iterator[None]:
    """Have clients reach this server, and not try again for minutes."""
    with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


def _version(address: str) -> Iterator[Finding]:
    with server_client() as client:
        theirs, ours = client.api_version(), prefect.__version__
        if theirs == ours:
            yield well("server", f"{address} answers, Prefect {theirs} as here")
        else:
            found = f"{address} has Prefect {theirs}, here is {ours}"
            yield warn("server", found, f"Give both the same version; stepwise was tested with {ours}")


def _pool(client: SyncPrefectClient, installation: Installation) -> Iterator[Finding]:
    name = installation.work_pool
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        yield warn("work pool", f"'{name}' is not on the server", "stepwise deploy makes it, and so does stepwise up")
        return
    if pool.type != "process":
        yield bad(
            "work pool", f"'{name}' is of type {pool.type} instead of process", "Set work_pool to another name", 2
        )
    elif pool.is_paused:
        yield bad("work pool", f"'{name}' is paused: nothing runs", "Resume it in the UI, under Work Pools", 1)
    else:
        yield well("work pool", f"'{name}' is there")
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    if online:
        yield well("worker", f"{some(online)}: online")
        return
    heard = max((worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time), default=None)
    last = f"the last one was heard of {_ago(heard)}" if heard else "there never was one"
    remedy = f"{UP}; on a machine beside: prefect worker start --pool {name} --type process"
    yield bad("worker", f"none is online for pool '{name}' ({last}): nothing runs", remedy, 1)


def _watchdog(client: SyncPrefectClient, installation: Installation, store: Store | None) -> Iterator[Finding]:
    if store and store.is_locked(watchdog.LOCK):
        yield well("watchdog", "it watches these artifacts")
    elif installation.automations:
        yield well("watchdog", "none here; automations on the server stand for it")
    elif owned_deployments(client, installation.work_pool):
        found = "none here: crashed runs are not tried again, missed ones not made up for, failures not told"
        yield warn("watchdog", found, "stepwise up has one; else run stepwise watch on the worker's machine")


def _deployments(client: SyncPrefectClient, installation: Installation) -> Iterator[Finding]:
    others = {found.id: found for found in owned_deployments(client, installation.work_pool)}
    for name, found, changes in differences(client, installation):
        about = f"deployment {name}"
        if found is None:
            yield warn(about, "it stands in the file and is not on the server", "stepwise deploy puts it there")
            continue
        others.pop(found.id, None)
        if changes:
            yield warn(about, f"the file says otherwise: {some(changes)}", "stepwise deploy makes it so")
        elif found.paused:
            yield warn(about, "it is paused", "Resume it in the UI, under Deployments")
        else:
            yield _scheduled(client, about, found)
    for found in others.values():
        if any(schedule.active for schedule in found.schedules):
            remedy = "stepwise deploy takes its schedule off; or put it into the file again"
            yield warn(f"deployment {found.name}", "it runs on a schedule and is no longer in the file", remedy)


def _scheduled(client: SyncPrefectClient, about: str, deployment: DeploymentResponse) -> Finding:
    last = _last_run(client, deployment)
    told = f"; last run {last.state_name} {_ago(last.end_time)}" if last else "; it has not run yet"
    active = [schedule for schedule in deployment.schedules if schedule.active]
    first = next_start(client, deployment.id) if active else None
    if active and first is None and any(_age(schedule.updated) > JUST_NOW for schedule in active):
        found = "its schedule is on, and the server has scheduled no run"
        remedy = "See what the server logs; a SQLAlchemy that is too new does this silently (packages, above)"
        return bad(about, found + told, remedy, 1)
    if active:
        when = f"next run {first.astimezone():%Y-%m-%d %H:%M %Z}" if first else "its first run is about to be scheduled"
    else:
        when = "runs by hand" if not deployment.schedules else "its schedule is off"
    if last and last.state_type in {StateType.FAILED, StateType.CRASHED}:
        remedy = f"See its dossier in the UI, or stepwise runs --all; then press Retry there ({last.name})"
        return warn(about, when + told, remedy)
    return well(about, when + told)


def _last_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> FlowRun | None:
    """The last run that came to an end of its own."""
    of = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=_of_types(StateType.COMPLETED, StateType.FAILED, StateType.CRASHED),
    )
    found = client.read_flow_runs(flow_run_filter=of, sort=FlowRunSort.END_TIME_DESC, limit=1)
    return found[0] if found else None


def _runs(client: SyncPrefectClient, installation: Installation, store: Store | None) -> Iterator[Finding]:
    deployments = {found.id for found in owned_deployments(client, installation.work_pool)}
    watching = Watchdog(client, installation)
    about = "runs on the server"
    dead = [f"{run.name} ({state.message})" for run, state in watching.dead(deployments)] if store else []
    due = [run for deployment in deployments for run in watching.due(deployment)]
    late = [run.name for run in due if _age(run.next_scheduled_start_time) > LATE]
    if dead:
        found = f"{counted(len(dead), 'run')} that the server believes under way: {some(dead)}"
        remedy = "The watchdog ends it and has it tried again (stepwise up, stepwise watch); or set its state in the UI"
        yield bad(about, found, remedy, 1)
    if late:
        yield bad(about, f"{counted(len(late), 'run')} late: {some(late)}", "A worker that is online takes them up", 1)
    if not dead and not late:
        yield well(about, "none dead, none late")


def _waiting(client: SyncPrefectClient, installation: Installation) -> Iterator[Finding]:
    outdated = list(outdated_runs(client, installation.work_pool))
    if outdated:
        found = f"{counted(len(outdated), 'run')} not as the deployment is: "
        told = some(f"{one.run.name} of {one.deployment} ({one.why})" for one in outdated)
        yield warn("runs that wait", found + told, "The watchdog sets them right, and so does stepwise deploy")


def _of_types(*types: StateType) -> filters.FlowRunFilterState:
    return filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[*types]))


def _age(when: Any) -> datetime.timedelta:  # noqa: ANN401 - a datetime of one library or another
    return datetime.datetime.now(datetime.UTC) - when if when else datetime.timedelta()


def _ago(when: Any) -> str:  # noqa: ANN401 - the same
    minutes = _age(when).total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"
