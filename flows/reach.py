"""Reaching the Prefect server: one client, and errors for people where it is not there or refuses.

Not here: what is asked of it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from flows.embedded import bind_embedded_server
from schemas.errors import ConfigurationError, SourceError
from schemas.visible import without_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

SECONDS: Final = 10
REFUSED: Final = (401, 403)


@contextlib.contextmanager
def server_client() -> Iterator[SyncPrefectClient]:
    """A client of the server at PREFECT_API_URL, or of the local database where that is not set.

    Raises:
        SourceError: the server does not answer.
        StorageError: there is no room for one of this command's own.
        ConfigurationError: it asks for another password.
    """
    address = get_current_settings().api.url
    if address:
        require_server(address)
    bind_embedded_server()
    with get_client(sync_client=True) as client:
        try:
            client.api_version()
            yield client
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in REFUSED:
                raise
            raise ConfigurationError(
                f"the Prefect server refused: {error.response.status_code} {error.response.reason_phrase}",
                "the password that the server was started with",
                "Set PREFECT_API_AUTH_STRING to the value of the server's PREFECT_SERVER_API_AUTH_STRING",
                without_user(str(client.api_url)),
            ) from error


def require_named_server() -> None:
    """Raise ConfigurationError where PREFECT_API_URL names no server: one of this command alone would go with it."""
    if not get_current_settings().api.url:
        raise ConfigurationError(
            "PREFECT_API_URL is not set",
            "the address of the server that shall be used",
            "Set it: http://127.0.0.1:4200/api beside `stepwise up`, which deploys by itself when it starts",
        )


def require_server(address: str) -> None:
    """Raise SourceError at once where no server answers; Prefect's client would try for a minute."""
    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS)
        found = f"the Prefect server answers {answer.status_code} to a question about its health"
    except httpx.HTTPError as error:
        answer, found = None, f"the Prefect server does not answer: {error}"
    if answer is None or answer.is_error:
        remedy = "Start it (stepwise up), or set PREFECT_API_URL to the address of one that runs"
        raise SourceError(found, "a healthy server", remedy, without_user(address))


def address_of_pages(client: SyncPrefectClient) -> str:
    """The address at which the server's pages are, for links."""
    shown = get_current_settings().ui_url or str(client.api_url)
    return without_user(shown).rstrip("/").removesuffix("/api")
