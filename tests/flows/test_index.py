"""Which attempts the page of all runs tells as ended without a model, and how one is gone on with."""

from __future__ import annotations

import datetime
import io
from typing import Any

from rich.console import Console

from flows.attempts import Attempt, Problem, rerun_command
from flows.index import TOLD, failures_of
from flows.run_command import _tell_how_to_go_on

NOW = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)


def attempt(run: str, outcome: str, dataset: str = "mnist", **more: Any) -> Attempt:  # noqa: ANN401
    told = {"run": run, "flow_run": run, "created": NOW, "dataset": dataset, "preset": "rows", "parameters": {}}
    return Attempt.model_validate({**told, "outcome": outcome, **more})


def test_the_command_to_run_again_names_the_folder_of_outputs() -> None:
    there = attempt("a", "stopped", parameters={"artifacts": "/b c"})
    assert rerun_command(there) == "stepwise rerun a --artifacts '/b c'"
    written = io.StringIO()
    _tell_how_to_go_on(Console(file=written, width=200), [there, attempt("b", "running")])
    assert written.getvalue().endswith("from its last checkpoint:\nstepwise rerun a --artifacts '/b c'\n")
    written = io.StringIO()
    _tell_how_to_go_on(Console(file=written, width=200), [])
    assert written.getvalue() == "Stopped before anything was done: give the same command again.\n"


def test_a_failure_is_unanswered_until_a_run_of_its_dataset_ends_well() -> None:
    newest_first = [
        *(attempt("g", "running"), attempt("f", "planned"), attempt("e", "died")),
        *(attempt("d", "unchanged"), attempt("c", "failed", "fashion-mnist"), attempt("b", "stopped")),
        attempt("a", "failed"),
    ]
    found = [(failure.run, failure.outcome, failure.unanswered) for failure in failures_of(newest_first)]
    assert found == [
        ("e", "died", True),
        ("c", "failed", True),
        ("b", "stopped", False),
        ("a", "failed", False),
    ]


def test_what_was_found_is_told_in_one_short_line_with_its_file() -> None:
    problem = Problem(step="train", found="no room\n  left", remedy="Make some", file="/data/x")
    [told] = failures_of([attempt("a", "failed", problem=problem.model_dump())])
    assert (told.step, told.found, told.remedy) == ("train", "/data/x: no room left", "Make some")
    [told] = failures_of([attempt("a", "failed", problem=Problem(step=None, found="a word " * 999).model_dump())])
    assert len(told.found) <= TOLD
    assert told.found.endswith(" …")
    [told] = failures_of([attempt("a", "died")])
    assert (told.step, told.found) == (None, "")
