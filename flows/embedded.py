"""The Prefect server that a command has for itself where PREFECT_API_URL names none.

Here: that it ends with the command. Prefect starts it and stops it at a polite exit; where the command is killed, it
would run on for ever and hold the database. Not here: when it starts (Prefect's client does that), what it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.settings import (
    PREFECT_API_BLOCKS_REGISTER_ON_START,
    PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION,
    get_current_settings,
    temporary_settings,
)

from flows.bound import guarded

if TYPE_CHECKING:
    import subprocess


def bind_embedded_server() -> None:
    """Have the server that this process may start later end with this process, however that ends."""
    if get_current_settings().api.url:
        return
    from prefect.server.api.server import SubprocessASGIServer

    class Bound(SubprocessASGIServer):
        def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
            with temporary_settings(_NO_BLOCKS):
                server = super()._run_uvicorn_command()
            _guards.append(guarded(server.pid))
            return server

    Bound()  # from now on the one of this process


# To list the kinds of blocks, which only a server with pages needs, it would import prefect-dask and all of Dask.
_NO_BLOCKS = {PREFECT_API_BLOCKS_REGISTER_ON_START: False, PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION: False}
_guards: list[subprocess.Popen[bytes]] = []  # a guard that is forgotten ends its process
