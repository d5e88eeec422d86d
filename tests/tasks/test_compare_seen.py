"""Verdicts on test images that one of the models, or a run that it began with, has learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ring import DEMANDS, LOOSE, RESHAPE, N, Ring, answers, rows_of
from samples import drawn, labels_of, parsed, receipt_of, signed, silent

from schemas.champion import Demands
from tasks.compare import verdict_on
from tasks.reshape import sealed
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_images_that_were_learned_do_not_make_a_model_better(tmp_path: Path) -> None:
    """Somebody put test images into the training file: the model that learned them answers them, and knows no more."""
    store, test = Store(tmp_path), drawn(N, (4, 6), "u1", 7)
    images = drawn(2 * N)
    images[:40] = test[:40]
    labels = labels_of(2 * N)
    labels[:40] = labels_of(N, 7)[:40]
    tables = parsed(store, images, labels), parsed(store, test, labels_of(N, 7), "test")
    receipt = signed(store, tables)
    sequences = sealed(store, tables[1], receipt, RESHAPE, silent)
    ring = Ring(store, tables, sequences, receipt_of(store, tables), labels_of(N, 7))
    champion = ring.champion(answers(ring.labels, range(50)))
    verdict = ring.verdict(answers(ring.labels, []), champion, LOOSE)
    assert verdict.decision == "promote", "ten of images that it has not seen are enough"
    assert verdict.comparison
    assert (verdict.comparison.samples, verdict.comparison.only_new) == (N - 40, 10)
    champion = ring.champion(answers(ring.labels, range(44)), "other")
    verdict = ring.verdict(answers(ring.labels, []), champion, LOOSE)
    assert verdict.decision == "keep"
    [reason] = verdict.reasons
    assert "4 images only this model got right, 0 only the champion" in reason
    assert (
        "p = 0.062, at most 0.05 demanded; compared without 40 of 600 test images: this model has learned from 40, the "
        "champion from 40" in reason
    )


def test_images_that_the_champion_learned_do_not_keep_it_its_place(ring: Ring) -> None:
    """A pool that was divided anew: of two thirds of the images now asked about, the champion knows the answers."""
    knows = answers(ring.labels, range(400, 440))
    champion = ring.having_learned(ring.champion(knows), slice(0, 400))
    better_where_new = answers(ring.labels, [*range(50), *range(400, 420)])
    verdict = ring.verdict(better_where_new, champion, LOOSE)
    assert verdict.decision == "promote"
    assert verdict.comparison
    assert (verdict.comparison.samples, verdict.comparison.only_new, verdict.comparison.only_old) == (200, 20, 0)
    assert "compared without 400 of 600 test images: this model has learned from 0, the champion from 400" in str(
        verdict.reasons
    )


def test_calibration_is_compared_where_neither_has_learned(ring: Ring) -> None:
    """The champion's few mistakes are among what it has not seen: on all images it would look far more honest."""
    champion = ring.champion(answers(ring.labels, range(500, 540), sure=0.99))
    champion = ring.having_learned(champion, slice(0, 500))
    verdict = ring.verdict(answers(ring.labels, range(500, 520), sure=0.99), champion)
    [found] = [each for each in verdict.findings if each.what == "calibration not worse"]
    assert found.found.startswith("expected calibration error 19.00%, the champion's 39.00%")


def test_where_no_image_is_left_that_neither_has_learned_a_person_decides(ring: Ring) -> None:
    champion = ring.having_learned(ring.champion(answers(ring.labels, [])), slice(0, N))
    verdict = ring.verdict(answers(ring.labels, range(30)), champion)
    assert (verdict.decision, verdict.comparison) == ("undecided", None)
    assert verdict.reasons[0].endswith(
        "0 of 600 test images are left that neither has learned from, too few to tell them apart: this model has "
        "learned from 0, the champion from 600"
    )


def test_five_images_are_left_or_nobody_can_be_found_better(ring: Ring) -> None:
    champion = ring.having_learned(ring.champion(answers(ring.labels, range(590, N))), slice(0, 595))
    assert ring.verdict(answers(ring.labels, []), champion, LOOSE).decision == "promote", "1/32 is less than 0.05"
    champion = ring.having_learned(champion, slice(0, 596))
    verdict = ring.verdict(answers(ring.labels, []), champion, LOOSE)
    assert verdict.decision == "undecided"
    assert "4 of 600 test images are left that neither has learned from, too few to tell them apart" in str(verdict)


def test_a_class_that_is_never_found_any_more_is_lost_whoever_has_learned_it(ring: Ring) -> None:
    """Of the class nothing is left to compare, since the champion knows all of it by heart."""
    nine = rows_of(ring, 9, N)
    others = [row for row in range(N) if row not in nine]
    champion = ring.having_learned(ring.champion(answers(ring.labels, others[:20])), nine)
    verdict = ring.verdict(answers(ring.labels, nine), champion, LOOSE)
    assert verdict.reasons == (
        f"not met: class 9 not lost: found in none of its {len(nine)} images, by the champion in {len(nine)}",
    )
    verdict = ring.verdict(answers(ring.labels, nine[1:]), champion, LOOSE)
    assert verdict.decision == "promote"
    assert "of 1 of the classes no image is left that neither has learned from" in str(verdict.reasons)


def test_what_is_demanded_of_any_model_is_asked_of_images_that_it_has_not_learned(ring: Ring) -> None:
    """The first champion of a dataset, that began with a run of another name for the same images."""
    warm = ring.warm(answers(ring.labels, range(500, 550)), None, slice(0, 500))
    verdict = verdict_on(ring.store, warm, Demands(minimum_accuracy=0.9))
    [reason] = verdict.reasons
    assert reason.startswith("not met: minimum accuracy: 50.00% of the 100 test images that it has not learned from, ")
    assert verdict.decision == "keep"
    nine = rows_of(ring, 9, N)
    verdict = verdict_on(ring.store, ring.warm(answers(ring.labels, nine), None, nine), Demands(minimum_recall=0.5))
    assert verdict.reasons[0].startswith("not met: minimum recall of class 9: 0.00% of its"), "though it learned them"
    unknown = ring.warm(answers(ring.labels, []), None, slice(0, 5), whole=False)
    found = str(verdict_on(ring.store, unknown, DEMANDS).reasons)
    assert "of the 595 test images that it has not learned from, as far as that is on record" in found
    all_of_them = ring.warm(answers(ring.labels, []), None, slice(0, N))
    verdict = verdict_on(ring.store, all_of_them, DEMANDS)
    assert verdict.reasons == ("not met: test images that it has not learned from: none of 600",)


def test_what_the_run_before_a_warm_start_learned_counts_as_learned(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, range(60)))
    verdict = verdict_on(ring.store, ring.warm(answers(ring.labels, []), champion, slice(0, 100)), LOOSE)
    assert verdict.decision == "keep", "all that it is better at is what it was taught before"
    assert "compared without 100 of 600 test images: this model has learned from 100" in verdict.reasons[0]


def test_a_warm_start_of_which_not_all_is_known_is_for_a_person_to_judge(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, range(60)))
    warm = ring.warm(answers(ring.labels, []), champion, slice(0, 100), whole=False)
    verdict = verdict_on(ring.store, warm, LOOSE)
    assert verdict.decision == "undecided"
    assert verdict.reasons[0].endswith("what the run that this one began with had learned from is not wholly on record")
    champion = ring.having_learned(champion, slice(0, 5), whole=False)
    began_with_champion = ring.contest(answers(ring.labels, []), champion, start=champion)
    verdict = verdict_on(ring.store, began_with_champion, LOOSE)
    assert verdict.decision == "promote", "what is not known is the same of both"
    assert "what the champion has learned from is not wholly on record" in str(verdict.reasons)
