"""Auditing a store: whether what it holds is what was committed, and what is left over. Reads, and changes nothing.

A foundation of the doctor. Not here: removing (tasks/retention), setting aside and making again (tasks/store).
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from schemas.handles import FileSeal, Handle
from schemas.plan import STAGES
from tasks.retention import size_of
from tasks.seals import sha256_file
from tasks.store import HANDLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.store import Store

LeftOver = Literal["staging", "partial", "damaged"]


@dataclass(frozen=True)
class Audited:
    """What was found of a store's outputs.

    Attributes:
        outputs: How many were looked at.
        bytes: What they hold.
        damages: What is wrong, a phrase each with the file it is about.
        missing: Places that records name and where nothing is; a run that needs them makes them again.
    """

    outputs: int
    bytes: int
    damages: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """What is left over in one place of a store.

    Attributes:
        count: How many files or folders.
        bytes: What they hold.
        days: Age of the oldest.
    """

    count: int
    bytes: int
    days: float


def audit(store: Store, *, deep: bool) -> Audited:
    """Look at every output: by presence and size, or by the digests of all bytes."""
    places = sorted((store.place / "objects").glob("*/*/*"))
    damages = [damage for place in places for damage in _damages(place, deep=deep)]
    there = {place.relative_to(store.root).as_posix() for place in places}
    named = {handle.place for stage in STAGES for record in store.records(stage) for handle in record.handles}
    return Audited(len(places), sum(map(size_of, places)), tuple(damages), tuple(sorted(named - there)))


def _damages(place: Path, *, deep: bool) -> Iterator[str]:
    try:
        handle = Handle.model_validate_json((place / HANDLE).read_bytes())
    except (OSError, ValueError):
        yield f"{place}: its {HANDLE} is missing or cannot be read"
        return
    for name, seal in handle.files.items():
        if damage := damage_of(place / name, seal, deep=deep):
            yield f"{place / name}: {damage}"


def damage_of(path: Path, seal: FileSeal, *, deep: bool) -> str:
    """What is wrong with a file, in a few words; empty where nothing was found."""
    try:
        size = path.stat().st_size
        if size != seal.bytes:
            return f"it has {size:,} bytes instead of {seal.bytes:,}"
        return "its bytes have changed" if deep and sha256_file(path) != seal.sha256 else ""
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def left_over(store: Store, kind: LeftOver) -> Left:
    """What is left over of one kind; what its owner still works in does not count."""
    folder = store.place / kind
    found = [path for path in folder.iterdir() if not store.is_owned(path)] if folder.is_dir() else []
    oldest = min((path.lstat().st_mtime for path in found), default=time.time())
    return Left(len(found), sum(map(size_of, found)), (time.time() - oldest) / 86_400)


def locks_work(store: Store) -> bool:
    """Whether the file system knows locks; without them two runs could do the same work at once."""
    try:
        descriptor = os.open(store.place / "format.json", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
