"""Locks among processes and threads, a file each; the kernel frees one when its owner dies. Not here: what they guard.

A lock's file may be removed by whoever holds it alone. Whoever waited for it then holds a file without a name, which
guards nothing, and takes the one that has the name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def taken(path: Path, *, shared: bool, wait: bool) -> int:
    """The descriptor of a lock; closing it lets go.

    Raises:
        BlockingIOError: somebody else holds it, and there is to be no waiting.
        OSError: its file cannot be made.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:  # somebody else's, such as root's, who once cleaned here: to be read is enough
            if not path.exists():
                raise
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, how)
            if _has_the_name(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_taken(path: Path) -> bool:
    """Whether somebody alive holds a lock."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:  # a disk that can only be read, or somebody else's file
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_the_name(descriptor, path):
                return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)


def forget_unused(folder: Path, made_before: float) -> None:
    """Remove the files of locks that nobody holds, made before a time of `time.time()`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # held, somebody else's, or gone
            if path.stat().st_mtime < made_before:
                descriptor = taken(path, shared=False, wait=False)
                try:
                    path.unlink()
                finally:
                    os.close(descriptor)


def _has_the_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
