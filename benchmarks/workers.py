"""Processes that live through a benchmark and do one arm's work on request; peers have environments of their own.

A worker answers each line of its input with one line of JSON. What it says besides goes to a log below `.bench/`.
Not here: what is worked (the arms), how it is timed against others (measure).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import venv
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

from benchmarks.measure import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
LAST_WORDS = 2000
ALONE = ("-P",)  # a script's own folder is no place to import from: `profile` and `help` there would hide Python's


class WorkerError(Exception):
    """A worker cannot be installed or has ended; says why."""


class Worker:
    """One long-living process; a context manager that lets it end."""

    def __init__(self, name: str, command: Sequence[object], environment: Mapping[str, str] | None = None) -> None:
        self.name, self.log = name, FOLDER / f"{name}.log"
        self._command, self._changes = [str(part) for part in command], environment or {}
        self._process: subprocess.Popen[str] | None = None

    def _started(self) -> subprocess.Popen[str]:
        """Started when it is first asked, so that its imports disturb nobody who is measured before."""
        FOLDER.mkdir(exist_ok=True)
        with self.log.open("wb") as said:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, **self._changes},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            with contextlib.suppress(BrokenPipeError), self._process:  # closes its pipes, at which it ends, and waits
                pass

    def ask(self) -> Any:  # noqa: ANN401 - any JSON
        """Have the work done once; returns the answer.

        Raises:
            WorkerError: the process has ended.
        """
        process = self._process = self._process or self._started()
        asked, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        with contextlib.suppress(BrokenPipeError):
            asked.write("once more\n")
            asked.flush()
        answer = answers.readline()
        if not answer:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:].strip()
            raise WorkerError(f"ended with status {process.wait()}: {said}")
        return json.loads(answer)


def python_with(environment: str, packages: Sequence[str]) -> Path:
    """The interpreter of a peer's own environment below `.bench/`, with these packages in it.

    Raises:
        WorkerError: they cannot be installed.
    """
    python = FOLDER / f"peer-{environment}" / "bin" / "python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(f"cannot be installed: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return python
