"""What each of Dask's workers on this machine does at its start (preload). Not here: what it works at (tasks/study)."""

from __future__ import annotations

import os
import signal


def dask_setup(_: object) -> None:
    """Leave Ctrl-C to the command: a terminal sends it to every process, and the command ends its workers itself."""
    signal.signal(signal.SIGINT, _fall_silent)


def _fall_silent(*_: object) -> None:
    """From here on, whatever libraries complain of about the end of their connections interests nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
