"""A file of this machine as a source: copied, so that later changes to it cannot reach what was verified."""

from __future__ import annotations

import os
import shutil
import stat
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.download.archives import require_published, take_from_zip
from tasks.download.errand import Errand, SourceFailure

if TYPE_CHECKING:
    from schemas.catalog import FolderSource


def fetch_local(source: FolderSource, errand: Errand) -> Path:
    """Copy a regular file, or a member of the zip that it is, into staging.

    Raises:
        SourceFailure: it is missing, unreadable, or no regular file.
    """
    path = local_path(source)
    target = errand.staging / "received"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make it wait
    except OSError as error:
        raise SourceFailure(f"cannot be opened: {error.strerror}") from error
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        os.close(descriptor)
        raise SourceFailure("is no regular file")
    with open(descriptor, "rb") as content, target.open("wb") as file:  # noqa: PTH123 - a descriptor has no path
        shutil.copyfileobj(content, file, 1 << 20)
        after = os.fstat(descriptor)
    if _version(before) != _version(after):
        raise SourceFailure("was written to while it was copied", may_heal=True)
    errand.progress(target.stat().st_size, target.stat().st_size, "copied")
    if errand.file.member is None:
        return target
    if errand.file.containers:
        require_published(target, errand.file.containers)
    return take_from_zip(target, errand.file.member, errand)


def version_of(source: FolderSource) -> str | None:
    """What tells the file of a source from one that was written or put in its place since; None where it is gone."""
    try:
        return _version(local_path(source).stat())
    except (OSError, SourceFailure):
        return None


def _version(found: os.stat_result) -> str:
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def local_path(source: FolderSource) -> Path:
    """The file that the source names.

    Raises:
        SourceFailure: it names one on another machine.
    """
    text = source.path
    if not text.startswith("file:"):
        return Path(text)
    url = urllib.parse.urlsplit(text)
    if url.netloc not in {"", "localhost"}:
        raise SourceFailure(f"names another machine ({url.netloc}); a file:// URL has three slashes")
    return Path(urllib.request.url2pathname(url.path))
