"""How a run's end is put on record: first the record, then what is shown; and what is said where there is no record."""

from __future__ import annotations

import contextlib
import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import flows.execution
import flows.retrain
from flows.attempts import Attempt, Attempts
from flows.dossier import Journal
from flows.execution import Execution
from schemas.champion import Entry
from schemas.configuration import RunConfiguration
from schemas.errors import StorageError
from schemas.handles import PublishedRun
from schemas.policy import Policy
from tasks.promote import Promoted
from tasks.stage import Finished
from tasks.train import Terms

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def execution(tmp_path: Path) -> Execution:
    """A run that goes on, as far as its end is concerned."""
    parameters = {"artifacts": str(tmp_path), "configuration": RunConfiguration().model_dump(mode="json")}
    attempt = Attempt(
        run="this", flow_run="a-flow-run", created=NOW, dataset="mnist", preset="rows", parameters=parameters
    )
    attempts = Attempts(tmp_path)
    attempts.keep(attempt)
    return Execution(attempt, Journal(), attempts, lambda _: None)


def promoted(run: str) -> Promoted:
    published = PublishedRun(
        run=run, place=f"runs/{run}", report="report.html", manifest="0" * 64, accuracy=0.9, interval=(0.8, 0.95)
    )
    values: dict[str, Any] = {"decision": "first champion", "champion": run, "was": None, "reasons": ("the first",)}
    return Promoted(published=published, entry=Entry(number=1, at=NOW, dataset="mnist", run=run, **values))


@pytest.mark.parametrize(("run", "outcome"), [("this", "published"), ("another", "unchanged")])
def test_a_published_run_is_on_record_before_anything_is_shown(
    execution: Execution, monkeypatch: pytest.MonkeyPatch, run: str, outcome: str
) -> None:
    """A server that is gone by then would else make a failure of it, which `clean` and `doctor` go by."""
    seen: list[str] = []

    def no_server(**_: object) -> None:
        [attempt] = Attempts(execution.artifacts).all()
        seen.append(f"{attempt.outcome} {attempt.published}")
        raise ConnectionError

    monkeypatch.setattr(flows.execution, "create_markdown_artifact", no_server)
    with pytest.raises(ConnectionError):
        execution.published(promoted(run), [])
    assert seen == [f"{outcome} {run}"]


@pytest.mark.parametrize(("run", "reused", "shown"), [("this", True, 1), ("this", False, 0), ("another", True, 0)])
def test_what_an_earlier_try_published_is_shown_by_the_one_that_ends(
    execution: Execution, monkeypatch: pytest.MonkeyPatch, run: str, reused: bool, shown: int
) -> None:
    """The try that published it shows it; one that was killed in between did not."""
    calls: list[str] = []
    for name in ("create_markdown_artifact", "tell", "verdict_card", "verdict_of", "show_standing"):
        monkeypatch.setattr(flows.execution, name, lambda *_, **__: "")
    monkeypatch.setattr(flows.execution, "show_run", lambda folder, _: calls.append(folder.name))
    execution._journal.finished.append(Finished("publish", 1.0, reused=reused))
    execution.published(promoted(run), [])
    assert calls == [run] * shown


def test_where_the_store_refuses_a_run_its_log_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can leave no record and no dossier."""
    said: list[str] = []
    logger = SimpleNamespace(error=lambda form, *values: said.append(form % values))
    monkeypatch.setattr(flows.retrain, "get_run_logger", lambda: logger)
    (tmp_path / "file").touch()
    attempt = Attempt(run="this", flow_run="x", created=NOW, dataset="d", preset="p", parameters={})
    with pytest.raises(StorageError), flows.retrain._held(tmp_path / "file", attempt):
        pytest.fail("it is no folder")
    [line] = said
    assert line.startswith("before the first step: ")
    assert "cannot write: Not a directory" in line


def test_the_sources_are_read_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edited in the hours of a training, they are no longer what made the outputs."""
    deeds: list[str] = []
    monkeypatch.setattr(flows.retrain, "code_digests", deeds.append)
    monkeypatch.setattr(flows.retrain, "terms_of", lambda *_: deeds.append("terms") or Terms())
    monkeypatch.setattr(flows.retrain, "foreseen", lambda *_: deeds.append("plan") or [])
    fake = SimpleNamespace(artifacts=tmp_path, demands=lambda _: None, planned=lambda _: deeds.append("planned"))
    with contextlib.suppress(StopIteration):
        flows.retrain._gone_through(fake, None, RunConfiguration(), Policy(), None, plan_only=True)
    first = deeds.index("terms")
    assert {"tasks.parse", "tasks.train", "tasks.evaluate", "tasks.publish"} <= set(deeds[:first])
    assert deeds[first:] == ["terms", "plan", "planned"]
