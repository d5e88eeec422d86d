"""The order of steps: the DAG's own in what is published, whichever download ends first."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from schemas.steps import STEPS, place

if TYPE_CHECKING:
    from tests.flows.conftest import SmokeRun

IN_ORDER = [
    *("download train images", "download train labels", "download test images", "download test labels"),
    *("parse train", "parse test", "validate", "reshape train", "reshape test", "drift", "train", "evaluate"),
    *("compare", "publish", "promote"),
]


def test_steps_stand_in_the_order_of_the_dag() -> None:
    ended = random.Random(3).sample(IN_ORDER, len(IN_ORDER))  # noqa: S311 - no secret
    assert ended != IN_ORDER
    assert sorted(ended, key=place) == IN_ORDER == list(STEPS)
    assert sorted(["what nobody knows", "publish"], key=place) == ["publish", "what nobody knows"]


@pytest.mark.slow
def test_published_timings_and_the_report_keep_that_order(smoke_run: SmokeRun) -> None:
    timings = json.loads((smoke_run.folder / "timings.json").read_bytes())
    assert [timing["step"] for timing in timings] == IN_ORDER[:-2]  # publishing cannot be timed in what it publishes
    report = (smoke_run.folder / "report.html").read_text(encoding="utf-8").partition('id="time"')[2]
    rows = [report.index(f'<tr><th scope="row">{step}</th>') for step in IN_ORDER[:-2]]
    assert rows == sorted(rows)
