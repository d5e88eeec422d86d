"""`stepwise --help` beside the imports that no command made with typer and rich can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Options, interleaved, report, seconds

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "stepwise --help": ["-m", "flows.command", "--help"],
    "import typer, rich": ["-c", "import typer, rich"],
    "python itself": ["-c", "pass"],
}


def main(options: Options) -> None:
    """Measure fresh processes, interleaved."""

    def arm(arguments: list[str]) -> float:
        command = [sys.executable, *arguments]
        return seconds(lambda: subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True))

    arms = {name: lambda arguments=arguments: arm(arguments) for name, arguments in COMMANDS.items()}
    report("help", interleaved(arms, max(options.repeat, 15)), "import typer, rich", aim="below 1.5")
