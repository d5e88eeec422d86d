"""Everything on one machine: server, worker and watchdog as parts of one command, and the installation deployed.

Stopping is ordered: first the watchdog, so that nothing is tried again, then the runs, which record that they were
stopped, then the worker, last the server, which was told. Not here: what keeps a part running (parts).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    get_current_settings,
    temporary_settings,
)

from flows.datasets import require_possible
from flows.installation.owned import next_start, owned_deployments, say
from flows.installation.parts import Part
from flows.installation.processes import adopt_orphans, below, flow_run_of, reap, stop
from flows.installation.watchdog import Watchdog
from flows.reach import server_client
from flows.server import address_of, require_free, require_guarded, server_command, settings_of
from flows.settings import require_home
from schemas.errors import ConfigurationError, StepwiseError
from schemas.installation import load_installation
from tasks.store import Store, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from schemas.installation import Installation

HOME: Final = Path(__file__).resolve().parents[2]
HEALTHY_WITHIN: Final = 240.0
LOOK_SECONDS: Final = 0.5
# Seconds after a stop began, by which each has to be gone: ten are allowed for all.
WATCHDOG_BY: Final = 0.8
RUNS_BY: Final = 5.5
WORKER_BY: Final = 7.5
SERVER_BY: Final = 9.0
REST_BY: Final = 9.5
LOCK: Final = "up"


def up(file: Path, host: str, port: int) -> None:
    """Start everything for a file's installation, and keep it running until told to stop.

    Raises:
        ConfigurationError: it runs already, or the port is taken.
        StepwiseError: a part does not come up.
    """
    installation = load_installation(file)
    require_home(database=not installation.database_url)
    store = Store(installation.artifacts)
    with _alone(store), _told_to_stop(), _reaching(host, port):
        require_free(host, port)
        require_guarded(host)
        require_possible(installation.deployments)
        everything = _Everything(installation, file.absolute(), host, port)
        with contextlib.suppress(KeyboardInterrupt), everything.stopped_at_the_end():
            everything.start()
            everything.keep_running()
    say("stopped")


@dataclass
class _Everything:
    """The parts and what is done with them."""

    installation: Installation
    file: Path
    host: str
    port: int
    server: Part = field(init=False)
    worker: Part = field(init=False)
    watchdog: Part = field(init=False)

    def __post_init__(self) -> None:
        environment = _environment(self.installation, self.host, self.port)
        python, pool = sys.executable, self.installation.work_pool
        worker = [python, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        server = [*server_command(self.host, self.port), "--timeout-graceful-shutdown", "1"]
        self.server = Part("server", server, environment)
        self.worker = Part("worker", [*worker, "--name", worker_name()], environment)
        self.watchdog = Part(
            "watchdog", [python, "-m", "flows.command", "watch", "--file", str(self.file)], environment
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, in the order of their start."""
        return self.server, self.worker, self.watchdog

    def start(self) -> None:
        """Start the parts, each when what it needs is there."""
        from flows.installation.deploy import deploy

        adopt_orphans()
        self.server.start()
        self._await_server()
        with server_client() as client:
            say(f"server: healthy at {address_of(self.host, self.port)} ({_database(self.server.environment)})")
            for item in deploy(client, self.installation):
                say(str(item))
            for deed in Watchdog(client, self.installation).look_once():  # before anything new begins
                say(f"left from before: {deed}")
            began = datetime.datetime.now(datetime.UTC)
            self.worker.start()
            self.watchdog.start()
            self._await_worker(client, began)
            for line in _next_runs(client, self.installation):
                say(line)

    def keep_running(self) -> None:
        """Start again what dies."""
        while True:
            for part in self.parts:
                told = part.keep_running()
                if told:
                    say(told)
            reap(part.number for part in self.parts if part.number)
            time.sleep(LOOK_SECONDS)

    @contextlib.contextmanager
    def stopped_at_the_end(self) -> Iterator[None]:
        """Stop everything at the end, in order; a second signal does not hurry it, the clock does."""
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            say("stopping")
            began = time.monotonic()
            self.watchdog.stop(WATCHDOG_BY)
            flows = [process for process in below(os.getpid()) if flow_run_of(process)]
            made = stop(flows, began + RUNS_BY - time.monotonic())
            if flows:
                say(f"runs: {len(flows) - made} stopped, {made} had to be killed; they go on at the next start")
            self.worker.stop(began + WORKER_BY - time.monotonic())
            self.server.stop(began + SERVER_BY - time.monotonic())
            stop(below(os.getpid()), began + REST_BY - time.monotonic())

    def _await_server(self) -> None:
        address = f"{address_of(self.host, self.port)}/api/health"
        deadline = time.monotonic() + HEALTHY_WITHIN
        while time.monotonic() < deadline and self.server.ended() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address, timeout=5).is_success:
                    return
            time.sleep(0.2)
        raise StepwiseError(
            f"the server did not come up (it ended with {self.server.ended()})",
            f"a healthy server within {HEALTHY_WITHIN:.0f} s",
            "What it said stands above; is the database there that PREFECT_SERVER_DATABASE_CONNECTION_URL or "
            "database_url names?",
        )

    def _await_worker(self, client: SyncPrefectClient, began: datetime.datetime) -> None:
        pool, deadline = self.installation.work_pool, time.monotonic() + HEALTHY_WITHIN
        while time.monotonic() < deadline and self.worker.ended() is None:
            seen = {worker.name: worker.last_heartbeat_time for worker in client.read_workers_for_work_pool(pool)}
            if (seen.get(worker_name()) or began) > began:  # a heartbeat of this one, not of the one before
                say(f"worker: online for pool {pool}")
                say("watchdog: running" if self.watchdog.ended() is None else "watchdog: not running")
                return
            time.sleep(0.5)
        raise StepwiseError(f"the worker did not come up (it ended with {self.worker.ended()})", "", "See above")


def worker_name() -> str:
    """What this machine's worker is called."""
    return f"stepwise on {socket.gethostname()}"


def _environment(installation: Installation, host: str, port: int) -> dict[str, str]:
    """The environment of all parts; what a person set stands, the rest of it is filled in."""
    python_path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    environment = {
        "TMPDIR": _own_temporary_folder(),
        **os.environ,
        **settings_of(host, port),
        "PYTHONPATH": python_path,
    }
    if installation.database_url:
        environment.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", installation.database_url.get_secret_value())
    password = _password()
    if password:
        environment |= {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
    return environment


def _own_temporary_folder() -> str:
    """Prefect's workers share one folder below the machine's own, which belongs to the first user who started one."""
    folder = PREFECT_HOME.value() / "tmp"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _password() -> str | None:
    """The server's password, set for the server or for its clients."""
    settings = get_current_settings()
    secret = settings.server.api.auth_string or settings.api.auth_string
    return secret.get_secret_value() if secret else None


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Be the only one for these artifacts."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.lock(LOCK, wait=False))
        except BlockingIOError:
            raise ConfigurationError(
                "stepwise up runs already for these artifacts",
                "one at a time",
                "Stop the other one, or give this one other artifacts",
                str(store.root),
            ) from None
        yield


@contextlib.contextmanager
def _reaching(host: str, port: int) -> Iterator[None]:
    """Have this process's own client reach the server that is started here."""
    changes = {PREFECT_API_URL: f"{address_of(host, port)}/api", PREFECT_API_AUTH_STRING: _password()}
    with temporary_settings(changes):
        yield


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let every polite way of stopping be a KeyboardInterrupt."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _database(environment: Mapping[str, str]) -> str:
    """What kind of database the server has, without its secrets."""
    configured = get_current_settings().server.database.connection_url
    url = environment.get("PREFECT_SERVER_DATABASE_CONNECTION_URL") or (
        configured.get_secret_value() if configured else ""
    )
    return url.partition("+")[0].partition(":")[0] or "sqlite"


def _next_runs(client: SyncPrefectClient, installation: Installation) -> Iterator[str]:
    """A line a deployment: when it runs next."""
    for deployment in owned_deployments(client, installation.work_pool):
        active = [schedule for schedule in deployment.schedules if schedule.active]
        yield f"deployment {deployment.name}: " + (_next_run(client, deployment) if active else "runs by hand")


def _next_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    """When a deployment runs next; the server takes a few seconds to say so."""
    for _ in range(40):
        first = next_start(client, deployment.id)
        if first:
            return f"next run {first.astimezone():%Y-%m-%d %H:%M %Z}"
        time.sleep(0.5)
    return "its next run is about to be scheduled"  # the server goes through all deployments once a minute
