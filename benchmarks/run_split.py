"""Where the time of a whole run goes: its stages, from the timings it published, and the imports it waits for.

The run happens in a fresh process with a folder of artifacts of its own, so that nothing is reused. Stages that run
side by side overlap: their seconds add up to more than the wall time they take.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import FOLDER, report, seconds

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = ("prefect", "tensorflow", "pandera.polars", "flows.running")
FRESH_PROCESSES = 3


def main(_repeat: int, preset: str) -> None:
    """Run the preset once, measure the imports in fresh processes, report both."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as artifacts:
        command = [sys.executable, "-m", "flows.command", "run", "--preset", preset, "--artifacts", artifacts]
        wall = seconds(lambda: subprocess.run([*command, "--json"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True))
        (timings,) = Path(artifacts).glob("runs/*/timings.json")
        steps = json.loads(timings.read_text())
    times = {"whole process": [wall]}
    times |= {f"{step['step']}{' (reused)' if step['reused'] else ''}": [step["seconds"]] for step in steps}
    rest = max(0.0, wall - sum(step["seconds"] for step in steps))  # publish cannot state its own time
    times["rest: imports, server, publish"] = [rest]
    imports = {f"import {module}": _import_seconds(module) for module in IMPORTS}
    report(
        f"run-{preset}",
        times | imports,
        "whole process",
        imports="cumulative, of python -X importtime in fresh processes; flows.running has prefect's in it",
    )


def _import_seconds(module: str) -> list[float]:
    return [_cumulative(module) for _ in range(FRESH_PROCESSES)]


def _cumulative(module: str) -> float:
    """What importing a module takes with all that it imports, as the interpreter itself accounts for it."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    lines = [line.split("|") for line in log.splitlines() if line.startswith("import time:") and line.count("|") == 2]
    package = module.split(".", maxsplit=1)[0]
    names = {module, package}  # a package is accounted for before the module in it
    return sum(int(total) for _, total, name in lines if name.startswith(" ") and name[1:] in names) / 1e6
