"""Where the time of a whole run goes: its stages, from the timings it published, and the imports it waits for.

The run happens in a fresh process with a folder of artifacts of its own, so that nothing is reused. Stages that run
side by side overlap: their seconds add up to more than the wall time they take.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands import STEPWISE, costed, environment_in
from benchmarks.measure import FOLDER, Options, report
from benchmarks.workers import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

IMPORTS = ("prefect", "tensorflow", "pandera.polars", "flows.run_command")
COMMAND_IMPORTS = "flows.run_command"
FRESH_PROCESSES = 3


@dataclass(frozen=True)
class Split:
    """The wall time of a run, and the timings that it published: step, seconds, reused; publish cannot state its own.

    Attributes:
        wall: Seconds from the command's start to its end.
        steps: All steps but publish.
    """

    wall: float
    steps: Sequence[dict[str, Any]]

    def seconds_of(self, stage: str) -> list[float]:
        """Of each step of a stage."""
        return [step["seconds"] for step in self.steps if step["step"].split()[0] == stage]

    def outside(self, imports: float) -> float:
        """What is left without training, downloads and the command's imports.

        Training counts with TensorFlow's import and compiling, which happen in it. The four downloads go side by side:
        the longest one counts. Imports of later stages (pyarrow, pandera) and of the fresh process that tries the
        published model are left in.
        """
        return self.wall - sum(self.seconds_of("train")) - max(self.seconds_of("download"), default=0.0) - imports


def main(options: Options) -> None:
    """Run the preset once, measure the imports in fresh processes, report both."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as home:
        split = cold_run(options.preset, Path(home))
    times = {"whole process": [split.wall]}
    times |= {
        f"{step['step']}{' (reused)' if step['reused'] else ''}": [float(step["seconds"])] for step in split.steps
    }
    rest = max(0.0, split.wall - sum(step["seconds"] for step in split.steps))
    times["rest: imports, server, publish"] = [rest]
    imports = {f"import {module}": import_seconds(module) for module in IMPORTS}
    report(
        f"run-{options.preset}",
        times | imports,
        "whole process",
        imports="cumulative, of python -X importtime in fresh processes; flows.run_command has prefect's in it",
    )


def cold_run(preset: str, home: Path) -> Split:
    """One run in a fresh process, its artifacts and Prefect's records in a home that has none yet."""
    artifacts = home / "artifacts"
    command = [*STEPWISE, "run", "--preset", preset, "--artifacts", artifacts, "--json"]
    wall = costed(command, environment_in(home)).seconds
    (timings,) = artifacts.glob("runs/*/timings.json")
    return Split(wall, json.loads(timings.read_text()))


def import_seconds(module: str) -> list[float]:
    """What importing a module takes with all that it imports, in fresh processes."""
    return [_cumulative(module) for _ in range(FRESH_PROCESSES)]


def _cumulative(module: str) -> float:
    """The same in one, as the interpreter itself accounts for it."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    lines = [line.split("|") for line in log.splitlines() if line.startswith("import time:") and line.count("|") == 2]
    package = module.split(".", maxsplit=1)[0]
    names = {module, package}  # a package is accounted for before the module in it
    return sum(int(total) for _, total, name in lines if name.startswith(" ") and name[1:] in names) / 1e6
