"""Becoming another program that ends when its parent does, however that ends. Linux; elsewhere the bond is missing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1


def main() -> NoReturn:
    """Become the program of the arguments: the parent's process number, then the command."""
    parent, *command = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):  # what a shell or a unit made ignored is not to be inherited
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before it was asked to tell
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
