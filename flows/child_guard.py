"""Processes that end when this one does, however it ends.

A guard waits for the end of a pipe that only this process holds open, sends one SIGTERM, and after five seconds
SIGKILL. The kernel's own bond (PR_SET_PDEATHSIG) sends a SIGTERM for each thread of this process that dies, and a
second one makes Prefect's worker kill itself before it has ended its runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Final, NoReturn

_GUARD: Final = """
read -r _
kill "$1" || exit 0
for _ in $(seq 50); do
    sleep 0.1
    kill -0 "$1" || exit 0
done
kill -9 "$1"
"""


def guarded(process: int) -> subprocess.Popen[bytes]:
    """A guard that ends a process when this one ends, or when the guard is forgotten."""
    command = ["/bin/sh", "-c", _GUARD, "guard", str(process)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def main() -> NoReturn:
    """Become the program of the arguments, open to the signals that a shell or a unit made ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
