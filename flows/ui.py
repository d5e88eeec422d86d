"""The Prefect UI on this machine, for whoever ran something here. Not here: deployments and schedules."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from flows.attempts import Attempts
from flows.server import address_of, require_free, require_guarded, server_command, settings_of

if TYPE_CHECKING:
    from pathlib import Path


def serve_ui(host: str, port: int, artifacts: Path) -> None:
    """Become a Prefect server with the same home, its pages calling the port they are served at.

    Raises:
        ConfigurationError: it cannot listen there.
    """
    require_free(host, port)
    require_guarded(host)
    if (artifacts / "store").is_dir() and Attempts(artifacts).newly_dead():
        from flows.installation.watchdog import reconcile  # it costs seconds, so only where there is something to do

        for deed in reconcile(artifacts):
            sys.stdout.write(f"left from before: {deed}\n")
    shown = address_of(host, port)
    sys.stdout.write(f"Prefect UI: {shown} (artifacts: {shown}/v2/artifacts; Ctrl-C ends it)\n")
    sys.stdout.flush()
    environment = {**os.environ, **settings_of(host, port)}
    os.execve(sys.executable, server_command(host, port), environment)  # noqa: S606 - no shell is wanted
