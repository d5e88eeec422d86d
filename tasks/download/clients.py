"""Running a package client (npm, apt-get, dpkg-deb) as a child.

Here: bounded time, its last words, its end with ours. Not here: which client, with which arguments.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from typing import IO, TYPE_CHECKING, Final

from tasks.download.errand import SourceFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CLIENT_SECONDS: Final = 600.0
"""Longest that a client may take for a package; its own idle time-outs are far shorter."""

_LINES: Final = 3
_ERROR: Final = re.compile(r"(?:npm (?:error|ERR!)(?! errno| syscall)|E:|dpkg-deb: error:)\s+(.*\S)")


def run_client(command: Sequence[str], folder: Path, seconds: float = CLIENT_SECONDS) -> None:
    """Run a client to its end in a folder.

    Raises:
        SourceFailure: it is not installed, took too long or failed; with its last lines.
    """
    words = folder / "client-words"
    with words.open("wb") as spoken, _child(command, folder, subprocess.DEVNULL, spoken) as child:
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise SourceFailure(f"{command[0]} had not finished after {seconds:.0f} s", may_heal=True) from error
    if code:
        raise SourceFailure(f"{command[0]} ended with code {code}{_said(words)}")


@contextlib.contextmanager
def client_output(command: Sequence[str], folder: Path) -> Iterator[IO[bytes]]:
    """Run a client and read what it writes; leaving early ends it."""
    with _child(command, folder, subprocess.PIPE, subprocess.DEVNULL) as child:
        if child.stdout is None:
            raise RuntimeError("a pipe was asked for")
        yield child.stdout


@contextlib.contextmanager
def _child(command: Sequence[str], folder: Path, out: int, err: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
    except (FileNotFoundError, PermissionError) as error:
        if not folder.is_dir():
            raise
        answer = f"{command[0]} is not installed here (there is none on PATH)"
        raise SourceFailure(answer, client_missing=True) from error
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already
            os.killpg(child.pid, signal.SIGKILL)
        if child.stdout is not None:
            child.stdout.close()
        child.wait()


def _said(words: Path) -> str:
    """What a client said about its failure: its first error lines, or its last ones where none is marked as one."""
    lines = [line.strip() for line in words.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [found[1] for line in lines if (found := _ERROR.match(line))]
    said = errors[:_LINES] or [line for line in lines if line][-_LINES:]
    return f": {' / '.join(said)}" if said else ""
