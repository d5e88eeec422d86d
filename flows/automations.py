"""Automations on the server that do what the watchdog does, for a server that none watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

    from flows.deploy import Item
    from schemas.installation import Installation


def put_automations(client: SyncPrefectClient, installation: Installation) -> Iterator[Item]:
    """Put them there, or take them away."""
    _ = client, installation
    yield from ()
