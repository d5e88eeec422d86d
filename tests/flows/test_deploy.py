"""Deploying an installation onto a real server: what is written, what is told, what is left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from flow_support import environment_of
from install_support import STEPWISE, TOY

from flows.installation.deploy import ENTRYPOINT, deploy
from flows.installation.owned import FLOW, owned_deployments
from schemas.errors import ConfigurationError
from schemas.installation import load_installation

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def put(client: SyncPrefectClient, folder: Path, text: str) -> list[str]:
    path = folder / "stepwise.toml"
    path.write_text(text)
    return [str(item) for item in deploy(client, load_installation(path))]


def stamps(client: SyncPrefectClient) -> dict[str, Any]:
    """When the server last wrote each thing down."""
    pool = client.read_work_pool("stepwise")
    found = {"pool": pool.updated}
    for deployment in client.read_deployments():
        found[deployment.name] = deployment.updated
        found |= {f"{deployment.name} {part.id}": part.updated for part in deployment.schedules}
        found[f"{deployment.name} limit"] = deployment.global_concurrency_limit.updated
    return found


def test_again_changes_nothing_and_a_changed_setting_changes_just_that(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    created = put(client, tmp_path, TOY)
    assert created[1:] == ["deployment toy: created", 'schedule of toy: created: "0 3 * * 1" Europe/Berlin']
    before = stamps(client)
    assert len(before) == 4
    assert put(client, tmp_path, TOY) == [
        "work pool stepwise: unchanged", "deployment toy: unchanged", "schedule of toy: unchanged",
    ]  # fmt: skip
    assert stamps(client) == before

    assert put(client, tmp_path, TOY.replace("0 3 * * 1", "0 4 * * 1"))[1:3] == [  # then what came too late
        "deployment toy: unchanged", 'schedule of toy: changed: schedule.cron "0 3 * * 1" → "0 4 * * 1"',
    ]  # fmt: skip
    after = stamps(client)
    [schedule] = [name for name in before if len(name.split()) == 2 and not name.endswith("limit")]
    assert {name for name in after if after[name] != before[name]} <= {schedule, "toy"}
    assert after[schedule] > before[schedule]

    told = put(client, tmp_path, TOY.replace("epochs = 1", "epochs = 2") + "active = false\ntags = ['vision']\n")
    assert told[1].startswith("deployment toy: changed: tags [")
    assert "parameters.configuration.training.epochs 1 → 2" in told[1]
    assert 'schedule.active true → false; schedule.cron "0 4 * * 1" → "0 3 * * 1"' in told[2]


def test_what_stands_on_the_server_is_what_the_file_says(client: SyncPrefectClient, tmp_path: Path) -> None:
    put(client, tmp_path, "concurrency = 1\n" + TOY)
    [found] = owned_deployments(client, "stepwise")
    assert (found.entrypoint, found.work_pool_name, found.tags) == (
        ENTRYPOINT,
        "stepwise",
        ["glyphs", "smoke", "stepwise"],
    )
    assert found.global_concurrency_limit.limit == 1
    assert found.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    assert found.parameters["artifacts"] == str(tmp_path / "artifacts")
    assert found.parameters["configuration"]["training"]["epochs"] == 1
    [schedule] = found.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == ("0 3 * * 1", "Europe/Berlin", True)
    pool = client.read_work_pool("stepwise")
    assert (pool.type, pool.is_paused) == ("process", False)
    run = client.create_flow_run_from_deployment(found.id)
    assert {"glyphs", "smoke", "stepwise"} <= set(run.tags)
    with pytest.raises(httpx.HTTPStatusError, match=r"409|422"):
        client.create_flow_run_from_deployment(found.id, parameters={"epochs": 3})


def test_what_is_no_longer_in_the_file_loses_its_schedule_and_others_keep_theirs(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    put(client, tmp_path, TOY)
    flow = client.create_flow_from_name(FLOW)
    foreign = client.create_deployment(flow, "somebody's")
    client.create_deployment_schedules(foreign, [(CronSchedule(cron="0 5 * * *"), True)])
    elsewhere = client.create_deployment(flow, "another-pool", tags=["stepwise"])
    client.create_deployment_schedules(elsewhere, [(CronSchedule(cron="0 5 * * *"), True)])
    told = put(client, tmp_path, TOY.replace("toy", "other"))
    assert told[-1] == 'schedule of toy, which the file no longer has: removed: removed "0 3 * * 1" Europe/Berlin'
    counts = {found.name: len(found.schedules) for found in client.read_deployments()}
    assert counts == {"toy": 0, "other": 1, "somebody's": 1, "another-pool": 1}
    told = put(client, tmp_path, TOY.replace("toy", "other").replace('cron = "0 3 * * 1"', ""))
    assert told[2] == 'schedule of other: removed: removed "0 3 * * 1" Europe/Berlin'


def test_a_name_that_is_somebody_elses_is_refused_before_anything_is_written(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    client.create_deployment(client.create_flow_from_name(FLOW), "toy")
    with pytest.raises(ConfigurationError, match="'retrain/toy' that stepwise did not put there") as caught:
        put(client, tmp_path, TOY.replace("toy", "first") + TOY)
    assert "give it the tag 'stepwise' to hand it over" in str(caught.value)
    assert [found.name for found in client.read_deployments()] == ["toy"]


def test_a_deployment_of_another_installation_is_left_alone(client: SyncPrefectClient, tmp_path: Path) -> None:
    put(client, tmp_path, TOY)
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigurationError, match="'retrain/toy' of another installation: pool stepwise, art") as caught:
        put(client, tmp_path / "b", "work_pool = 'b'\n" + TOY)
    assert f"artifacts {tmp_path}/artifacts. Expected: a name of its own" in str(caught.value)
    assert [found.work_pool_name for found in client.read_deployments()] == ["stepwise"]


def test_an_installation_whose_pool_has_another_name_takes_its_own_along(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    parts = "retention = { keep_runs = 2 }\nautomations = true\n"
    put(client, tmp_path, parts + TOY)
    old = {found.name for found in client.read_automations()}
    told = put(client, tmp_path, "work_pool = 'other'\n" + parts + TOY)
    assert 'deployment toy: changed: work_pool_name "stepwise" → "other"' in told
    [line] = [line for line in told if line.startswith("schedule of upkeep-stepwise, which the file no longer has")]
    assert ": removed: " in line
    counts = {found.name: len(found.schedules) for found in client.read_deployments()}
    assert counts == {"toy": 1, "upkeep-stepwise": 0, "upkeep-other": 1}
    assert not old & {found.name for found in client.read_automations()}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("glyphs", "glyfs"), "there is no dataset 'glyfs'. Expected: one of"),
        (("epochs = 1", "epochs = 1\nconfiguration.reshape.timesteps = 15"), "does not divide the 784 pixels"),
        (("epochs = 1", "epochs = 1\ndata = 'nowhere'"), "this is not a folder"),
    ],
)
def test_what_could_not_run_is_not_deployed(
    changed: tuple[str, str], said: str, client: SyncPrefectClient, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        put(client, tmp_path, TOY.replace(*changed))
    assert said in str(caught.value)
    assert "deployment 'toy': " in str(caught.value)
    assert client.read_deployments() == []


def test_the_command_tells_and_a_server_that_is_not_there_is_told_at_once(
    server: tuple[str, Path], client: SyncPrefectClient, tmp_path: Path
) -> None:
    address, home = server
    (tmp_path / "stepwise.toml").write_text(TOY)
    environment = {**environment_of(home), "PREFECT_API_URL": f"{address}/api", "PYTHONPATH": str(ROOT)}
    command = [*STEPWISE, "deploy"]
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == f"server: {address}/api/"
    assert "deployment toy: created" in answer.stdout
    environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 4
    assert "http://127.0.0.1:9/api: the Prefect server does not answer" in answer.stderr
    assert "Start it (stepwise up), or set PREFECT_API_URL" in answer.stderr


@pytest.mark.parametrize("command", ["deploy", "watch"])
def test_no_server_of_the_command_alone_is_deployed_to_or_watched(command: str, tmp_path: Path) -> None:
    (tmp_path / "stepwise.toml").write_text(TOY)
    environment = {**environment_of(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    answer = subprocess.run(
        [*STEPWISE, command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == 2
    assert "PREFECT_API_URL is not set. Expected: the address of the server that shall be used" in answer.stderr
    assert "http://127.0.0.1:4200/api beside `stepwise up`" in answer.stderr


def test_prefects_own_command_deploys_the_same_flow(
    server: tuple[str, Path], client: SyncPrefectClient, tmp_path: Path
) -> None:
    address, home = server
    put(client, tmp_path, "")  # the pool
    environment = {**environment_of(home), "PREFECT_API_URL": f"{address}/api"}
    command = [STEPWISE[0], "-m", "prefect", "--no-prompt", "deploy", "--all"]
    answer = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [found] = client.read_deployments()
    assert (found.name, found.work_pool_name) == ("mnist-by-prefect-deploy", "stepwise")
    assert found.global_concurrency_limit.limit == 1
    assert "stepwise" not in found.tags
