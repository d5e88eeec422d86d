"""What tests of the installation share: a real server, a client of it, a receiver of alerts. Not here: tests."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from flow_support import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page
    from prefect.client.orchestration import SyncPrefectClient

STEPWISE = [sys.executable, "-m", "flows.command"]
TOY = """
[deployments.toy]
dataset = "glyphs"
preset = "smoke"
configuration.training.epochs = 1
cron = "0 3 * * 1"
timezone = "Europe/Berlin"
"""


LOCAL = httpx.Client(trust_env=False, timeout=60)  # one for all: each reads the certificates of the world


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float, what: str, pause: float = 0.2) -> Any:  # noqa: ANN401
    """Wait for a condition to give something true, looking at it in so many seconds' time again; returns that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


ROWS = """tables => tables.map(table => [
    [...table.querySelectorAll("tbody tr")].map(row =>
        [...row.querySelectorAll("td")].slice(0, 4).map(cell => cell.innerText)),
    [...table.querySelectorAll("img")].map(image => image.naturalWidth),
])"""


def bad_records(page: Page, records: int) -> tuple[list[list[str]], list[int]]:
    """What a dossier's page says of so many bad records, and how wide their images are.

    Read at once and again until all is there: the page draws a table more than once, its images after it.
    """
    tables = page.get_by_role("table").filter(has_text="What is wrong")

    def whole() -> list[Any]:
        found = tables.evaluate_all(ROWS)
        return found if [[*map(bool, widths)] for _, widths in found] == [[True] * records] else []

    [[cells, widths]] = until(whole, 60, f"{records} images on the page of the dossier")
    return cells, widths


def is_healthy(address: str) -> bool:
    """Whether a server answers."""
    with contextlib.suppress(httpx.TransportError):
        return LOCAL.get(f"{address}/api/health").is_success
    return False


def asked(address: str, things: str, **query: object) -> list[dict[str, Any]]:
    """What Prefect's REST API says of runs, task runs, logs or artifacts."""

    def answer() -> httpx.Response | None:
        told = LOCAL.post(f"{address}/api/{things}/filter", json={"limit": 200, **query})
        return None if told.status_code == httpx.codes.SERVICE_UNAVAILABLE else told  # its database is busy

    told = until(answer, 60, f"an answer about {things}")
    told.raise_for_status()
    found: list[dict[str, Any]] = told.json()
    return found


def kept_artifacts(address: str, **query: object) -> dict[str, dict[str, Any]]:
    """The artifacts that have a key; those without are results that Prefect keeps for itself."""
    return {artifact["key"]: artifact for artifact in asked(address, "artifacts", **query) if artifact["key"]}


@contextlib.contextmanager
def served(home: Path, **more: str) -> Iterator[str]:
    """The address of a server with a home of its own, as `stepwise ui` starts it; with more in its environment."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*STEPWISE, "ui", "--port", str(port)],
            env=environment_of(home) | more, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or is_healthy(address), 180, "a server")
        assert process.poll() is None, (home / "server.log").read_text()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def client_of(address: str, password: str | None = None) -> Iterator[SyncPrefectClient]:
    """A client of a server, and this process set so that all of Prefect's own clients are such.

    Prefect's worker of events is one a process and would go on sending to a server that has ended.
    """
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    settings = {PREFECT_API_URL: f"{address}/api", PREFECT_API_AUTH_STRING: password}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client
        EventsWorker.instance().drain()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A Postgres of this machine with an empty database: its address for Prefect."""
    port, data = free_port(), folder / "data"
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian keeps them off the path
    found = shutil.which("initdb") or (str(programs[-1] / "initdb") if programs else None)
    if found is None:
        pytest.skip("no Postgres on this machine")
    program = Path(found).resolve().parent
    as_other: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to be root
        as_other = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o001)
    made = [str(program / "initdb"), "-D", str(data), "-U", "stepwise", "--auth=trust", "--no-sync", "--no-locale"]
    subprocess.run([*made, "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, **as_other)
    options = ["-c", f"unix_socket_directories={folder}", "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
    with (folder / "postgres.log").open("w") as log:
        process = subprocess.Popen(
            [str(program / "postgres"), "-D", str(data), "-p", str(port), *options], stdout=log, stderr=log, **as_other
        )
    try:
        until(lambda: _listens(port), 60, "a Postgres")
        yield f"postgresql+asyncpg://stepwise@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # fast: without waiting for who is connected
        process.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Receiver:
    """A web hook on this machine: keeps what it is sent, answers as it is told.

    Attributes:
        taken: The JSON of each request that was answered with success.
        answers: Status codes of the next answers; 204 where none is left.
    """

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver.answers.pop(0) if receiver.answers else 204
                (receiver.taken if status < 400 else receiver.refused).append(sent)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
