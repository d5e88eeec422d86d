"""Runs that wait for their time: each is made as its deployment is now.

The server scheduled them ahead, with the deployment's parameters of that moment. It makes them anew when a deployment
changes, but not those whose time had come while no worker was there, and not those that its scheduler was just about
to write. What a person or the watchdog scheduled is left alone. Not here: which of several late runs stays (watchdog).
"""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.server.schemas.schedules import CronSchedule as ServersCronSchedule
from prefect.states import Cancelled

from flows.installation.owned import Item, owned_deployments, owned_runs, set_unless_changed, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

UNSCHEDULED: Final = "Unscheduled"
# Asked for the first date from one on that follows a change of the clocks, the server reckons the hour before.
_BEFORE_A_CHANGE: Final = datetime.timedelta(hours=3)
_BY_THE_SCHEDULER: Final = ("Scheduled", "Late")  # names of the states of runs that nobody touched since


@dataclass(frozen=True)
class Outdated:
    """A run that waits and is not as its deployment is.

    Attributes:
        run: The run.
        deployment: The name of its deployment.
        parameters: Those that it should have; None: it should not be.
        why: What is wrong with it.
    """

    run: FlowRun
    deployment: str
    parameters: dict[str, Any] | None
    why: str


def outdated_runs(client: SyncPrefectClient, pool: str) -> Iterator[Outdated]:
    """The scheduler's runs of a pool's deployments that wait and are not as these say; nothing is written.

    The runs are read first: of a deployment that changes meanwhile, none is taken for newer than it is.
    """
    scheduled = filters.FlowRunFilterState(
        type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED]),
        name=filters.FlowRunFilterStateName(any_=[*_BY_THE_SCHEDULER]),
    )
    runs = [run for run in owned_runs(client, state=scheduled) if run.auto_scheduled and run.run_count == 0]
    deployments = {deployment.id: deployment for deployment in owned_deployments(client, pool)} if runs else {}
    for run in runs:
        if run.deployment_id in deployments:
            deployment = deployments[run.deployment_id]
            parameters, why = _judged(run, deployment)
            if run.parameters != parameters:
                yield Outdated(run, deployment.name, parameters, why)


def brought_up_to_date(client: SyncPrefectClient, pool: str) -> Iterator[Outdated]:
    """Make the runs that wait as their deployments are; yields those that were not."""
    for outdated in outdated_runs(client, pool):
        try:
            done = _brought_up_to_date(client, outdated)
        except (ObjectNotFound, PrefectHTTPStatusError) as error:
            if _status(error) != HTTPStatus.NOT_FOUND:
                raise
            continue  # somebody else removed it meanwhile
        if done:
            yield outdated


def items(brought: Iterable[Outdated]) -> Iterator[Item]:
    """What was done about runs that wait, for a person, a line a deployment and reason."""
    counts: dict[tuple[str, str, str], int] = {}
    for one in brought:
        key = one.deployment, "removed" if one.parameters is None else "changed", one.why
        counts[key] = counts.get(key, 0) + 1
    for (deployment, done, why), count in counts.items():
        yield Item(name=f"runs of {deployment} that wait", done=done, changes=(f"{count}: {why}",))


def _brought_up_to_date(client: SyncPrefectClient, outdated: Outdated) -> bool:
    """Tells whether something was done: a run may begin at any moment, and is left alone then."""
    run = outdated.run
    if outdated.parameters is None and not _is_ahead(run):
        return set_unless_changed(client, run, Cancelled(name=UNSCHEDULED, message=f"Missed: {outdated.why}."))
    if not unchanged(client, run):
        return False
    if outdated.parameters is None:  # without a trace, so that the same schedule can have a run at this time again
        client.delete_flow_run(run.id)
    else:
        client.update_flow_run(run.id, parameters=outdated.parameters)
    return True


def _status(error: ObjectNotFound | PrefectHTTPStatusError) -> int:
    return HTTPStatus.NOT_FOUND if isinstance(error, ObjectNotFound) else error.response.status_code


def _judged(run: FlowRun, deployment: DeploymentResponse) -> tuple[dict[str, Any] | None, str]:
    """What a run's parameters should be, None where it should not be; and what is wrong where they are others.

    A late one stands for what was missed as long as its deployment has a schedule at all; one ahead needs its own.
    """
    active = [schedule for schedule in deployment.schedules if schedule.active and not deployment.paused]
    own = next((schedule for schedule in active if run.created_by and schedule.id == run.created_by.id), None)
    if not active:
        return None, "its deployment has no schedule any more"
    if run.work_pool_name != deployment.work_pool_name:
        return None, f"its deployment's work pool is {deployment.work_pool_name} now"
    if _is_ahead(run) and (own is None or not _has_a_run_at(own, run.expected_start_time)):
        return None, "its schedule has changed"
    return {**deployment.parameters, **(own.parameters if own else {})}, "its parameters are of before a change"


def _has_a_run_at(schedule: DeploymentSchedule, when: datetime.datetime | None) -> bool:
    """Whether a schedule has a run at a time, as the server reckons; of others than cron it is believed."""
    if when is None or not isinstance(schedule.schedule, CronSchedule):
        return True
    cron = ServersCronSchedule.model_validate(schedule.schedule.model_dump())
    early = when - _BEFORE_A_CHANGE
    dates = [*asyncio.run(cron.get_dates(1, start=when)), *asyncio.run(cron.get_dates(start=early, end=when))]
    return when.timestamp() in {each.timestamp() for each in dates}


def _is_ahead(run: FlowRun) -> bool:
    when = run.next_scheduled_start_time
    return when is not None and when > datetime.datetime.now(datetime.UTC)
