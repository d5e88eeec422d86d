"""Putting an installation onto a Prefect server: pool, deployments, schedules, limits; again and again alike.

What is there is read first, only what differs is written, and what was done is told. Owned is what carries the tag
`stepwise` and waits in the installation's pool; nothing else is touched. Not here: automations (automations).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from rich.console import Console

from flows.datasets import dataset_for, require_possible
from flows.installation import ahead
from flows.installation.automations import put_automations
from flows.installation.owned import FLOW, OWNED, UPKEEP_FLOW, Item, owned_deployments, tagged_deployments
from flows.installation.upkeep import upkeep
from flows.reach import require_named_server, server_client
from flows.retrain import retrain
from flows.settings import OF_RUNS
from schemas.errors import ConfigurationError
from schemas.installation import Deployment, Installation, load_installation
from schemas.visible import without_user

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

# Modules, so that a worker finds them wherever stepwise is installed.
ENTRYPOINT: Final = "flows.retrain.retrain"
UPKEEP_ENTRYPOINT: Final = "flows.installation.upkeep.upkeep"
SCHEDULE: Final = "stepwise"  # the slug of the schedule that the file describes
_LONGEST: Final = 120


@dataclass(frozen=True)
class _Wanted:
    """One deployment as it shall be.

    Attributes:
        flow: The name of its flow.
        name: Its own name.
        body: What it is, by the names that the server uses.
        cron: When it runs; None: by hand.
        timezone: The time zone that cron means.
        active: Whether the schedule is on.
    """

    flow: str
    name: str
    body: dict[str, Any]
    cron: str | None
    timezone: str
    active: bool

    @property
    def full_name(self) -> str:
        """Its name with that of its flow."""
        return f"{self.flow}/{self.name}"


def deploy_and_tell(file: Path) -> None:
    """Deploy a file's installation onto the server at PREFECT_API_URL, a line an item."""
    installation = load_installation(file)
    require_named_server()
    console = Console()
    with server_client() as client:
        console.print(f"server: {without_user(str(client.api_url))}", highlight=False, soft_wrap=True)
        for item in deploy(client, installation):
            console.print(str(item), highlight=False, markup=False, soft_wrap=True)


def deploy(client: SyncPrefectClient, installation: Installation) -> list[Item]:
    """Make the server as the installation says; returns what was done, item by item.

    Raises:
        ConfigurationError: a deployment cannot run as it is described, or a name belongs to somebody else; then
            nothing was written.
    """
    require_possible(installation.deployments)
    wanted = _all_wanted(installation)
    found = [_find(client, each, installation) for each in wanted]
    items = [_put_pool(client, installation)]
    for each, there in zip(wanted, found, strict=True):
        items.extend(_put_deployment(client, each, there))
        items.append(_put_schedule(client, each))
    items.extend(_retire(client, installation, {each.full_name for each in wanted}))
    items.extend(put_automations(client, installation))
    items.extend(ahead.items(ahead.brought_up_to_date(client, installation.work_pool)))
    return items


def differences(
    client: SyncPrefectClient, installation: Installation
) -> Iterator[tuple[str, DeploymentResponse | None, list[str]]]:
    """Each deployment that shall be there: its name, what is there, and how that differs; nothing is written."""
    for wanted in _all_wanted(installation):
        found = _find(client, wanted, installation)
        if found is None:
            yield wanted.name, None, []
            continue
        there = client.read_deployment_schedules(found.id)
        yield wanted.name, found, [*_body_changes(wanted, found), *_schedule_changes(wanted, _ours(wanted, there))]


def upkeep_name(installation: Installation) -> str:
    """What the deployment of the upkeep is called; several installations on one server have one each."""
    return f"upkeep-{installation.work_pool}"


def parameters_of(deployment: Deployment, artifacts: Path) -> dict[str, Any]:
    """The flow's parameters for the runs of a deployment."""
    return {
        "configuration": deployment.run_configuration().model_dump(mode="json"),
        "data": str(deployment.data) if deployment.data else None,
        "catalogs": [str(catalog) for catalog in deployment.catalogs],
        "artifacts": str(artifacts),
        "policy": deployment.policy.model_dump(mode="json"),
    }


def _find(client: SyncPrefectClient, wanted: _Wanted, installation: Installation) -> DeploymentResponse | None:
    """The deployment of that name, where it is ours or there is none."""
    try:
        found = client.read_deployment_by_name(wanted.full_name)
    except ObjectNotFound:
        return None
    if OWNED not in found.tags:
        raise ConfigurationError(
            f"there is a deployment '{wanted.full_name}' that stepwise did not put there",
            f"one that carries the tag '{OWNED}', or none",
            f"Name yours differently, delete that one, or give it the tag '{OWNED}' to hand it over; nothing was "
            f"changed (pool {installation.work_pool})",
        )
    pool, artifacts = found.work_pool_name, (found.parameters or {}).get("artifacts")
    if pool != installation.work_pool and artifacts != str(installation.artifacts):
        raise ConfigurationError(
            f"there is a deployment '{wanted.full_name}' of another installation: pool {pool}, artifacts {artifacts}",
            "a name of its own for each deployment on one server",
            f"Name yours differently, or delete that one where its installation is gone; nothing was changed (pool "
            f"{installation.work_pool})",
        )
    return found


def _put_pool(client: SyncPrefectClient, installation: Installation) -> Item:
    name, description = installation.work_pool, "Runs of stepwise, each as a process of the worker's machine."
    told = f"work pool {name}"
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", description=description, base_job_template=template)
        )
        return Item(name=told, done="created")
    if pool.type != "process":
        raise ConfigurationError(
            f"the work pool '{name}' is of type {pool.type}", "type process", "Set work_pool to another name"
        )
    if pool.description == description:
        return Item(name=told, done="unchanged")
    client.update_work_pool(name, WorkPoolUpdate(description=description))
    return Item(name=told, done="changed", changes=(_change("description", pool.description, description),))


def _all_wanted(installation: Installation) -> list[_Wanted]:
    """The deployments that shall be there: the file's, and the upkeep where something says what is kept."""
    wanted = [
        _Wanted(FLOW, name, _body(deployment, installation), deployment.cron, deployment.timezone, deployment.active)
        for name, deployment in installation.deployments.items()
    ]
    keep = installation.retention
    if keep.is_set:
        body = _body_of_upkeep(installation)
        name = upkeep_name(installation)
        wanted.append(_Wanted(UPKEEP_FLOW, name, body, keep.cron, keep.timezone, keep.active))
    return wanted


def _body(deployment: Deployment, installation: Installation) -> dict[str, Any]:
    configuration = deployment.run_configuration()
    dataset = dataset_for(configuration, deployment.data, deployment.catalogs).name
    return {
        "description": deployment.description or f"Retrains {dataset} ({configuration.preset}).",
        "tags": sorted({OWNED, dataset, configuration.preset, *deployment.tags}),
        "entrypoint": ENTRYPOINT,
        "parameters": parameters_of(deployment, installation.artifacts),
        "parameter_openapi_schema": _form(retrain),
        "concurrency_limit": installation.concurrency,
        **_alike(installation),
    }


def _body_of_upkeep(installation: Installation) -> dict[str, Any]:
    keep = installation.retention
    return {
        "description": "Removes old runs with all that only they needed, as `retention` says.",
        "tags": [OWNED, UPKEEP_FLOW],
        "entrypoint": UPKEEP_ENTRYPOINT,
        "parameters": {
            "artifacts": str(installation.artifacts),
            "keep_runs": keep.keep_runs,
            "keep_days": keep.keep_days,
        },
        "parameter_openapi_schema": _form(upkeep),
        "concurrency_limit": 1,
        **_alike(installation),
    }


def _alike(installation: Installation) -> dict[str, Any]:
    """What is the same for every deployment."""
    return {
        "path": None,
        "work_pool_name": installation.work_pool,
        "enforce_parameter_schema": True,
        "job_variables": {"env": OF_RUNS},
        "concurrency_options": {"collision_strategy": ConcurrencyLimitStrategy.CANCEL_NEW.value},
    }


def _form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The form of a flow's parameters; unlike Prefect's own it refuses names that the flow does not know."""
    return {**parameter_schema(flow).model_dump(mode="json", exclude_none=True), "additionalProperties": False}


def _seen(found: DeploymentResponse) -> dict[str, Any]:
    """What a deployment is, by the same names."""
    limit = found.global_concurrency_limit
    options = found.concurrency_options
    return {
        "description": found.description,
        "tags": sorted(found.tags),
        "entrypoint": found.entrypoint,
        "path": found.path,
        "work_pool_name": found.work_pool_name,
        "parameters": found.parameters,
        "parameter_openapi_schema": found.parameter_openapi_schema,
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "job_variables": found.job_variables,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": {"collision_strategy": options.collision_strategy.value} if options else None,
    }


def _put_deployment(client: SyncPrefectClient, wanted: _Wanted, found: DeploymentResponse | None) -> list[Item]:
    told = f"deployment {wanted.name}"
    if found is None:
        options = ConcurrencyOptions(**wanted.body["concurrency_options"])
        flow = client.create_flow_from_name(wanted.flow)
        client.create_deployment(flow, wanted.name, **{**wanted.body, "concurrency_options": options})
        return [Item(name=told, done="created")]
    seen = _seen(found)
    changed = {key: value for key, value in wanted.body.items() if seen[key] != value}
    if not changed:
        return [Item(name=told, done="unchanged")]
    client.update_deployment(found.id, DeploymentUpdate(**changed))
    return [Item(name=told, done="changed", changes=tuple(_body_changes(wanted, found)))]


def _body_changes(wanted: _Wanted, found: DeploymentResponse) -> list[str]:
    seen = _seen(found)
    return [change for key, value in wanted.body.items() for change in _changes(key, seen[key], value)]


def _put_schedule(client: SyncPrefectClient, wanted: _Wanted) -> Item:
    """Leave a deployment with the one schedule that the file describes, or with none."""
    told = f"schedule of {wanted.name}"
    place = client.read_deployment_by_name(wanted.full_name).id
    there = client.read_deployment_schedules(place)
    ours = _ours(wanted, there)
    others = [schedule for schedule in there if schedule is not ours]
    if wanted.cron is None:
        removed = [_remove(client, place, schedule) for schedule in others]
        return Item(name=told, done="removed" if removed else "unchanged", changes=tuple(removed))
    removed = [_switch_off(client, place, schedule) for schedule in others if schedule.active]
    cron = CronSchedule(cron=wanted.cron, timezone=wanted.timezone)
    if ours is None:
        client.create_deployment_schedules(
            place, [DeploymentScheduleCreate(schedule=cron, active=wanted.active, slug=SCHEDULE)]
        )
        return Item(name=told, done="created", changes=(_said(cron.cron, cron.timezone), *removed))
    changes = _schedule_changes(wanted, ours)
    if changes:  # not another in its place: with the old one would go the run that was missed and is to be made up for
        client.update_deployment_schedule(place, ours.id, active=wanted.active, schedule=cron, parameters={})
    return Item(name=told, done="changed" if changes or removed else "unchanged", changes=(*changes, *removed))


def _ours(wanted: _Wanted, there: Sequence[DeploymentSchedule]) -> DeploymentSchedule | None:
    """The schedule that the file describes; None where it describes none, or that is not there."""
    return next((schedule for schedule in there if schedule.slug == SCHEDULE), None) if wanted.cron else None


def _schedule_changes(wanted: _Wanted, ours: DeploymentSchedule | None) -> list[str]:
    if wanted.cron is None:
        return []
    before = {"active": ours.active, **_when(ours), "parameters": ours.parameters} if ours else {"parameters": {}}
    after = {"active": wanted.active, "cron": wanted.cron, "timezone": wanted.timezone, "parameters": {}}
    return [change for key in after for change in _changes(f"schedule.{key}", before.get(key), after[key])]


def _retire(client: SyncPrefectClient, installation: Installation, wanted: Collection[str]) -> Iterator[Item]:
    """Take the schedules off deployments that are ours and no longer in the file; their runs stay to be looked at."""
    flows: dict[UUID, str] = {}
    for found in [*owned_deployments(client, installation.work_pool), *_left_behind(client, installation)]:
        if found.flow_id not in flows:
            flows[found.flow_id] = client.read_flow(found.flow_id).name
        if f"{flows[found.flow_id]}/{found.name}" in wanted:
            continue
        there = client.read_deployment_schedules(found.id)
        removed = [_remove(client, found.id, schedule) for schedule in there]
        done = "removed" if removed else "unchanged"
        yield Item(name=f"schedule of {found.name}, which the file no longer has", done=done, changes=tuple(removed))


def _left_behind(client: SyncPrefectClient, installation: Installation) -> Iterator[DeploymentResponse]:
    """What the installation had in a pool of another name, such as its upkeep."""
    for found in tagged_deployments(client):
        same = (found.parameters or {}).get("artifacts") == str(installation.artifacts)
        if same and found.work_pool_name != installation.work_pool and found.schedules:
            yield found


def _remove(client: SyncPrefectClient, deployment: UUID, schedule: DeploymentSchedule) -> str:
    client.delete_deployment_schedule(deployment, schedule.id)
    when = _when(schedule)
    return f"removed {_said(when['cron'], when['timezone'])}" if when else "removed a schedule made elsewhere"


def _switch_off(client: SyncPrefectClient, deployment: UUID, schedule: DeploymentSchedule) -> str:
    """Not removed: with a schedule the server removes the run that was missed and is to be made up for."""
    client.update_deployment_schedule(deployment, schedule.id, active=False)
    when = _when(schedule)
    return f"switched off {_said(when['cron'], when['timezone'])}" if when else "switched off a schedule made elsewhere"


def _when(schedule: DeploymentSchedule) -> dict[str, Any]:
    when = schedule.schedule
    return {"cron": when.cron, "timezone": when.timezone} if isinstance(when, CronSchedule) else {}


def _said(cron: str, timezone: str | None) -> str:
    return f"{_text(cron)} {timezone or 'UTC'}"


def _changes(name: str, old: object, new: object) -> list[str]:
    """What differs between two values, a phrase each; nested ones by their dotted names."""
    if old == new:
        return []
    if name == "parameter_openapi_schema":
        return ["the form of the parameters"]
    if isinstance(old, dict) and isinstance(new, dict):
        return [change for key in _keys(old, new) for change in _changes(f"{name}.{key}", old.get(key), new.get(key))]
    return [_change(name, old, new)]


def _keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return sorted(old.keys() | new.keys())


def _change(name: str, old: object, new: object) -> str:
    return f"{name} {_text(old)} → {_text(new)}"


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
