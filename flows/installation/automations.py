"""Automations on the server that do what the watchdog does, for a server whose worker none watches.

A run whose heartbeats stopped has crashed; a crashed one is tried again, counted by the server; failures and crashes
are told. They are known by their names, so that they can be put there again and again. They need Postgres: with SQLite
the server's own events lock its database. Not here: the watchdog, which knows a dead process from a silent one.
"""

from __future__ import annotations

import datetime
import json
import re
from typing import TYPE_CHECKING, Any, Final

from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from flows.installation.owned import OWNED, Item, owned_deployments
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import Automation

    from schemas.installation import Installation

HEARTBEATS_WITHIN: Final = datetime.timedelta(seconds=90)  # three of them
RETRY_AFTER: Final = datetime.timedelta(seconds=20)
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
CRASHED: Final = "prefect.flow-run.Crashed"
FAILED: Final = "prefect.flow-run.Failed"
ENDED: Final = {CRASHED, FAILED, "prefect.flow-run.Completed", "prefect.flow-run.Cancelled"}
DEAD, AGAIN, TOLD = "dead runs crash", "crashed runs go on", "failures are told"
DESCRIPTION: Final = f"Put there by {OWNED}."
WORDS: Final = "{{ flow_run.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }} {{ flow_run|ui_url }}"


def put_automations(client: SyncPrefectClient, installation: Installation) -> Iterator[Item]:
    """Have the server do it, where the installation says so; else take away what is there under these names.

    Several installations on one server have automations of their own: the name of each begins with the pool's.
    """
    names = {_name(installation, what) for what in (DEAD, AGAIN, TOLD)}
    ours = set(_of_ours(client, installation)["match_related"]["prefect.resource.id"])
    there = {found.name: found for found in client.read_automations() if found.name in names or _is_for(found, ours)}
    wanted = _wanted(client, installation) if installation.automations else []
    for automation in wanted:
        yield _put(client, automation, there.pop(automation.name, None))
    for name, found in there.items():
        client.delete_automation(found.id)
        yield Item(name=f"automation '{name}'", done="removed")


def _is_for(found: Automation, deployments: set[str]) -> bool:
    """Whether an automation of ours, of whichever pool, looks after these deployments, which may have moved."""
    related = json.dumps(_essence(found)["trigger"].get("match_related") or {})
    return found.description == DESCRIPTION and any(f'"{deployment}"' in related for deployment in deployments)


def _name(installation: Installation, what: str) -> str:
    return f"{installation.work_pool}: {what}"


def _put(client: SyncPrefectClient, wanted: AutomationCore, found: Automation | None) -> Item:
    told = f"automation '{wanted.name}'"
    if found is None:
        client.create_automation(wanted)
        return Item(name=told, done="created")
    before, after = _essence(found), _essence(wanted)
    if before == after:
        return Item(name=told, done="unchanged")
    client.update_automation(found.id, wanted)
    changed = tuple(sorted(key for key in after if before.get(key) != after[key]))
    return Item(name=told, done="changed", changes=changed)


def _wanted(client: SyncPrefectClient, installation: Installation) -> list[AutomationCore]:
    ours = _of_ours(client, installation)
    wanted = {DEAD: _dead_runs_crash(ours)}
    if installation.retries:
        wanted[AGAIN] = _crashed_runs_go_on(ours, installation.retries)
    if installation.alerts.webhook or installation.alerts.block:
        wanted[TOLD] = _failures_are_told(client, ours, installation)
    return [
        AutomationCore(name=_name(installation, what), description=DESCRIPTION, trigger=trigger, actions=[action])
        for what, (trigger, action) in wanted.items()
    ]


def _dead_runs_crash(ours: dict[str, Any]) -> tuple[EventTrigger, ActionTypes]:
    trigger = EventTrigger(
        **ours,
        posture=Posture.Proactive,
        after={HEARTBEAT},
        expect={HEARTBEAT, *ENDED},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=HEARTBEATS_WITHIN,
    )
    message = f"No heartbeat for {HEARTBEATS_WITHIN.seconds} s: the process that ran it is gone."
    return trigger, ChangeFlowRunState(state=StateType.CRASHED, message=message)


def _crashed_runs_go_on(ours: dict[str, Any], retries: int) -> tuple[EventTrigger, ActionTypes]:
    """Proactive: what reacts to a crash at once reacts to its own doing as well, for ever."""
    counts = [str(count) for count in range(1, retries + 1)]
    trigger = EventTrigger(
        **{**ours, "match": {**ours["match"], "prefect.run-count": counts}},
        posture=Posture.Proactive,
        after={CRASHED},
        expect={"prefect.flow-run.AwaitingRetry", "prefect.flow-run.Pending", "prefect.flow-run.Running"},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=RETRY_AFTER,
    )
    message = "It crashed, and goes on."
    return trigger, ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=message)


def _failures_are_told(
    client: SyncPrefectClient, ours: dict[str, Any], installation: Installation
) -> tuple[EventTrigger, ActionTypes]:
    trigger = EventTrigger(
        **ours, posture=Posture.Reactive, expect={FAILED, CRASHED}, for_each={"prefect.resource.id"}, threshold=1
    )
    alerts = installation.alerts
    if alerts.block:
        block = _document(client, alerts.block)
        return trigger, SendNotification(block_document_id=block, subject="stepwise: {{ flow_run.name }}", body=WORDS)
    payload = json.dumps({"text": WORDS, "run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}"})
    block = _webhook(client, _block_name(installation.work_pool), alerts.webhook or "")
    return trigger, CallWebhook(block_document_id=block, payload=payload)


def _of_ours(client: SyncPrefectClient, installation: Installation) -> dict[str, Any]:
    """What makes an event one of the installation's flow runs: its deployments, which heartbeats name as well."""
    deployments = owned_deployments(client, installation.work_pool)
    ids = sorted(f"prefect.deployment.{deployment.id}" for deployment in deployments)
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.id": ids},
    }


def _block_name(pool: str) -> str:
    """The name of a pool as blocks may be called: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", pool.lower()).strip("-")


def _webhook(client: SyncPrefectClient, name: str, address: str) -> UUID:
    """The block that calls an address; written only where it calls another."""
    try:
        found = client.read_block_document_by_name(name, "webhook")
        if found.data.get("url") == address:
            return found.id
    except ObjectNotFound:
        pass
    Webhook(url=SecretStr(address)).save(name, overwrite=True)
    return client.read_block_document_by_name(name, "webhook").id


def _document(client: SyncPrefectClient, block: str) -> UUID:
    kind, _, name = block.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"there is no block '{block}' on the server", "a notification block", "Make it in the UI, under Blocks"
        ) from error


def _essence(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without what the server adds; sets in one order."""
    plain = automation.model_dump(mode="json", include={"name", "description", "enabled", "trigger", "actions"})
    essence: dict[str, Any] = _ordered(plain)
    return essence


def _ordered(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _ordered(part) for key, part in value.items() if key != "id"}
    if isinstance(value, list):
        parts = [_ordered(part) for part in value]
        return sorted(parts) if all(isinstance(part, str) for part in parts) else parts
    return value
