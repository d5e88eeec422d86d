"""Running the command as a person does, in a home of its own. Not here: tests and fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def environment_of(home: Path) -> dict[str, str]:
    """The environment of a command in a home of its own, without this session's Prefect settings."""
    own = ("PREFECT_", "STEPWISE_", "PYTHONDONTWRITEBYTECODE")  # the last: people's commands find the code compiled
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**inherited, "HOME": str(home), "PREFECT_HOME": str(home / ".prefect"), "COLUMNS": "160"}


def run_command(home: Path, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `stepwise` with its embedded Prefect, to the end; settings go into its environment."""
    command = [sys.executable, "-m", "flows.command", *map(str, arguments)]
    environment = {**environment_of(home), **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
