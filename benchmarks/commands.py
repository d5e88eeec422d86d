"""Running `stepwise` as a person does, in a home of its own, and what it cost. Not here: what is measured with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import httpx

from benchmarks.workers import ROOT
from flows.child_guard import guarded
from flows.server import address_of, server_command, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STEPWISE = [sys.executable, "-m", "flows.command"]
START_SECONDS = 120
LAST_WORDS = 2000


@dataclass(frozen=True)
class Cost:
    """What a command took: wall time, and the most memory that its own process had resident; and what it wrote.

    Attributes:
        seconds: Wall time.
        peak_mebibytes: Most memory resident, of its own process.
        answer: Standard output.
        said: Standard error.
    """

    seconds: float
    peak_mebibytes: float
    answer: str
    said: str


def costed(command: Sequence[object], environment: Mapping[str, str]) -> Cost:
    """Run a command to its good end.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env=dict(environment), stdout=answer, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        answered, words = (_written(file) for file in (answer, said))
    if process.returncode:
        last = (answered + words)[-LAST_WORDS:]
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}: {last}")
    return Cost(seconds, usage.ru_maxrss / 1024, answered, words)


def _written(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def environment_in(home: Path, **changes: str) -> dict[str, str]:
    """The environment of a command whose Prefect keeps its records in a home of its own, which it finds there."""
    (home / ".prefect").mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "STEPWISE_"))}
    return {**inherited, "PREFECT_HOME": str(home / ".prefect"), **changes}


@contextlib.contextmanager
def server_in(home: Path, port: int) -> Iterator[str]:
    """A Prefect server with its records in a home; gives the address of its API and ends it."""
    settings = settings_of("127.0.0.1", port)
    environment = environment_in(home, **settings, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    process = subprocess.Popen(server_command("127.0.0.1", port), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    guard = guarded(process.pid)
    try:
        _wait_for(process, f"{address_of('127.0.0.1', port)}/api/health")
        yield settings["PREFECT_API_URL"]
    finally:
        process.terminate()
        process.wait()
        if guard.stdin:
            guard.stdin.close()
        guard.wait()


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(address, timeout=5).is_success:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no server at {address} within {START_SECONDS} s, or it has ended; what it said stands above")
