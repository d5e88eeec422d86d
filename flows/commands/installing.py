"""Commands of an installation: ui, up, deploy, watch, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.options import (
    DEFAULT_ARTIFACTS,
    DEFAULT_FILE,
    Artifacts,
    ArtifactsOfFile,
    AsJson,
    InstallationFile,
)
from flows.settings import require_home


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 4200,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than localhost show it to the network.")
    ] = "127.0.0.1",
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> None:
    """Serve the Prefect UI with all runs made so far, until Ctrl-C; those of the artifacts that died are marked so."""
    from flows.ui import serve_ui

    require_home()
    serve_ui(host, port, artifacts)


def deploy(file: InstallationFile = DEFAULT_FILE) -> None:
    """Put the installation's work pool, deployments, schedules and limits onto the Prefect server.

    The server is the one at PREFECT_API_URL. Each item is told: unchanged, created, or what changed. Again changes
    nothing.
    """
    require_home()
    from flows.installation.deploy import deploy_and_tell

    deploy_and_tell(file)


def up(
    file: InstallationFile = DEFAULT_FILE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 4200,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than localhost show it to the network.")
    ] = "127.0.0.1",
) -> None:
    """Start everything on this machine and keep it running: server, deployments, worker, watchdog. Ctrl-C stops all.

    The database is SQLite, or Postgres where database_url of the file or PREFECT_SERVER_DATABASE_CONNECTION_URL names
    one; PREFECT_SERVER_API_AUTH_STRING=user:password asks everybody for a password.
    """
    require_home(database=False)
    from flows.installation.up import up as start

    start(file, host, port)


def doctor(
    deep: Annotated[  # noqa: FBT002
        bool, typer.Option("--deep", help="Compare every byte of every output with its digest, not sizes alone.")
    ] = False,
    file: InstallationFile = DEFAULT_FILE,
    artifacts: ArtifactsOfFile = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Examine this machine, its outputs, its sources and the Prefect server; each finding with its remedy.

    Nothing is changed. Without a file, the defaults are examined. The exit code is 0 where nothing is bad, else that of
    the first bad finding: 2 the installation, its file or the password; 4 the server or a source; 5 outputs or disk;
    1 anything else.
    """
    from flows.doctor import examine_and_tell

    code = examine_and_tell(file, artifacts, DEFAULT_ARTIFACTS, deep=deep, as_json=as_json)
    raise typer.Exit(code)


def watch(file: InstallationFile = DEFAULT_FILE) -> None:
    """Watch over runs whose worker `stepwise up` did not start, on that worker's machine, until Ctrl-C.

    Dead runs are marked as crashed, crashed ones tried again, missed ones made up for by one, failures told.
    """
    from flows.installation.watchdog import watch as keep_watching

    keep_watching(file)
