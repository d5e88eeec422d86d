"""What on a Prefect server is stepwise's own, and how a person is told what is done about it."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Final

from prefect.client.schemas import filters
from pydantic import Field

from schemas.handles import Frozen

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

FLOW: Final = "retrain"
OWNED: Final = "stepwise"


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
    tagged = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=[OWNED]))
    return [found for found in client.read_deployments(deployment_filter=tagged) if found.work_pool_name == pool]


def say(text: str) -> None:
    """Tell whoever reads the standard output of something that runs for long."""
    sys.stdout.write(f"{datetime.datetime.now().astimezone():%H:%M:%S} {text}\n")
    sys.stdout.flush()
