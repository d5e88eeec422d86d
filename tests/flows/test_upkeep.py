"""The upkeep on a real server: deployed with the rest, and what it does, says and leaves alone."""

from __future__ import annotations

import datetime
import importlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
from install_support import TOY
from manifests import manifest_in
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Pending, Running

import flows.installation.upkeep
from flows.attempts import Attempt, Attempts, RunGoesOnError
from flows.clean import Cleaning, Keeping, cleaned
from flows.installation.deploy import UPKEEP_ENTRYPOINT, deploy
from flows.installation.owned import owned_deployments
from flows.installation.upkeep import card, upkeep
from flows.installation.watchdog import Watchdog
from schemas.installation import load_installation
from tasks.store import Store

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

NOW = datetime.datetime.now(datetime.UTC)
KEEP = "retention = { keep_runs = 2, cron = '15 1 * * *', timezone = 'Europe/Berlin' }\n"


def put(client: SyncPrefectClient, folder: Path, text: str) -> list[str]:
    path = folder / "stepwise.toml"
    path.write_text(text)
    return [str(item) for item in deploy(client, load_installation(path))]


def test_the_card_names_what_went() -> None:
    text = card(Cleaning(tuple(f"run-{number}" for number in range(22)), 3, 4, 5, 12_000_000))
    assert text.startswith("**12.0 MB freed.**\n\n| What | How many |\n| --- | ---: |\n| published runs | 22 |\n")
    assert text.endswith("- `run-19`\n- and 2 more")


def test_it_waits_for_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.installation.upkeep, "LOOK_SECONDS", 0.05)
    began = threading.Event()

    def runs() -> None:
        attempt = Attempt(run="a", flow_run="x", created=NOW, dataset="d", preset="p", parameters={})
        with Attempts(tmp_path).held(attempt):
            began.set()
            time.sleep(0.5)

    run = threading.Thread(target=runs)
    run.start()
    began.wait()
    with pytest.raises(RunGoesOnError, match=r"a run is going on \(a\)"):
        flows.installation.upkeep._when_nothing_runs(tmp_path, Keeping(1, None), 0.0)
    assert flows.installation.upkeep._when_nothing_runs(tmp_path, Keeping(1, None), 60.0).runs == ()
    run.join()


def test_what_a_killed_removal_left_goes_with_the_next(tmp_path: Path) -> None:
    half = tmp_path / "runs" / ".a-run.removed"
    half.mkdir(parents=True)
    (half / "file").write_bytes(bytes(10))
    cleaning = cleaned(tmp_path, Keeping(1, None), really=True)
    assert (cleaning.runs, cleaning.outputs, cleaning.bytes) == ((), 1, 10)
    assert not half.exists()


@pytest.mark.slow
def test_one_whose_process_died_frees_its_slot_and_is_tried_again(client: SyncPrefectClient, tmp_path: Path) -> None:
    put(client, tmp_path, KEEP)
    [deployment] = owned_deployments(client, "stepwise")
    run = client.create_flow_run_from_deployment(deployment.id)
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    deeds = Watchdog(client, load_installation(tmp_path / "stepwise.toml"), grace=0).look_once()
    assert [(deed.run, deed.what) for deed in deeds] == [
        (run.name, "set to Crashed"), (run.name, "set to AwaitingRetry"),
    ]  # fmt: skip


@pytest.mark.slow
def test_it_is_deployed_where_something_says_what_is_kept(client: SyncPrefectClient, tmp_path: Path) -> None:
    told = put(client, tmp_path, KEEP + TOY)
    assert told[3:] == [
        "deployment upkeep-stepwise: created",
        'schedule of upkeep-stepwise: created: "15 1 * * *" Europe/Berlin',
    ]
    assert all(line.endswith(": unchanged") for line in put(client, tmp_path, KEEP + TOY))
    found = next(each for each in owned_deployments(client, "stepwise") if each.name == "upkeep-stepwise")
    module, _, name = UPKEEP_ENTRYPOINT.rpartition(".")
    assert getattr(importlib.import_module(module), name) is upkeep
    assert (found.entrypoint, found.tags, found.work_pool_name) == (
        UPKEEP_ENTRYPOINT, ["stepwise", "upkeep"], "stepwise",
    )  # fmt: skip
    assert found.parameters == {"artifacts": str(tmp_path / "artifacts"), "keep_runs": 2, "keep_days": None}
    assert found.global_concurrency_limit.limit == 1

    told = put(client, tmp_path, KEEP.replace("runs = 2", "runs = 3").replace("15 1", "15 2") + TOY)
    assert told[3:] == [
        "deployment upkeep-stepwise: changed: parameters.keep_runs 2 → 3",
        'schedule of upkeep-stepwise: changed: schedule.cron "15 1 * * *" → "15 2 * * *"',
    ]
    told = put(client, tmp_path, TOY)
    assert told[3:] == [
        'schedule of upkeep-stepwise, which the file no longer has: removed: removed "15 2 * * *" Europe/Berlin'
    ]
    assert {each.name: len(each.schedules) for each in client.read_deployments()} == {"toy": 1, "upkeep-stepwise": 0}


def results() -> Path:
    """Where Prefect keeps what flows returned."""
    return PREFECT_LOCAL_STORAGE_PATH.value()


def published(client: SyncPrefectClient, artifacts: Path, name: str, days: int) -> uuid.UUID:
    """A run of some days ago: its folder, its attempt, and what Prefect has of it; returns its flow run."""
    created = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    folder = artifacts / "runs" / name
    folder.mkdir(parents=True)
    manifest_in(folder, created=created)
    kept = ResultStore(result_storage=LocalFileSystem(basepath=results()), serializer=JSONSerializer())
    result = kept.create_result_record(obj=name, key=f"result-of-{name}")
    kept.persist_result_record(result)
    run = client.create_flow_run(upkeep, parameters={"artifacts": str(artifacts)}, state=Completed())
    client.set_flow_run_state(run.id, Completed(data=result), force=True)
    picture = ArtifactCreate(key=f"of-{name}", type="markdown", data="a picture", flow_run_id=run.id)
    client.create_artifact(picture)
    attempt = Attempt(
        run=name, flow_run=str(run.id), created=created, dataset="d", preset="p", parameters={}, outcome="published",
        published=name,
    )  # fmt: skip
    Store(artifacts)
    Attempts(artifacts).keep(attempt)
    return run.id


@pytest.fixture
def quiet() -> Iterator[None]:
    """A flow that is called here sends no logs, which would look for the server after the tests."""
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield
    EventsWorker.instance().drain()


def shown(client: SyncPrefectClient) -> list[tuple[str, str]]:
    """What the upkeep's artifacts say, the newest first: in short and at length."""
    of = ArtifactFilter(key=ArtifactFilterKey(any_=["upkeep"]))
    found = sorted(client.read_artifacts(artifact_filter=of), key=lambda each: each.created, reverse=True)
    return [(each.description or "", str(each.data)) for each in found]


@pytest.mark.slow
def test_old_runs_go_with_their_rows_and_artifacts_and_nothing_while_a_run_goes_on(
    client: SyncPrefectClient, tmp_path: Path, quiet: None
) -> None:
    runs = {name: published(client, tmp_path, name, days) for name, days in (("new", 2), ("old", 3), ("older", 4))}
    going = Attempt(run="going", flow_run="x", created=NOW, dataset="d", preset="p", parameters={})
    with Attempts(tmp_path).held(going):
        state = upkeep(tmp_path, keep_runs=1, patience_minutes=0, return_state=True)
    assert (state.name, state.type.value) == ("Skipped", "COMPLETED")
    said = "Nothing was removed: a run is going on (going), still after 0 min. The next upkeep tries again."
    assert state.message == said
    assert shown(client)[0] == (said, said)
    assert len(list((tmp_path / "runs").iterdir())) == len(list(results().glob("result-of-*"))) == 3

    state = upkeep(tmp_path, keep_runs=1, return_state=True)
    assert state.message == "Published runs removed: 2; 0.0 MB freed."
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["new"]
    assert [path.name for path in results().glob("result-of-*")] == ["result-of-new"]
    assert {attempt.run for attempt in Attempts(tmp_path).all()} == {"new", "going"}
    assert {run.id for run in client.read_flow_runs()} & set(runs.values()) == {runs["new"]}
    of = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=list(runs.values())))
    assert {each.key for each in client.read_artifacts(artifact_filter=of)} == {"of-new", None}, "None: its result"
    short, long = shown(client)[0]
    assert short == "Published runs removed: 2; 0.0 MB freed."
    assert long.startswith("**0.0 MB freed.**")
    assert "| published runs | 2 |" in long
    assert long.endswith("- `old`\n- `older`")

    state = upkeep(tmp_path, return_state=True)
    assert state.is_failed()
    assert "nothing says what is kept" in (state.message or "")


@pytest.mark.slow
def test_a_run_that_was_just_had_tried_again_is_not_forgotten(client: SyncPrefectClient, tmp_path: Path) -> None:
    put(client, tmp_path, TOY)
    [deployment] = owned_deployments(client, "stepwise")
    again, ended = (client.create_flow_run_from_deployment(deployment.id).id for _ in range(2))
    client.set_flow_run_state(ended, Completed(), force=True)
    attempts = Attempts(tmp_path)
    values = {"dataset": "d", "preset": "p", "parameters": {}}
    for number, flow_run in enumerate((again, ended)):
        created = NOW - datetime.timedelta(days=3)
        attempts.keep(Attempt(run=f"run-{number}", flow_run=str(flow_run), created=created, outcome="failed", **values))
    attempts.keep(Attempt(run="well", flow_run=str(again), created=NOW, outcome="skipped", **values))
    cleaned(tmp_path, Keeping(1, None), really=True)
    assert [attempt.run for attempt in attempts.all()] == ["well", "run-0"]
    assert client.read_flow_run(again).id == again
    with pytest.raises(ObjectNotFound):
        client.read_flow_run(ended)
