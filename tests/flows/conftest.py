"""What tests of the flows share: one real run of the smallest preset, made as a person makes it; one real server."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from flow_support import run_command
from install_support import TOY, client_of, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

    from schemas.installation import Installation


@dataclasses.dataclass(frozen=True)
class SmokeRun:
    """A finished `stepwise run --preset smoke`, to be read and never changed.

    Attributes:
        home: The HOME it ran in; Prefect's records are in its `.prefect`.
        artifacts: Its artifacts root: `store` and `runs`.
        folder: The published run.
        stdout: What the command said, as plain lines.
    """

    home: Path
    artifacts: Path
    folder: Path
    stdout: str


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """The smallest preset, run once for the whole session, whichever of its processes needs it first."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    home, said = shared / "smoke home", shared / "smoke.out"
    artifacts = home / "artifacts"
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            home.mkdir()
            answer = run_command(home, "run", "--preset", "smoke", "--artifacts", artifacts)
            assert answer.returncode == 0, answer.stdout + answer.stderr
            said.write_text(answer.stdout)
    [folder] = (artifacts / "runs").iterdir()
    return SmokeRun(home, artifacts, folder, said.read_text())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that tests share: its address and its home. Who uses it takes `client`, which tidies up."""
    home = tmp_path_factory.mktemp("server home")
    with served(home) as address:
        yield address, home


@pytest.fixture
def client(server: tuple[str, Path]) -> Iterator[SyncPrefectClient]:
    """A client of the shared server, with nothing on it that a test before has left."""
    with client_of(server[0]) as client:
        yield client
        for run in client.read_flow_runs():
            client.delete_flow_run(run.id)
        for found in client.read_deployments():
            client.delete_deployment(found.id)


@pytest.fixture
def installation(client: SyncPrefectClient, tmp_path: Path) -> Installation:
    """An installation of one deployment, put onto the shared server."""
    from flows.installation.deploy import deploy  # what brings all of Prefect is imported where it is wanted
    from schemas.installation import load_installation

    path = tmp_path / "stepwise.toml"
    path.write_text(TOY)
    installation = load_installation(path)
    deploy(client, installation)
    return installation
