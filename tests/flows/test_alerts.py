"""Alerts on a real server: what is told of a run that ended badly, to whom, and that it is told once."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING

import pytest
from install_support import Receiver
from prefect.states import Crashed, Failed
from watchdog_support import Process, attempt_of, began, begun, look

from flows.attempts import Attempts, Problem
from flows.installation import alerts
from flows.installation.alerts import Alarm
from flows.installation.watchdog import Watchdog
from schemas.installation import Alerts, Installation
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = pytest.mark.slow


def failed(client: SyncPrefectClient, installation: Installation) -> FlowRun:
    run = began(client, installation)
    Store(installation.artifacts)
    problem = Problem(step="reshape train", found="750 against 12,000", expected="equal counts", remedy="Group both")
    Attempts(installation.artifacts).keep(attempt_of(run, outcome="failed", problem=problem))
    client.set_flow_run_state(run.id, Failed(message="750 against 12,000"))
    return run


def test_a_failure_is_told_once_to_a_webhook_that_has_to_be_asked_twice(
    client: SyncPrefectClient, installation: Installation, server: tuple[str, Path]
) -> None:
    old = failed(client, installation)  # before anybody was to be told
    time.sleep(0.1)
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address)})
        assert look(client, telling) == []
        client.delete_flow_run(old.id)
        run = failed(client, telling)
        hook.answers = [500]
        told = look(client, telling)
        assert told[0].startswith("noted for an alert: Failed: 750 against 12,000")
        assert told[1].startswith("alert not taken: answered 500; again at ")
        assert look(client, telling) == []  # not yet
        [record] = (installation.artifacts / "store" / "alerts").glob(f"{run.id}-*.json")
        due = alerts.Record.model_validate_json(record.read_bytes())
        pause = due.next_try - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(seconds=2) < pause <= alerts.FIRST_PAUSE
        record.write_text(due.model_copy(update={"next_try": due.next_try - pause}).model_dump_json())
        assert look(client, telling) == ["alert told: 750 against 12,000"]
        assert look(client, telling) == []
        [message] = hook.taken
        assert hook.refused == [message]
    assert {name: message[name] for name in ("state", "step", "found", "expected", "remedy", "dataset", "preset")} == {
        "state": "Failed", "step": "reshape train", "found": "750 against 12,000", "expected": "equal counts",
        "remedy": "Group both", "dataset": "glyphs", "preset": "smoke",
    }  # fmt: skip
    assert message["run"] == attempt_of(run).run
    assert message["link"] == f"{server[0]}/v2/runs/flow-run/{run.id}"
    assert "Failed at reshape train. 750 against 12,000" in message["text"]
    records = list((installation.artifacts / "store" / "alerts").glob(f"{run.id}-*.json"))
    assert len(records) == 1
    assert hook.address not in records[0].read_text()
    assert json.loads(records[0].read_text())["tries"] == 2


def test_a_crash_is_told_through_a_notification_block(client: SyncPrefectClient, installation: Installation) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    with Receiver() as hook:
        block = CustomWebhookNotificationBlock(
            name="team", url=hook.address, json_data={"title": "{{subject}}", "words": "{{body}}"}
        )
        block.save("team", overwrite=True)
        telling = installation.model_copy(update={"alerts": Alerts(block="custom-webhook/team"), "retries": 0})
        assert look(client, telling) == []
        run = began(client, telling)
        process = Process(telling, run)
        process.kill()
        told = look(client, telling)
        assert [line.partition(":")[0] for line in told] == ["set to Crashed", "noted for an alert", "alert told"]
        assert look(client, telling) == []
    [message] = hook.taken
    assert message["title"] == f"stepwise: {attempt_of(run).run} Crashed"
    assert f"stepwise rerun {attempt_of(run).run}" in message["words"]


def test_a_crash_that_is_tried_again_asks_nobody_for_it(client: SyncPrefectClient, installation: Installation) -> None:
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address), "retries": 1})
        assert look(client, telling) == []
        run = began(client, telling)
        for _ in range(2):
            process = Process(telling, run)
            process.kill()
            look(client, telling)
            begun(client, run.id)
    first, last = (message["remedy"] for message in hook.taken)
    assert first == "Nothing, so far: it goes on by itself (try 2 of 2)"
    assert last.startswith("Look at its log, then run it again: ")


def test_an_alert_tells_of_this_try_and_no_earlier_one(client: SyncPrefectClient, installation: Installation) -> None:
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address), "retries": 0})
        assert look(client, telling) == []
        run = failed(client, telling)
        look(client, telling)
        begun(client, run.id)
        client.set_flow_run_state(run.id, Crashed(message="no memory"), force=True)
        look(client, telling)
    assert [(message["state"], message["found"]) for message in hook.taken] == [
        ("Failed", "750 against 12,000"), ("Crashed", "no memory"),
    ]  # fmt: skip


def test_what_cannot_be_written_down_is_told_once_all_the_same(
    client: SyncPrefectClient, installation: Installation
) -> None:
    """Of a full disk, say, which is what stopped the run."""
    Store(installation.artifacts)
    (installation.artifacts / "store" / "alerts").touch()  # no folder can be made here
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address), "retries": 0})
        watchdog = Watchdog(client, telling)
        run = failed(client, telling)
        hook.answers = [500]
        assert [deed.what for deed in watchdog.look_once()] == ["noted for an alert", "alert not taken"]
        [(path, record)] = watchdog.unkept.items()
        watchdog.unkept[path] = record.model_copy(update={"next_try": record.noted})
        (installation.artifacts / "store" / "alerts").unlink()
        assert [deed.what for deed in watchdog.look_once()] == ["alert told"]
        assert watchdog.look_once() == []
    assert watchdog.unkept == {}, "there is room again"
    assert path.is_file()
    assert [message["flow_run"] for message in hook.taken] == [str(run.id)]


def test_alerts_that_began_by_a_wrong_clock_begin_again(client: SyncPrefectClient, installation: Installation) -> None:
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address), "retries": 0})
        Alarm(client, telling, {}).begin()
        since = installation.artifacts / "store" / "alerts" / "since"
        since.write_text((datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)).isoformat())
        assert look(client, telling) == []
        failed(client, telling)
        look(client, telling)
    assert len(hook.taken) == 1


def test_two_watchdogs_tell_once(client: SyncPrefectClient, installation: Installation) -> None:
    with Receiver() as hook:
        telling = installation.model_copy(update={"alerts": Alerts(webhook=hook.address), "retries": 0})
        one, other = (Alarm(client, telling, {}) for _ in range(2))
        one.begin()
        run = client.read_flow_run(failed(client, telling).id)
        assert (one.note(run, lambda _: None), other.note(run, lambda _: None)) == (True, False)
        with Store(telling.artifacts).lock(alerts.LOCK):
            assert list(other.deliver()) == [], "while somebody else tells"
        assert [done for _, done, _ in other.deliver()] == ["alert told"]
        assert list(one.deliver()) == []
    assert len(hook.taken) == 1


def test_a_block_that_is_not_there_is_asked_for_again_later(
    client: SyncPrefectClient, installation: Installation
) -> None:
    telling = installation.model_copy(update={"alerts": Alerts(block="slack-webhook/nobody")})
    look(client, telling)
    failed(client, telling)
    assert look(client, telling)[-1].startswith("alert not taken: ValueError; again at ")
