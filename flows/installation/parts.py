"""Parts: programs that are kept running, start again when they die, and end with this process.

Not here: which parts there are and in which order they start and stop (up).
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flows.child_guard import guarded
from flows.installation.processes import stop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
STEADY_SECONDS: Final = 60.0  # who ran so long and then dies begins with the first pause again


@dataclass
class Part:
    """One program.

    Attributes:
        name: What a person calls it.
        command: The program and its arguments; the program is a path.
        environment: All of its environment.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _began: float = field(default=0.0, init=False)
    _pause: float = field(default=FIRST_PAUSE, init=False)
    _again_at: float | None = field(default=None, init=False)

    @property
    def number(self) -> int | None:
        """The number of its process, dead or alive; None before it began."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, bound to this process; signals of the terminal do not reach it."""
        self._let_guard_go()
        bound = [sys.executable, "-m", "flows.child_guard", *self.command]
        self._process = subprocess.Popen(
            bound, env=dict(self.environment), stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._guard = guarded(self._process.pid)
        self._began, self._again_at = time.monotonic(), None

    def ended(self) -> int | None:
        """With which code it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def keep_running(self) -> str | None:
        """Start it again where it died and its pause is over; what there is to tell."""
        code, now = self.ended(), time.monotonic()
        if code is None:
            return None
        if self._again_at is None:
            steady = now - self._began > STEADY_SECONDS
            self._pause = FIRST_PAUSE if steady else min(self._pause * 2, LONGEST_PAUSE)
            self._again_at = now + self._pause
            return f"{self.name}: ended with {code}; it starts again in {self._pause:.0f} s"
        if now < self._again_at:
            return None
        self.start()
        return f"{self.name}: started again"

    def stop(self, seconds: float) -> None:
        """Ask it to stop, and after so many seconds make it."""
        if self._process is not None and self._process.poll() is None:
            stop([self._process.pid], seconds)
            self._process.wait()
        self._let_guard_go()

    def _let_guard_go(self) -> None:
        """Its process has ended: there is nothing to guard."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
