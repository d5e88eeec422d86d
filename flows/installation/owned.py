"""What on a Prefect server is stepwise's own, and how a person is told what is done about it."""

from __future__ import annotations

import contextlib
import datetime
import sys
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from schemas.handles import Frozen

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.client.schemas.responses import DeploymentResponse

FLOW: Final = "retrain"
UPKEEP_FLOW: Final = "upkeep"
FLOWS: Final = (FLOW, UPKEEP_FLOW)
OWNED: Final = "stepwise"
_PAGE: Final = 200  # the most that the server gives at once


class Item(Frozen):
    """One thing on the server, and what was done about it."""

    name: str
    done: str = Field(description="unchanged, created, changed or removed.")
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line a person reads."""
        return f"{self.name}: {self.done}" + (f": {'; '.join(self.changes)}" if self.changes else "")


def owned_deployments(client: SyncPrefectClient, pool: str) -> list[DeploymentResponse]:
    """The deployments that an installation with this pool put onto the server."""
    return [deployment for deployment in tagged_deployments(client) if deployment.work_pool_name == pool]


def tagged_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """The deployments that any installation put onto the server."""
    tagged = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=[OWNED]))
    found: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(deployment_filter=tagged, offset=len(found))
        found += page
        if len(page) < _PAGE:
            return found


def owned_runs(client: SyncPrefectClient, **conditions: Any) -> list[FlowRun]:  # noqa: ANN401 - the server's, by name
    """The flow runs of our flows under conditions, all of them."""
    flow = filters.FlowFilter(name=filters.FlowFilterName(any_=[*FLOWS]))
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=flow, flow_run_filter=filters.FlowRunFilter(**conditions), offset=len(found)
        )
        found += page
        if len(page) < _PAGE:
            return found


def unchanged(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run is still there and in the same state as when it was read."""
    try:
        now = client.read_flow_run(run.id)
    except ObjectNotFound:
        return False
    return now.state is not None and run.state is not None and now.state.id == run.state.id


def set_unless_changed(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> bool:
    """Set a run's state unless it is in another one meanwhile, or gone; tells whether it was set."""
    if not unchanged(client, run):
        return False
    with contextlib.suppress(ObjectNotFound):
        return client.set_flow_run_state(run.id, state).status is SetStateStatus.ACCEPT
    return False


def next_start(client: SyncPrefectClient, deployment: UUID) -> datetime.datetime | None:
    """When a deployment runs next, as far as the server has said so already."""
    now = datetime.datetime.now(datetime.UTC)
    waiting = filters.FlowRunFilter(
        next_scheduled_start_time=filters.FlowRunFilterNextScheduledStartTime(after_=now),
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    first = client.read_flow_runs(flow_run_filter=waiting, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1)
    return first[0].next_scheduled_start_time if first else None


def say(text: str) -> None:
    """Tell whoever reads the standard output of something that runs for long."""
    sys.stdout.write(f"{datetime.datetime.now().astimezone():%H:%M:%S} {text}\n")
    sys.stdout.flush()
