"""Promotion that is demanded: which decisions end a run with exit code 6."""

from __future__ import annotations

import datetime

import pytest

from flows.going import require_promotion
from schemas.champion import Demands, Entry, Event
from schemas.configuration import RunConfiguration
from schemas.errors import PromotionRefusedError

ASKED = RunConfiguration(promotion=Demands(demanded=True))


def entry(decision: Event, champion: str) -> Entry:
    now = datetime.datetime.now(datetime.UTC)
    return Entry(
        number=2, at=now, dataset="d", decision=decision, run="new", champion=champion, was="old", reasons=("so",)
    )


@pytest.mark.parametrize(
    ("decision", "champion"), [("promoted", "new"), ("re-verified", "new"), ("re-verified", "old")]
)
def test_a_champion_and_one_with_its_weights_are_what_was_demanded(decision: Event, champion: str) -> None:
    require_promotion(entry(decision, champion), ASKED)


@pytest.mark.parametrize("decision", ["kept", "undecided"])
def test_a_model_that_was_not_promoted_is_not(decision: Event) -> None:
    require_promotion(entry(decision, "old"), RunConfiguration())
    with pytest.raises(PromotionRefusedError, match="new is published and was not promoted: so") as refused:
        require_promotion(entry(decision, "old"), ASKED)
    assert refused.value.exit_code == 6
