"""Putting an installation onto a Prefect server: pool, deployments, schedules, limits; again and again alike.

What is there is read first, only what differs is written, and what was done is told. Owned is what carries the tag
`stepwise` and waits in the installation's pool; nothing else is touched. Not here: automations (flows/automations).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from rich.console import Console

from flows.automations import put_automations
from flows.owned import FLOW, OWNED, Item, owned_deployments
from flows.reach import server_client
from flows.retrain import dataset_for, require_timesteps, retrain
from flows.settings import OF_RUNS
from schemas.errors import ConfigurationError
from schemas.installation import Deployment, Installation, load_installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

ENTRYPOINT: Final = "flows.retrain.retrain"  # a module, so that a worker finds it wherever stepwise is installed
SCHEDULE: Final = "stepwise"  # the slug of the schedule that the file describes
_LONGEST: Final = 120


def deploy_and_tell(file: Path) -> None:
    """Deploy a file's installation, a line an item."""
    installation = load_installation(file)
    console = Console()
    with server_client() as client:
        console.print(f"server: {client.api_url}", highlight=False, soft_wrap=True)
        for item in deploy(client, installation):
            console.print(str(item), highlight=False, markup=False, soft_wrap=True)


def deploy(client: SyncPrefectClient, installation: Installation) -> list[Item]:
    """Make the server as the installation says; returns what was done, item by item.

    Raises:
        ConfigurationError: a deployment cannot run as it is described, or a name belongs to somebody else; then
            nothing was written.
    """
    for deployment in installation.deployments.values():
        configuration = deployment.run_configuration()
        require_timesteps(configuration, dataset_for(configuration, deployment.data, deployment.catalogs))
    found = {name: _find(client, name, installation) for name in installation.deployments}
    items = [_put_pool(client, installation)]
    flow = client.create_flow_from_name(FLOW)
    for name, deployment in installation.deployments.items():
        items.extend(_put_deployment(client, flow, name, _wanted(deployment, installation), found[name]))
        items.append(_put_schedule(client, name, deployment))
    items.extend(_retire(client, installation))
    items.extend(put_automations(client, installation))
    return items


def parameters_of(deployment: Deployment, artifacts: Path) -> dict[str, Any]:
    """The flow's parameters for the runs of a deployment."""
    return {
        "configuration": deployment.run_configuration().model_dump(mode="json"),
        "data": str(deployment.data) if deployment.data else None,
        "catalogs": [str(catalog) for catalog in deployment.catalogs],
        "artifacts": str(artifacts),
        "policy": deployment.policy.model_dump(mode="json"),
    }


def _find(client: SyncPrefectClient, name: str, installation: Installation) -> DeploymentResponse | None:
    """The deployment of that name, where it is ours or there is none."""
    try:
        found = client.read_deployment_by_name(f"{FLOW}/{name}")
    except ObjectNotFound:
        return None
    if OWNED not in found.tags:
        raise ConfigurationError(
            f"there is a deployment '{FLOW}/{name}' that stepwise did not put there",
            f"one that carries the tag '{OWNED}', or none",
            f"Name yours differently, delete that one, or give it the tag '{OWNED}' to hand it over; nothing was "
            f"changed (pool {installation.work_pool})",
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


def _wanted(deployment: Deployment, installation: Installation) -> dict[str, Any]:
    """What a deployment shall be, by the names that the server uses."""
    configuration = deployment.run_configuration()
    dataset = dataset_for(configuration, deployment.data, deployment.catalogs).name
    return {
        "description": deployment.description or f"Retrains {dataset} ({configuration.preset}).",
        "tags": sorted({OWNED, dataset, configuration.preset, *deployment.tags}),
        "entrypoint": ENTRYPOINT,
        "path": None,
        "work_pool_name": installation.work_pool,
        "parameters": parameters_of(deployment, installation.artifacts),
        "parameter_openapi_schema": _form(),
        "enforce_parameter_schema": True,
        "job_variables": {"env": OF_RUNS},
        "concurrency_limit": installation.concurrency,
        "concurrency_options": {"collision_strategy": ConcurrencyLimitStrategy.CANCEL_NEW.value},
    }


def _form() -> dict[str, Any]:
    """The form of the flow's parameters; unlike Prefect's own it refuses names that the flow does not know."""
    return {**parameter_schema(retrain).model_dump(mode="json", exclude_none=True), "additionalProperties": False}


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


def _put_deployment(
    client: SyncPrefectClient, flow: UUID, name: str, wanted: dict[str, Any], found: DeploymentResponse | None
) -> list[Item]:
    told = f"deployment {name}"
    if found is None:
        options = ConcurrencyOptions(**wanted["concurrency_options"])
        client.create_deployment(flow, name, **{**wanted, "concurrency_options": options})
        return [Item(name=told, done="created")]
    seen = _seen(found)
    changed = {key: value for key, value in wanted.items() if seen[key] != value}
    if not changed:
        return [Item(name=told, done="unchanged")]
    client.update_deployment(found.id, DeploymentUpdate(**changed))
    changes = (change for key in changed for change in _changes(key, seen[key], wanted[key]))
    return [Item(name=told, done="changed", changes=tuple(changes))]


def _put_schedule(client: SyncPrefectClient, name: str, deployment: Deployment) -> Item:
    """Leave a deployment with the one schedule that the file describes, or with none."""
    told = f"schedule of {name}"
    place = client.read_deployment_by_name(f"{FLOW}/{name}").id
    there = client.read_deployment_schedules(place)
    ours = next((schedule for schedule in there if schedule.slug == SCHEDULE), None) if deployment.cron else None
    removed = [_remove(client, place, schedule) for schedule in there if schedule is not ours]
    if deployment.cron is None:
        return Item(name=told, done="removed" if removed else "unchanged", changes=tuple(removed))
    cron = CronSchedule(cron=deployment.cron, timezone=deployment.timezone)
    if ours is None:
        client.create_deployment_schedules(
            place, [DeploymentScheduleCreate(schedule=cron, active=deployment.active, slug=SCHEDULE)]
        )
        return Item(name=told, done="created", changes=(_said(cron.cron, cron.timezone), *removed))
    seen = {"active": ours.active, **_when(ours)}
    wanted = {"active": deployment.active, "cron": deployment.cron, "timezone": deployment.timezone}
    changes = [change for key in wanted for change in _changes(f"schedule.{key}", seen.get(key), wanted[key])]
    if changes:
        client.update_deployment_schedule(place, ours.id, active=deployment.active, schedule=cron)
    return Item(name=told, done="changed" if changes or removed else "unchanged", changes=(*changes, *removed))


def _retire(client: SyncPrefectClient, installation: Installation) -> Iterator[Item]:
    """Take the schedules off deployments that are ours and no longer in the file; their runs stay to be looked at."""
    for found in owned_deployments(client, installation.work_pool):
        if found.name in installation.deployments:
            continue
        there = client.read_deployment_schedules(found.id)
        removed = [_remove(client, found.id, schedule) for schedule in there]
        done = "removed" if removed else "unchanged"
        yield Item(name=f"schedule of {found.name}, which the file no longer has", done=done, changes=tuple(removed))


def _remove(client: SyncPrefectClient, deployment: UUID, schedule: DeploymentSchedule) -> str:
    client.delete_deployment_schedule(deployment, schedule.id)
    when = _when(schedule)
    return f"removed {_said(when['cron'], when['timezone'])}" if when else "removed a schedule made elsewhere"


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
