"""Promotion that is demanded: which decisions end a run with exit code 6."""

from __future__ import annotations

import datetime

import pytest

from flows.execution import require_promotion
from schemas.champion import Demands, Entry, Event, Finding, Verdict
from schemas.configuration import RunConfiguration
from schemas.errors import PromotionRefusedError

ASKED = RunConfiguration(promotion=Demands(demanded=True))


ITSELF = Finding(what="another model", holds=False, found="its own", of_itself=True)
LOW = Finding(what="minimum accuracy", holds=False, found="too low")


def entry(decision: Event, champion: str, *findings: Finding) -> Entry:
    now = datetime.datetime.now(datetime.UTC)
    verdict = Verdict(decision="keep", champion="old", findings=findings, demands=ASKED.promotion) if findings else None
    return Entry(
        number=2,
        at=now,
        dataset="d",
        decision=decision,
        run="new",
        champion=champion,
        was="old",
        reasons=("so",),
        verdict=verdict,
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


def test_the_champions_own_weights_on_other_test_images_are_what_was_demanded() -> None:
    assert not entry("kept", "old", ITSELF).refused
    require_promotion(entry("kept", "old", ITSELF), ASKED)
    with pytest.raises(PromotionRefusedError):
        require_promotion(entry("kept", "old", ITSELF, LOW), ASKED)
