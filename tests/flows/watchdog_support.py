"""Runs as the watchdog meets them, and a process that holds one's attempt. Not here: tests."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from prefect.states import Pending, Running

from flows.attempts import Attempt, mark_of
from flows.installation.owned import owned_deployments
from flows.installation.watchdog import Watchdog

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from schemas.installation import Installation

# What a run does first: it takes its attempt's lock and writes its record.
HOLDER = """
import sys, time
from pathlib import Path
from flows.attempts import Attempt, Attempts, mark_of
attempt = Attempt.model_validate_json(sys.argv[2])
with Attempts(Path(sys.argv[1])).held(attempt):
    print("held", flush=True)
    time.sleep(600)
"""


def began(client: SyncPrefectClient, installation: Installation) -> FlowRun:
    """A run of the deployment, as a worker makes it begin."""
    [deployment] = owned_deployments(client, installation.work_pool)
    run = client.create_flow_run_from_deployment(deployment.id)
    return begun(client, run.id)


def begun(client: SyncPrefectClient, run: UUID) -> FlowRun:
    client.set_flow_run_state(run, Pending())
    client.set_flow_run_state(run, Running())
    return client.read_flow_run(run)


def attempt_of(run: FlowRun, **more: object) -> Attempt:
    return Attempt(
        run=f"20260101-000000-glyphs-smoke-{mark_of(str(run.id))}",
        flow_run=str(run.id),
        created=datetime.datetime.now(datetime.UTC),
        dataset="glyphs",
        preset="smoke",
        parameters={"artifacts": run.parameters["artifacts"]},
        **more,  # type: ignore[arg-type] # fields of it
    )


class Process:
    """A process that holds a run's attempt, until it is killed."""

    def __init__(self, installation: Installation, run: FlowRun) -> None:
        command = [sys.executable, "-c", HOLDER, str(installation.artifacts), attempt_of(run).model_dump_json()]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def look(client: SyncPrefectClient, installation: Installation, grace: float = 1.0) -> list[str]:
    return [f"{deed.what}: {deed.why}" for deed in Watchdog(client, installation, grace).look_once()]


def state_of(client: SyncPrefectClient, run: FlowRun) -> tuple[str, str]:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state.name or "", state.message or ""
