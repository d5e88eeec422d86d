"""The names of runs: two runs of one day are told apart, and a list never cuts a name that is there to be copied."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from manifests import manifest_in

from flows import retrain
from flows.attempts import Attempt, Attempts
from flows.installation import upkeep
from flows.runs import list_attempts, list_runs
from schemas.configuration import RunConfiguration

# Of two runs that a server scheduled in the same minute: Prefect's numbers begin with the time.
TWO = ("019a5b7c-2f40-7d11-8a3c-5be09d41f7a2", "019a5b7c-3e12-7b02-9c55-01d8c2e6904b")


@pytest.mark.parametrize(
    ("data", "called"), [(None, "glyphs"), (Path("my digits"), "my-digits"), (Path("old/mnist"), "local-mnist")]
)
def test_two_runs_of_one_day_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch, data: Path | None, called: str
) -> None:
    configuration = RunConfiguration(dataset="glyphs", preset="smoke")
    parameters = {"configuration": configuration.model_dump(mode="json"), "data": data}
    attempts, names, upkeeps = [], [], []
    for flow_run in TWO:
        monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", flow_run)
        monkeypatch.setattr(retrain.flow_run, "parameters", parameters, raising=False)
        attempts.append(retrain._attempt(configuration, data, None, {}))
        names.append(retrain._flow_run_name())
        upkeeps.append(upkeep._flow_run_name())
    assert [attempt.flow_run for attempt in attempts] == [*TWO]
    assert [attempt.dataset for attempt in attempts] == [called, called]
    for ends in ([attempt.run for attempt in attempts], names, upkeeps):
        assert [name[-5:].lstrip("- ") for name in ends] == ["f7a2", "904b"]
    assert all(f"-{called}-smoke-" in attempt.run for attempt in attempts)
    assert all(name.startswith(f"{called} smoke 20") for name in names)


@pytest.mark.parametrize(
    ("preset", "named"), [("../../team/rows [wide]", "team-rows-wide"), ("x" * 500, "x" * 60), ("/", "unnamed")]
)
def test_whatever_settings_are_called_their_runs_have_names_of_files(
    monkeypatch: pytest.MonkeyPatch, preset: str, named: str
) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", TWO[0])
    attempt = retrain._attempt(RunConfiguration(dataset="glyphs", preset=preset), None, None, {})
    assert attempt.run.endswith(f"-glyphs-{named}-f7a2")
    assert attempt.preset == preset


@pytest.mark.parametrize("columns", ["80", "60"])
def test_lists_give_the_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = "20261125-070833-fashion-mnist-question-16x49-d8fe"
    (tmp_path / "runs" / name).mkdir(parents=True)
    manifest_in(tmp_path / "runs" / name, dataset="fashion-mnist", preset="question-16x49")
    attempt = Attempt(
        run=name,
        flow_run=TWO[0],
        created=datetime.datetime.now(datetime.UTC),
        dataset="fashion-mnist",
        preset="question-16x49",
        parameters={},
        outcome="published",
        published=name,
    )
    Attempts(tmp_path).keep(attempt)
    list_runs(tmp_path, as_json=False)
    [title, *listed] = capsys.readouterr().out.splitlines()
    assert title.strip() == "1 published run"
    assert sum(name in line for line in listed) == 1
    list_attempts(tmp_path, as_json=False)
    assert name in capsys.readouterr().out
