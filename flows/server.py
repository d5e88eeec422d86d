"""The Prefect UI on this machine. Not here: deployments and schedules."""

from __future__ import annotations

import os
import sys


def serve_ui(host: str, port: int) -> None:
    """Become `prefect server start` with the same home, its pages calling the port they are served at."""
    shown = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not bound
    environment = {
        **os.environ,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"{shown}/api",
    }
    sys.stdout.write(f"Prefect UI: {shown} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted
