"""A Prefect server of this machine: its command, its settings, its application. Not here: who starts it."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from starlette.middleware.base import RequestResponseEndpoint

# The UI's pages ask an address of an analytics company for its settings, even where analytics are switched off;
# under this policy a browser lets them talk to their own server only.
OWN_SERVER_ONLY = (
    "connect-src 'self'; frame-src 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'; "
    "img-src 'self' data: blob:"
)


CORS: Final = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
LOOPBACK: Final = ("127.0.0.1", "localhost")


def address_of(host: str, port: int) -> str:
    """The address at which this machine reaches a server."""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not bound


def settings_of(host: str, port: int) -> dict[str, str]:
    """The environment of a server: its pages call the port they are served at, by whichever name they were reached."""
    settings = {
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"{address_of(host, port)}/api",
        # Prefect would answer anybody's pages in a browser of this machine, and whoever is answered can run programs.
        CORS: os.environ.get(CORS, address_of(host, port)),
    }
    if host not in {"127.0.0.1", "localhost"}:
        settings["PREFECT_UI_API_URL"] = os.environ.get("PREFECT_UI_API_URL", "/api")
    return settings


def is_of_this_machine(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_guarded(host: str) -> None:
    """Raise ConfigurationError where a network would reach a server that asks for no password."""
    from prefect.settings import get_current_settings

    if not is_of_this_machine(host) and not get_current_settings().server.api.auth_string:
        raise ConfigurationError(
            f"--host {host} shows the server to a network, and it has no password",
            "a password: whoever reaches the server can have it run programs as you",
            "Set PREFECT_SERVER_API_AUTH_STRING=user:password, or leave --host out",
        )


def require_free(host: str, port: int) -> None:
    """Raise ConfigurationError where a server cannot listen: at a port in use, or a host that this machine is not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen at {host}:{port}: {error.strerror}",
                "a port that nobody uses, at an address of this machine",
                "Choose another with --port, or stop what listens there",
            ) from error


def server_command(host: str, port: int) -> list[str]:
    """The command of a server: as `prefect server start`, but for the application, which is the one below."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.server:application", "--log-level", "warning"]
    command += ["--app-dir", str(Path(__file__).resolve().parents[1])]
    return [*command, "--host", host, "--port", str(port)]


def application() -> FastAPI:
    """Prefect's server with its UI, whose pages reach no other host; on loopback it answers to its own names alone.

    A page of somebody's whose name leads here all of a sudden (DNS rebinding) asks for that name.
    """
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(final=True)
    host = os.environ.get("PREFECT_SERVER_API_HOST", LOOPBACK[0])
    if is_of_this_machine(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, host, *_names_in_front()])

    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = OWN_SERVER_ONLY
        return response

    return app


def _names_in_front() -> list[str]:
    """The names of a proxy before the server, as its pages were told them."""
    told = (os.environ.get(name, "") for name in ("PREFECT_UI_URL", "PREFECT_UI_API_URL", "PREFECT_SERVER_UI_API_URL"))
    return [name for name in (urlsplit(address).hostname for address in told) if name]
