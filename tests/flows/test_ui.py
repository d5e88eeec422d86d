"""What a person sees of a run in the Prefect UI, through its REST API and in a real browser."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from flow_support import environment_of, run_command
from install_support import LOCAL, asked, bad_records, kept_artifacts

from flows.attempts import Attempt
from flows.dossier import Journal, dossier
from schemas.errors import BadRecord, DataError
from tasks.download.glyphs import labels
from tasks.wording import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.flows.conftest import SmokeRun

TASKS = [
    *("download train images", "download train labels", "download test images", "download test labels"),
    *("parse train", "parse test", "validate", "reshape train", "reshape test", "drift", "train", "evaluate"),
    *("compare", "publish", "promote"),
]


@contextlib.contextmanager
def ui_of(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`stepwise ui` on a free port with the runs of a home: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "flows.command", "ui", "--port", str(port)]
    with (home / "ui.log").open("w") as log:
        process = subprocess.Popen(command, env=environment_of(home), stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_healthy(address, process)
        yield address, psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/api/health", trust_env=False).json() is True:
                return
        time.sleep(0.2)
    raise AssertionError(f"the server at {address} did not come up")


@pytest.fixture(scope="module")
def smoke_ui(smoke_run: SmokeRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """The pages over a copy of the run's records, for a server writes into them."""
    home = tmp_path_factory.mktemp("ui home")
    shutil.copytree(smoke_run.home / ".prefect", home / ".prefect")
    with ui_of(home) as served:
        yield served


@pytest.mark.slow
def test_a_run_is_shown_with_every_task_in_its_final_state(smoke_ui: tuple[str, psutil.Process]) -> None:
    address, _ = smoke_ui
    [run] = asked(address, "flow_runs")
    assert re.fullmatch(r"glyphs smoke \d{4}-\d\d-\d\d \w{4}", run["name"])
    assert (run["state_name"], set(run["tags"])) == ("Completed", {"glyphs", "smoke"})
    tasks = asked(address, "task_runs")
    assert {task["flow_run_id"] for task in tasks} == {run["id"]}
    # A task that states no name of its own has a short random end on it.
    assert sorted(re.sub(r"-[0-9a-f]{3}$", "", task["name"]) for task in tasks) == sorted(TASKS)
    assert {task["state_name"] for task in tasks} == {"Completed"}


@pytest.mark.slow
def test_the_logs_tell_of_steps_and_epochs(smoke_ui: tuple[str, psutil.Process]) -> None:
    address, _ = smoke_ui
    told = asked(address, "logs", sort="TIMESTAMP_ASC")
    said = [line["message"] for line in told if line["name"] == "stepwise"]
    for step in TASKS[:-1]:
        assert any(re.fullmatch(rf"{step}: done in [\d.]+ s", message) for message in said), step
    assert sum(message.startswith("epoch ") for message in said) == 4
    assert any(message.startswith("published ") for message in said)
    assert said[0] == "plan: 15 to run, 0 that follow from them, 0 to reuse"
    beside = [line["message"] for line in told if line["name"] != "stepwise"]
    assert [re.sub("'.*?'", "…", message) for message in beside] == [
        "Beginning flow run … for flow …",
        "Finished in state Completed()",
    ]


@pytest.mark.slow
def test_the_artifacts_say_what_they_are(smoke_run: SmokeRun, smoke_ui: tuple[str, psutil.Process]) -> None:
    address, _ = smoke_ui
    artifacts = kept_artifacts(address)
    assert {key: artifact["type"] for key, artifact in artifacts.items()} == dict.fromkeys(
        ("summary", "ledger", "evaluation", "learning-curves", "plan", "drift", "verdict"), "markdown"
    )
    assert artifacts["plan"]["description"] == "15 to run, 0 that follow from them, 0 to reuse"
    assert artifacts["plan"]["data"].count("| run | never made before | ran |") == 15
    assert re.match(r"\d\d\.\d\d\u202f% right on 2,000 test images", artifacts["summary"]["description"])
    assert artifacts["ledger"]["description"].startswith("No sample lost, duplicated or moved")
    assert "| table rows | 12,000 | 2,000 | validate |" in artifacts["ledger"]["data"]
    assert "- fitted + validation = sequences" in artifacts["ledger"]["data"]
    assert (smoke_run.folder / "report.html").as_uri() in artifacts["summary"]["data"]
    for artifact in artifacts.values():
        assert artifact["flow_run_id"]


@pytest.mark.slow
def test_pages_and_names_of_others_are_not_answered(smoke_ui: tuple[str, psutil.Process]) -> None:
    """A page in a browser of this machine could else have the server run programs."""
    address, _ = smoke_ui
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = LOCAL.options(f"{address}/api/deployments/filter", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers
    assert LOCAL.get(f"{address}/api/health", headers={"Host": "evil.example"}).status_code == 400
    assert LOCAL.get(f"{address}/api/health").headers["Content-Security-Policy"].endswith("img-src 'self' data: blob:")


@pytest.mark.slow
def test_the_server_listens_on_this_machine_only(smoke_ui: tuple[str, psutil.Process]) -> None:
    address, server = smoke_ui
    listening = [
        connection.laddr
        for process in (server, *server.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {place.ip for place in listening} == {"127.0.0.1"}
    assert int(address.rpartition(":")[2]) in {place.port for place in listening}
    settings = httpx.get(f"{address}/ui-settings", trust_env=False).json()
    assert settings["api_url"] == f"{address}/api"


@pytest.mark.slow
def test_pictures_are_drawn_and_nothing_leaves_this_machine(
    smoke_ui: tuple[str, psutil.Process], browser: Browser
) -> None:
    address, _ = smoke_ui
    artifacts = kept_artifacts(address)
    with browser.new_context() as context:
        page = context.new_page()
        asked_for: list[str] = []
        page.on("request", lambda request: asked_for.append(request.url))
        for key in ("evaluation", "learning-curves"):
            assert _picture_width(page, f"{address}/v2/artifacts/artifact/{artifacts[key]['id']}") > 500
        [run] = asked(address, "flow_runs")
        page.goto(f"{address}/v2/runs/flow-run/{run['id']}", wait_until="networkidle")
        page.get_by_text("Beginning flow run").first.wait_for()
        page.wait_for_timeout(2000)
    assert any(url.startswith(f"{address}/api/logs") for url in asked_for)
    assert [url for url in asked_for if not url.startswith((address, "data:", "blob:"))] == []


def _picture_width(page: Page, address: str) -> int:
    page.goto(address)
    picture = page.locator("img[src^='data:image/png']").first
    picture.wait_for()
    width: int = picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
    return width


# A reshape that gives two images other labels, as a fault of its own would.
MISPLACES = """
import numpy as np
import tasks.reshape
from flows.command import main

write = tasks.reshape.write_arrays

def faulty(table, folder, *arguments):
    digest = write(table, folder, *arguments)
    targets = np.load(folder / "targets.npy")
    if len(targets) == 12_000:  # train
        targets[[7, 130]] = (targets[[7, 130]] + 1) % 10
    np.save(folder / "targets.npy", targets)
    return digest

tasks.reshape.write_arrays = faulty
main()
"""


@pytest.fixture(scope="module")
def failed_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The pages over two runs that failed, and what the first answered a program: the advice, then a faulty reshape."""
    home = tmp_path_factory.mktemp("failed")
    options = ("--preset", "question-3750", "--dataset", "glyphs", "--set", "training.epochs=2", "--json")
    answer = run_command(home, "run", *options, "--artifacts", home / "artifacts")
    assert answer.returncode == 3, answer.stdout + answer.stderr
    command = [sys.executable, "-c", MISPLACES, "run", "--preset", "smoke", "--artifacts", str(home / "artifacts")]
    environment = environment_of(home)
    faulty = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert faulty.returncode == 3, faulty.stdout + faulty.stderr
    with ui_of(home) as (address, _):
        yield address, answer.stdout


def run_of(address: str, preset: str) -> tuple[dict[str, Any], dict[str, object]]:
    """The flow run of a preset, and the query for what belongs to it."""
    [run] = asked(address, "flow_runs", flow_runs={"tags": {"all_": [preset]}})
    return run, {"flow_runs": {"id": {"any_": [run["id"]]}}}


@pytest.mark.slow
def test_a_failed_run_leaves_what_was_found_and_the_command_to_run_again(failed_ui: tuple[str, str]) -> None:
    address, answer = failed_ui
    assert json.loads(answer)["error"]["stage"] == "reshape"
    run, its = run_of(address, "question-3750")
    assert run["state_name"] == "Failed"
    states = {task["name"]: task["state_name"] for task in asked(address, "task_runs", **its)}
    assert len(states) == 9
    assert {name for name, state in states.items() if state == "Failed"} == {"reshape train", "reshape test"}
    assert set(states.values()) == {"Completed", "Failed"}
    [failure] = kept_artifacts(address, **its).values()
    logs = asked(address, "logs", logs={"flow_run_id": {"any_": [run["id"]]}})
    [told] = [line["message"] for line in logs if line["level"] > logging.INFO]
    assert told.startswith("reshape train: reshape, train split: 750 (sequences) against 12,000 (targets)")
    assert "Traceback" not in told
    assert (failure["key"], failure["flow_run_id"]) == ("dossier", run["id"])
    assert failure["description"] == "reshape, train split: 750 (sequences) against 12,000 (targets), a ratio of 16"
    assert as_text("750 (sequences) against 12,000 (targets)") in failure["data"]
    assert "Probably 16 consecutive images were grouped into one sequence" in failure["data"]
    assert re.search(r"stepwise rerun \d{8}-\d{6}-glyphs-question-3750-\w{4} \\\n  --artifacts /", failure["data"])
    assert "| train: table, 12,000 rows |" in failure["data"]
    assert "First bad records" not in failure["data"]
    assert "?parameters=" not in failure["data"], "no form without a deployment"
    assert "parse train: done in" in failure["data"]


@pytest.mark.slow
def test_rows_that_the_witness_finds_stand_in_the_dossier_with_their_images(
    failed_ui: tuple[str, str], browser: Browser
) -> None:
    address, _ = failed_ui
    classes = labels("train")
    _, its = run_of(address, "smoke")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/v2/artifacts/artifact/{kept_artifacts(address, **its)['dossier']['id']}")
        page.get_by_role("heading", name="First bad records").wait_for()
        page.get_by_text("row 7 is the first of 2 wrong ones").first.wait_for()
        found, widths = bad_records(page, 2)
    assert found == [
        ["targets of the train split", str(row), f"label {(classes[row] + 1) % 10}", f"expected label {classes[row]}"]
        for row in (7, 130)
    ]
    assert widths == [56, 56]


def test_texts_from_data_cannot_be_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> [a](javascript:b) `c` ~~~\n# heading | cell & &lt; \\<b>"
    attempt = Attempt(
        run="a-run",
        flow_run="",
        created=datetime.datetime.now(datetime.UTC),
        dataset="~~~",
        preset="rows",
        parameters={"artifacts": "~~~"},
    )
    journal = Journal(begun={"<b>": None})
    journal.lines.append(hostile)
    record = BadRecord(hostile, 7, hostile, hostile)
    card = dossier(DataError(hostile, hostile, "", "~~~\n<b>", [record]), attempt, journal, {})
    texts, _, rest = card.partition("### Run again")
    texts, _, table = texts.partition("### First bad records\n\n")
    assert len(re.findall(r"(?<!\\)\|", table)) == 15, "five bars a line, in three lines"
    plain = re.sub(r"\\[!-/:-@\[-`{-~]", "", texts.replace("\\\n", "\n"))
    assert set(re.findall(r"[!-/:-@\[-`{-~]", plain)) == {"#", "*", "`", "-", ","}  # the card's own
    assert rest.count("~~~") == 4, "two fences of the card's own"
