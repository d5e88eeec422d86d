"""The Prefect server that a command has for itself where PREFECT_API_URL names none.

Prefect would start one as well, but from within the command: it imports all of the server there too, three seconds
for one class, waits for it idly, and leaves it running where the command is killed. Here it is begun first, imports
while the command does, and ends with the command. Not here: what it is asked.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from flows.child_guard import guarded
from flows.settings import OF_RUNS, prefect_home, problem_of_home, reach_without_proxy
from schemas.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS: Final = 5
NAMED_BY: Final = "PREFECT_API_URL"
PATIENCE: Final = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
HEARTBEATS: Final = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
LOOPBACK: Final = "127.0.0.1"
# As Prefect starts its own: no pages, and none of the services that look after schedules. To list the kinds of blocks,
# which only pages need, it would import prefect-dask and all of Dask. The names are those that Prefect looks at first.
_SETTINGS: Final = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_API_BASE_PATH": "/api",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{LOOPBACK}",  # no page is answered: it has none
    "WEB_CONCURRENCY": "1",
}


@dataclass(frozen=True)
class EmbeddedServer:
    """A server as a process of its own, which ends when this one does."""

    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]  # one that is forgotten ends its process
    address: str

    @classmethod
    def begin(cls) -> Self:
        """Start it and return at once: who connects before it is ready waits, for the port is open from now on."""
        with socket.create_server((LOOPBACK, 0)) as port:
            port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvicorn does not, for a port it is given
            package = importlib.util.find_spec("prefect")
            home = str(Path(package.origin).parents[1]) if package and package.origin else ""
            server = ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--fd", str(port.fileno())]
            process = subprocess.Popen(
                [sys.executable, "-m", *server, "--app-dir", home, "--log-level", "error", "--lifespan", "on"],
                env={**os.environ, **_SETTINGS},
                pass_fds=(port.fileno(),),
                start_new_session=True,  # Ctrl-C is for the command, which has yet to tell the server how it ended
            )
            try:
                return cls(process, guarded(process.pid), f"http://{LOOPBACK}:{port.getsockname()[1]}/api")
            except BaseException:
                process.kill()  # nobody else would
                raise

    def wait(self) -> None:
        """Return when it answers.

        Raises:
            StorageError: it did not begin, for there is no room for its records.
            SourceError: it did not begin.
        """
        import httpx

        try:
            httpx.get(f"{self.address}/health", timeout=float(os.environ.get(PATIENCE, "120"))).raise_for_status()
        except httpx.HTTPError as error:
            self.stop()
            found = f"Prefect's own server does not begin: {error} (exit code {self.process.returncode})"
            remedy = f"See `stepwise --debug …` for what it says; {NAMED_BY} can name a server that runs elsewhere"
            raise problem_of_home() or SourceError(found, "a healthy server", remedy, self.address) from error

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.guard.kill()  # the number that it watches may soon be another process's
        self.guard.communicate()


_begun: list[EmbeddedServer] = []  # at most one


def begin_embedded_server() -> None:
    """Start it while the rest is imported, unless something in sight names another one."""
    if not _begun and not any(NAMED_BY in text for text in _in_sight()):
        _begin()


def bind_embedded_server() -> None:
    """Have this process, and those that it starts, speak to a server of its own where the settings name none.

    Raises:
        StorageError, SourceError: it does not begin.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        if _begun and settings.api.url != _begun[0].address:
            _end_begun()
        return
    server = _begun[0] if _begun else _begin()
    reach_without_proxy()
    server.wait()
    os.environ[NAMED_BY] = server.address
    if not settings.ui_url:
        os.environ["PREFECT_UI_URL"] = ""  # it has no pages, to which Prefect's log would point
    if settings.server.api.auth_string and not settings.api.auth_string:
        os.environ["PREFECT_API_AUTH_STRING"] = settings.server.api.auth_string.get_secret_value()
    if os.environ.get(HEARTBEATS) == OF_RUNS[HEARTBEATS]:
        del os.environ[HEARTBEATS]  # they tell of dead workers, and a flow's end waits for the next second of them
    refresh_global_settings_context()


def gone() -> SourceError | None:
    """That the server of this command has ended before the command, if so: Prefect tells of connections only."""
    if not _begun or _begun[0].process.poll() is None:
        return None
    found = f"Prefect's own server ended while the command went on (exit code {_begun[0].process.returncode})"
    return SourceError(found, "a server until the end", "Run it again: what was finished is kept", _begun[0].address)


def _begin() -> EmbeddedServer:
    server = EmbeddedServer.begin()
    _begun.append(server)
    atexit.register(_end_begun)
    return server


def _end_begun() -> None:
    while _begun:
        _begun.pop().stop()


def _in_sight() -> Iterator[str]:
    """What may name a server; Prefect reads more, but it takes two seconds to import, and is asked afterwards."""
    yield from os.environ
    home = prefect_home()
    for path in (Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"), Path(".env")):
        with contextlib.suppress(OSError, UnicodeError):
            yield path.read_text(encoding="utf-8")
