"""What tests of the flows share: one real run of the smallest preset, made as a person makes it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


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


def environment_of(home: Path) -> dict[str, str]:
    """The environment of a command in a home of its own, without this session's Prefect settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "STEPWISE_"))}
    return {**inherited, "HOME": str(home), "PREFECT_HOME": str(home / ".prefect"), "COLUMNS": "160"}


def run_command(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `stepwise` with its embedded Prefect, to the end."""
    command = [sys.executable, "-m", "flows.command", *map(str, arguments)]
    environment = environment_of(home)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """The smallest preset, run once for the whole session."""
    home = tmp_path_factory.mktemp("smoke home")
    artifacts = home / "artifacts"
    answer = run_command(home, "run", "--preset", "smoke", "--artifacts", artifacts)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [folder] = (artifacts / "runs").iterdir()
    return SmokeRun(home, artifacts, folder, answer.stdout)
