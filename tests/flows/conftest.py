"""What tests of the flows share: one real run of the smallest preset, made as a person makes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from flow_support import run_command

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


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """The smallest preset, run once for the whole session."""
    home = tmp_path_factory.mktemp("smoke home")
    artifacts = home / "artifacts"
    answer = run_command(home, "run", "--preset", "smoke", "--artifacts", artifacts)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [folder] = (artifacts / "runs").iterdir()
    return SmokeRun(home, artifacts, folder, answer.stdout)
