"""Runs that wait for their time: each is made as its deployment is now.

The server scheduled them ahead, with the deployment's parameters of that moment. It makes them anew when a deployment
changes, but not those whose time had come while no worker was there, and not those that its scheduler was just about
to write. Not here: which of several late runs is left (watchdog).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled

from flows.installation.owned import Item, owned_runs, set_unless_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

UNSCHEDULED: Final = "Unscheduled"


@dataclass(frozen=True)
class Outdated:
    """A run that waits and is not as its deployment is.

    Attributes:
        run: The run.
        deployment: The name of its deployment.
        parameters: Those that it should have; None: it should not be, since its schedule is another now.
    """

    run: FlowRun
    deployment: str
    parameters: dict[str, Any] | None

    @property
    def why(self) -> str:
        """What is wrong with it."""
        return "its schedule has changed" if self.parameters is None else "its parameters are of before a change"


def outdated_runs(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterator[Outdated]:
    """The runs of deployments that wait, never began, and are not as these say; nothing is written."""
    by_id = {deployment.id: deployment for deployment in deployments}
    scheduled = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    of = filters.FlowRunFilterDeploymentId(any_=[*by_id])
    for run in owned_runs(client, state=scheduled, deployment_id=of) if by_id else ():
        if run.auto_scheduled and run.run_count == 0 and run.deployment_id is not None:
            deployment = by_id[run.deployment_id]
            wanted = _parameters(run, deployment)
            if run.parameters != wanted:
                yield Outdated(run, deployment.name, wanted)


def brought_up_to_date(client: SyncPrefectClient, deployments: Iterable[DeploymentResponse]) -> Iterator[Outdated]:
    """Make the runs that wait as their deployments are; yields those that were not."""
    for outdated in outdated_runs(client, deployments):
        if _brought_up_to_date(client, outdated):
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
    """Tells whether something was done: a late one may begin at any moment, which is left alone then."""
    run = outdated.run
    if outdated.parameters is not None:
        client.update_flow_run(run.id, parameters=outdated.parameters)
    elif _is_ahead(run):  # without a trace, so that the same schedule, put on again, can have a run at this time
        client.delete_flow_run(run.id)
    else:
        message = "Missed, and its deployment is not scheduled any more."
        return set_unless_changed(client, run, Cancelled(name=UNSCHEDULED, message=message))
    return True


def _parameters(run: FlowRun, deployment: DeploymentResponse) -> dict[str, Any] | None:
    """What a run's parameters should be; None where it should not be.

    A late one stands for what was missed as long as its deployment has a schedule at all; one ahead needs its own.
    """
    active = [schedule for schedule in deployment.schedules if schedule.active]
    own = next((schedule for schedule in active if run.created_by and schedule.id == run.created_by.id), None)
    if not active or (_is_ahead(run) and (own is None or _is_of_before(run, own))):
        return None
    return {**deployment.parameters, **(own.parameters if own else {})}


def _is_of_before(run: FlowRun, schedule: DeploymentSchedule) -> bool:
    """Whether the server made a run up before its schedule was last changed, at times that may no longer be.

    When it was made up stands in its number, a UUID of version 7: the first 48 bits are milliseconds (RFC 9562, 5.7).
    When it was written down would not tell: that is what came too late.
    """
    if run.id.version != 7 or schedule.updated is None:
        return False
    return run.id.int >> 80 < schedule.updated.timestamp() * 1000 - 1


def _is_ahead(run: FlowRun) -> bool:
    when = run.next_scheduled_start_time
    return when is not None and when > datetime.datetime.now(datetime.UTC)
