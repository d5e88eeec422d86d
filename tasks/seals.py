"""Seals: what the files of an output were when they were committed, and whether they still are. A foundation.

Hashing is spared where it cannot tell anything new: a file whose size, inode and times of change are those that it had
when it was last hashed has the same bytes. A time of change cannot be set back by ordinary means; one as young as the
clock's own step is not believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from schemas.handles import FileSeal

if TYPE_CHECKING:
    from pathlib import Path

_CLOCK_STEP_SECONDS = 0.1  # generous: file systems stamp files with the kernel's tick of at most 10 ms


def seal_files(folder: Path) -> dict[str, FileSeal]:
    """The seals of all files below a folder, by their path in it; what is sealed has reached the disk."""
    seals = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sync_file(path)
        seals[path.relative_to(folder).as_posix()] = FileSeal(sha256=sha256_file(path), bytes=path.stat().st_size)
    return seals


def compared(path: Path, seal: FileSeal) -> str:
    """What is wrong with a file, in a few words, after all its bytes were read; empty where they are as sealed."""
    try:
        size = path.stat().st_size
        if size != seal.bytes:
            return f"it has {size:,} bytes instead of {seal.bytes:,}"
        return "" if sha256_file(path) == seal.sha256 else "its bytes have changed"
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


class Checked:
    """Which files were compared with their seal, and what the system said of them then; kept for later processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def damage_of(self, path: Path, seal: FileSeal) -> str:
        """What is wrong with a file, in a few words; empty where its bytes are the sealed ones."""
        try:
            status = path.stat()
        except OSError:
            return compared(path, seal)
        stamp = [seal.sha256, status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        if status.st_size == seal.bytes and self._noted(path) == stamp:
            return ""
        damage = compared(path, seal)
        if not damage and time.time() - max(status.st_mtime, status.st_ctime) > _CLOCK_STEP_SECONDS:
            self._note(path, stamp)
        return damage

    def _record(self, path: Path) -> Path:
        return self._folder / hashlib.sha256(os.fsencode(path)).hexdigest()[:32]

    def _noted(self, path: Path) -> object:
        try:
            return json.loads(self._record(path).read_bytes())
        except (OSError, ValueError):
            return None

    def _note(self, path: Path, stamp: list[object]) -> None:
        with contextlib.suppress(OSError):  # a note saves time and nothing else
            self._folder.mkdir(parents=True, exist_ok=True)
            record = self._record(path)
            fresh = record.with_name(f"{record.name}.{os.getpid()}.{threading.get_ident()}")
            fresh.write_text(json.dumps(stamp), encoding="utf-8")
            fresh.replace(record)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Wait until a file's bytes have reached the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names have reached the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
