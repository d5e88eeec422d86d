"""The names of runs: two runs of one day are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import retrain
from flows.installation import upkeep
from schemas.configuration import RunConfiguration

# Of two runs that a server scheduled in the same minute: Prefect's numbers begin with the time.
TWO = ("019a5b7c-2f40-7d11-8a3c-5be09d41f7a2", "019a5b7c-3e12-7b02-9c55-01d8c2e6904b")


@pytest.mark.parametrize("data", [None, Path("my digits")])
def test_two_runs_of_one_day_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch, data: Path | None) -> None:
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
    called = "my-digits" if data else "glyphs"
    for ends in ([attempt.run for attempt in attempts], names, upkeeps):
        assert [name[-5:].lstrip("- ") for name in ends] == ["f7a2", "904b"]
    assert all(f"-{called}-smoke-" in attempt.run for attempt in attempts)
    assert all(name.startswith(f"{called} smoke 20") for name in names)
