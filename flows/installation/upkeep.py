"""The upkeep flow: what `stepwise clean --yes` does, on a schedule, with an artifact that says what went.

Where a run goes on, it waits for a while and then leaves everything as it is, which the state of its run says.
Not here: what is removed (flows/clean), the schedule (deploy).
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows.attempts import RunGoesOnError, mark_of
from flows.clean import Cleaning, Keeping, cleaned, forget
from flows.installation.owned import UPKEEP_FLOW
from tasks.stage import log

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LOOK_SECONDS: Final = 10.0
OWN_RUNS_DAYS: Final = 30
MOST_NAMED: Final = 20


def _flow_run_name() -> str:
    return f"upkeep {_now():%Y-%m-%d} {mark_of(str(flow_run.id))}"


@flow(
    name=UPKEEP_FLOW,
    description="Removes old runs with all that only they needed: files, outputs in the store, Prefect's rows and "
    "results. The newest run of each dataset and preset stays in any case, and so does unpublished work of a day.",
    flow_run_name=_flow_run_name,
)
def upkeep(
    artifacts: Path,
    keep_runs: Annotated[int, Field(ge=1)] | None = None,
    keep_days: Annotated[float, Field(gt=0)] | None = None,
    patience_minutes: Annotated[float, Field(ge=0)] = 60,
) -> State[Any]:
    """Remove what no rule keeps; what either keeps stays.

    Args:
        artifacts: Folder of outputs and published runs.
        keep_runs: Keep so many published runs of each dataset and preset.
        keep_days: Keep those younger than so many days.
        patience_minutes: How long to wait while a run goes on; after that nothing is removed until the next time.
    """
    try:
        cleaning = _when_nothing_runs(artifacts, Keeping(keep_runs, keep_days), patience_minutes * 60)
    except RunGoesOnError as going:
        told = f"Nothing was removed: {going.found}, still after {patience_minutes:g} min. The next upkeep tries again."
        _show(told, told)
        return Completed(name="Skipped", message=told)
    with get_client(sync_client=True) as client:
        _forget_own(client)
    told = f"Published runs removed: {len(cleaning.runs)}; {cleaning.bytes / 1e6:,.1f} MB freed."
    _show(card(cleaning), told)
    return Completed(message=told)


def _when_nothing_runs(artifacts: Path, keeping: Keeping, patience: float) -> Cleaning:
    """Clean as soon as no run goes on, within so many seconds."""
    deadline, waiting = time.monotonic() + patience, False
    while True:
        try:
            return cleaned(artifacts, keeping, really=True)
        except RunGoesOnError as going:
            if time.monotonic() >= deadline:
                raise
            if not waiting:
                log.info("waiting: %s", going.found)
            waiting = True
            time.sleep(min(LOOK_SECONDS, max(deadline - time.monotonic(), 0)))


def card(cleaning: Cleaning) -> str:
    """What was removed, in markdown."""
    names = [f"- `{name}`" for name in cleaning.runs[:MOST_NAMED]]
    if len(cleaning.runs) > MOST_NAMED:
        names.append(f"- and {len(cleaning.runs) - MOST_NAMED} more")
    rows = ["| What | How many |", "| --- | ---: |", *(f"| {what} | {count} |" for what, count in cleaning.rows)]
    return "\n".join([f"**{cleaning.bytes / 1e6:,.1f} MB freed.**", "", *rows, "", *names])


def _show(markdown: str, told: str) -> None:
    create_markdown_artifact(key="upkeep", markdown=markdown, description=told)
    log.info(told)


def _forget_own(client: SyncPrefectClient) -> None:
    """Delete the rows of upkeep's own runs that ended long ago."""
    long_ago = _now() - datetime.timedelta(days=OWN_RUNS_DAYS)
    own = filters.FlowFilter(name=filters.FlowFilterName(any_=[UPKEEP_FLOW]))
    ended = filters.FlowRunFilter(end_time=filters.FlowRunFilterEndTime(before_=long_ago))
    while found := client.read_flow_runs(flow_filter=own, flow_run_filter=ended):
        for run in found:
            forget(client, run.id)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
