"""A process ends within seconds of a signal or of its parent's death, even in the midst of what is not Python."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

# It holds the main thread for minutes, without the interpreter's lock, and does not return for a signal: as
# TensorFlow's compiler does for seconds.
BLOCKED = """
import hashlib, signal, sys
from flows.shutdown import end_in_time
def politely(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, politely)
end_in_time(1.0, 0.5, with_parent=True)
print("blocked", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", sys.argv[1]]).pid, flush=True)
time.sleep(600)
"""


def started(*command: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_the_main_thread_cannot_take_ends_the_process_all_the_same(number: signal.Signals) -> None:
    with started(BLOCKED) as process:
        assert said(process) == "blocked"
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert time.monotonic() - began > 0.9, "the polite way has its time"


def test_a_process_ends_with_its_parent() -> None:
    with started(PARENT, BLOCKED) as parent:
        child = psutil.Process(int(said(parent)))
        assert said(parent) == "blocked"
        parent.kill()
        _, alive = psutil.wait_procs([child], timeout=30)
        assert alive == []


def test_who_goes_politely_is_not_hurried() -> None:
    polite = BLOCKED.replace('hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)', "signal.pause()")
    with started(polite) as process:
        assert said(process) == "blocked"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGINT, "as Python ends by KeyboardInterrupt"


# As the kernel now and then decides by itself: the main thread waits, and another one takes the signal.
TAKEN_BY_ANOTHER = """
import signal, threading
from flows.shutdown import end_in_time
end_in_time(60.0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("waits", flush=True)
threading.Event().wait()
"""


def test_a_main_thread_that_waits_is_woken_by_a_signal_that_another_thread_took() -> None:
    with started(TAKEN_BY_ANOTHER) as process:
        assert said(process) == "waits"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (1, -signal.SIGINT, 128 + signal.SIGINT), "KeyboardInterrupt, long before its minute"
