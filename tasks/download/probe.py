"""Asking a source whether it would answer, without fetching anything: what the doctor tells of a dataset's sources.

Each question is bounded in time. Not here: fetching (a module for each kind of source), what an answer means for a run.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from schemas.catalog import DebianSource, FolderSource, HttpSource, NpmSource
from tasks.download.clients import client_output, run_client
from tasks.download.debian import with_settings
from tasks.download.errand import SourceFailure, redacted
from tasks.download.http import new_client
from tasks.download.local import local_path
from tasks.download.npm import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.catalog import Source

SECONDS: Final = 20.0
_CLIENT_SECONDS: Final = 15.0
_UPDATE_SECONDS: Final = 12.0
_ANSWER_SECONDS: Final = 5.0
_NO_HEAD: Final = frozenset({403, 405, 501})  # who may refuse the question and still give the file


def probe_all(sources: Mapping[str, Source], seconds: float = SECONDS) -> dict[str, str]:
    """Ask sources side by side.

    Args:
        sources: Whom to ask, by any name.
        seconds: After which whoever is silent counts as not answering.

    Returns:
        Why each one that failed did not answer, by the same name; those that answered are not in it.
    """
    failures: dict[str, str] = dict.fromkeys(sources, f"no answer within {seconds:g} s")
    deadline = time.monotonic() + seconds

    def ask(name: str, source: Source) -> None:
        try:
            probe(source)
            del failures[name]
        except SourceFailure as failure:
            failures[name] = str(failure)

    # Daemons, since a name server that is silent cannot be interrupted and must not keep the process from ending.
    asking = [threading.Thread(target=ask, args=entry, daemon=True) for entry in sources.items()]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(max(deadline - time.monotonic(), 0))
    return dict(failures)


def probe(source: Source) -> None:
    """Ask one source.

    Raises:
        SourceFailure: it would give nothing now, and why.
    """
    match source:
        case HttpSource():
            _ask_address(source.url)
        case NpmSource():
            _ask_npm(source)
        case DebianSource():
            _ask_debian(source)
        case FolderSource():
            path = local_path(source)
            if not path.is_file() or not os.access(path, os.R_OK):
                raise SourceFailure("there is no such file that can be read")
        case _:  # drawn here
            return


def _ask_address(url: str) -> None:
    """Ask for the head of what is at an address; for its first byte, where heads are not given."""
    timeout = httpx.Timeout(_ANSWER_SECONDS)
    try:
        with new_client() as client:
            status = client.head(url, follow_redirects=True, timeout=timeout).status_code
            if status in _NO_HEAD:
                first = {"Range": "bytes=0-0"}
                with client.stream("GET", url, headers=first, follow_redirects=True, timeout=timeout) as answer:
                    status = answer.status_code
    except httpx.TimeoutException as error:
        raise SourceFailure(f"no answer within {_ANSWER_SECONDS:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceFailure(f"cannot be reached ({redacted(str(error)) or type(error).__name__})") from error
    if not httpx.codes.is_success(status):
        raise SourceFailure(f"answers HTTP {status}")


def _ask_npm(source: NpmSource) -> None:
    """Ask the registry for the package's version."""
    with tempfile.TemporaryDirectory(prefix="stepwise-") as folder:
        command = ("npm", "view", f"{source.package}@{source.version}", "version", *OPTIONS)
        run_client(command, Path(folder), _CLIENT_SECONDS)


def _ask_debian(source: DebianSource) -> None:
    """Ask the machine's lists for the package's address, and whoever is there; the archive, where they do not know."""
    with tempfile.TemporaryDirectory(prefix="stepwise-") as name:
        folder = Path(name)
        with_settings(folder)
        run_client(("dpkg-deb", "--version"), folder, _CLIENT_SECONDS)
        address = _debian_address(source, folder)
        if address is None:  # a run would make lists of its own then
            with_settings(folder, own_lists=True)
            run_client(("apt-get", "-q", "-c", "apt.conf", "update"), folder, _UPDATE_SECONDS)
            address = _debian_address(source, folder)
            if address is None:
                raise SourceFailure("the archive does not have it")
        elif urllib.parse.urlsplit(address).scheme in {"http", "https"}:
            _ask_address(address)


def _debian_address(source: DebianSource, folder: Path) -> str | None:
    """Where apt-get would fetch the package; None where its lists do not know it."""
    command = ("apt-get", "-q", "-c", "apt.conf", "--print-uris", "download", source.package)
    with client_output(command, folder) as said:
        line = said.read().decode("utf-8", "replace").strip()
    return line.split("'")[1] if line.startswith("'") else None
