"""The end of a run's own process: within seconds of being told to stop, and with whoever started it.

Python lets a signal wait until its main thread comes to its next instruction, and that may take ten seconds in
TensorFlow's compiler; a client of a server that is gone tries again for minutes. So a thread stands beside the run: the
interpreter's handler in C tells it of every signal at once. And where the kernel has let another thread take the
signal, a main thread that waits is not woken by it, so it is woken by one of its own. Here: that thread. Not here: the
polite way, which is the main thread's (KeyboardInterrupt, or Prefect's).
"""

from __future__ import annotations

import functools
import os
import select
import signal
import threading
import time
from typing import Final

POLITE_SECONDS: Final = 6.0
ORPHAN_SECONDS: Final = 3.0  # the record is written in a moment, and there may be no server to tell
LOOK_SECONDS: Final = 0.5
TO_STOP: Final = (signal.SIGINT, signal.SIGTERM)
TO_WAKE: Final = signal.SIGURG  # whose default is to do nothing, and which nothing else here uses


@functools.cache  # once a process
def end_in_time(polite: float = POLITE_SECONDS, orphan: float = ORPHAN_SECONDS, *, with_parent: bool = False) -> None:
    """From now on, end this process the hard way where a signal has not ended it the polite way within so many seconds.

    Args:
        polite: How long the polite way may take.
        orphan: How long it may take once the parent is dead.
        with_parent: Take the death of this process's parent for SIGTERM.
    """
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    signal.signal(TO_WAKE, lambda *_: None)
    parent = os.getppid() if with_parent else None
    threading.Thread(target=_end, args=(told, parent, polite, orphan), name="ending", daemon=True).start()


def _end(told: int, parent: int | None, polite: float, orphan: float) -> None:
    number = _signal_to_stop(told, parent)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM if number is None else TO_WAKE)
    deadline = time.monotonic() + polite
    while time.monotonic() < deadline:
        if parent is not None and os.getppid() != parent:
            deadline, parent = min(deadline, time.monotonic() + orphan), None
        time.sleep(LOOK_SECONDS / 5)
    os._exit(128 + (number or signal.SIGTERM))


def _signal_to_stop(told: int, parent: int | None) -> int | None:
    """Wait for a signal to stop; None where the parent died before one came."""
    while parent is None or os.getppid() == parent:
        ready, _, _ = select.select([told], [], [], None if parent is None else LOOK_SECONDS)
        numbers = [number for number in os.read(told, 64) if number in TO_STOP] if ready else []
        if numbers:
            return numbers[0]
    return None
