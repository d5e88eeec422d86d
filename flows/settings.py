"""Settings of Prefect and TensorFlow that the command makes before it imports them; whatever the user set stands."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from schemas.errors import StorageError

HOME_ROOM: Final = 1 << 20  # bytes; less than this, and a database does not get through a run
_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "stepwise",
    # Everything goes to the server, where the UI shows it; in the terminal the command speaks for itself.
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # In memory, Prefect's default, a server that starts again forgets who holds a deployment's slot, and Prefect ends
    # a run that can no longer renew its lease.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_CLI_PROMPT": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}

# What a run needs wherever a worker starts it: these stand in its deployment.
OF_RUNS = {
    name: _DEFAULTS[name]
    for name in (
        "PREFECT_LOGGING_EXTRA_LOGGERS",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
        "TF_CPP_MIN_LOG_LEVEL",
    )
} | {"PREFECT_CLIENT_MAX_RETRIES": "6"}  # twice the default's minute without a server

_DEBUGGING = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}


def prepare_environment(*, debug: bool) -> None:
    """Set what the user has not set; when debugging, let Prefect's own logs and tracebacks through."""
    for name, value in {**_DEFAULTS, **(_DEBUGGING if debug else {})}.items():
        os.environ.setdefault(name, value)
    reach_without_proxy()


def reach_without_proxy() -> None:
    """Let no proxy of the environment's come between this machine and itself; both spellings are in use."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join([*hosts, *(own for own in ("127.0.0.1", "localhost") if own not in hosts)])


def require_home(*, database: bool = True) -> None:
    """Make the folder of Prefect's records, where a first run finds an empty database.

    Args:
        database: Whether the records will be there; a file may name Postgres, which only its reader knows.

    Raises:
        StorageError: it cannot be made or written; Prefect would wait for minutes and not say why.
    """
    problem = problem_of_home()
    if problem:
        raise problem
    if not database:
        return
    from flows.database import begin

    try:
        begin(prefect_home(), os.environ)
    except OSError as error:
        raise _no_place(error) from error


def problem_of_home() -> StorageError | None:
    """Why Prefect cannot keep its records, where that is so: its server tells that to its own log only."""
    import tempfile

    try:
        prefect_home().mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=prefect_home()) as probe:
            probe.write(bytes(HOME_ROOM))
            probe.flush()
    except OSError as error:
        return _no_place(error)
    return None


def prefect_home() -> Path:
    """The folder of Prefect's records, without importing Prefect, which makes it."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def _no_place(error: OSError) -> StorageError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return StorageError(
        f"Prefect's records cannot be kept here: {error.strerror}",
        "a folder that can be written and has room",
        "Free some space and rerun: what was finished is kept"
        if full
        else "Name another with the variable PREFECT_HOME",
        str(prefect_home()),
    )
