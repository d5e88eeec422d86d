"""The end of a run's own process: within seconds of being told to stop, and with whoever started it.

Python lets a signal wait until its main thread comes to its next instruction, and that may take ten seconds in
TensorFlow's compiler; a client of a server that is gone tries again for minutes. So a thread stands beside the run: the
interpreter's handler in C tells it of every signal at once. Here: that thread. Not here: the polite way, which is the
main thread's (KeyboardInterrupt, or Prefect's).
"""

from __future__ import annotations

import functools
import os
import select
import signal
import threading
import time
from typing import Final

POLITE_SECONDS: Final = 7.0
LOOK_SECONDS: Final = 0.5
TO_STOP: Final = (signal.SIGINT, signal.SIGTERM)


@functools.cache  # once a process
def end_in_time(seconds: float = POLITE_SECONDS, *, with_parent: bool = False) -> None:
    """From now on, end this process the hard way where a signal has not ended it the polite way within so many seconds.

    Args:
        seconds: How long the polite way may take.
        with_parent: Take the death of this process's parent for SIGTERM.
    """
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    parent = os.getppid() if with_parent else None
    threading.Thread(target=_end, args=(told, parent, seconds), name="ending", daemon=True).start()


def _end(told: int, parent: int | None, seconds: float) -> None:
    number = _signal_to_stop(told, parent)
    time.sleep(seconds)
    os._exit(128 + number)


def _signal_to_stop(told: int, parent: int | None) -> int:
    """Wait for a signal to stop; the death of the parent makes one."""
    while parent is None or os.getppid() == parent:
        ready, _, _ = select.select([told], [], [], None if parent is None else LOOK_SECONDS)
        numbers = [number for number in os.read(told, 64) if number in TO_STOP] if ready else []
        if numbers:
            return numbers[0]
    main = threading.main_thread().ident
    assert main is not None  # noqa: S101 - it runs
    signal.pthread_kill(main, signal.SIGTERM)
    return signal.SIGTERM
