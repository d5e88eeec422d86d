"""The processes below this one, as the kernel tells of them. Linux; elsewhere nothing is found.

Here: looking, adopting, reaping, stopping. Not here: what any of them does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Become the parent of whatever loses its own parent below this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def below(process: int) -> list[int]:
    """The processes below one, however deep."""
    parents = dict(_parents())
    found = [process]
    for known in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def flow_run_of(process: int) -> str | None:
    """The flow run that a process runs, which its environment names; None where it runs none, or is dead."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"PREFECT__FLOW_RUN_ID":
                return value.decode()
    return None


def reap(others: Iterable[int]) -> None:
    """Let adopted processes that are dead go; others are awaited by whoever started them."""
    kept = set(others)
    for process, parent in _parents():
        if parent == os.getpid() and process not in kept:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, os.WNOHANG)


def stop(processes: Iterable[int], seconds: float) -> int:
    """Ask processes to stop, and after so many seconds make them; returns how many had to be made."""
    left = [process for process in processes if _signalled(process, signal.SIGTERM)]
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if is_running(process)]
    for process in left:
        _signalled(process, signal.SIGKILL)
    return len(left)


def is_running(process: int) -> bool:
    """Whether a process runs; a dead one that nobody reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def _signalled(process: int, number: signal.Signals) -> bool:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def _parents() -> list[tuple[int, int]]:
    """Every process and its parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            found.append((int(path.parent.name), int(path.read_text(encoding="utf-8").rpartition(") ")[2].split()[1])))
    return found
