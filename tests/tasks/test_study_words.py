"""The study's words: what is said was measured, and no more is said than that."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import numpy as np
import pytest
from study_results import changed, contents_of, falling, reasons, told_of

from tasks.study.summary import summary_of
from tasks.study.words import why_accuracy_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.study import Point

KEPT = "its interval at T = 784 begins at 86.5\u202f%, no more than 5 points below the 89.0\u202f% of T = 1"


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (falling, "accuracy falls with T"),
        (lambda point: 0.2 + 0.07 * np.log2(point.timesteps), "accuracy rises with T"),
        (
            lambda point: 0.5 + 0.01 * point.seed,
            "is not seen to differ between the ends by more than 3 seeds can tell from chance",
        ),
    ],
)
def test_the_words_say_what_was_measured(accuracy: object, said: str) -> None:
    summary = summary_of(contents_of(accuracy).results)  # type: ignore[arg-type]
    *_, asked, sound = why_accuracy_changes(summary, 28)["The answer"]
    assert [said in sentence.text for sentence in (asked, sound)] == [True, True]


@pytest.mark.parametrize(
    ("question", "sound", "answer"),
    [
        (
            0.07,
            0.04,
            "It falls under both recipes, by 67.3 points under the question's and by 38.5 points under the sound",
        ),
        (0.04, 0.07, "more steps are harder to learn in themselves."),
        (
            0.07,
            0.0,
            (
                f"It falls under the question's recipe, by 67.3 points; under the sound one {KEPT}: more steps can be "
                "learned, but not so. "
            ),
        ),
        (
            0.0,
            0.07,
            f"It falls under the sound recipe, by 67.3 points; under the question's {KEPT}. ",
        ),
        (-0.01, 0.07, "by 67.3 points; under the question's it rises from 89.0\u202f% to 98.6\u202f%."),
        (
            0.0,
            0.0,
            (
                f"Under neither recipe is it seen to fall from T = 1 to T = 784: under the question's {KEPT}; under "
                f"the sound one {KEPT}. "
            ),
        ),
    ],
)
def test_the_answer_is_what_was_measured(question: float, sound: float, answer: str) -> None:
    def accuracy(point: Point) -> float:
        slope = question if point.recipe == "question" else sound
        return float(0.9 - 0.01 * point.seed - slope * np.log2(point.timesteps))

    assert answer in told_of(contents_of(accuracy).results, "The answer")


def two_seeds(point: Point) -> float:
    """Under the question's recipe it falls for sure; under the sound one by as much, from 95 %, for one seed only."""
    if point.recipe == "question":
        return 0.9 if point.timesteps == 1 else 0.1
    return 0.95 if point.timesteps == 1 else 0.491 - 0.4 * point.seed


def test_a_fall_that_few_seeds_do_not_show_is_told_as_no_fall_and_as_no_keeping_either() -> None:
    told = told_of(contents_of(two_seeds, scans=("rows",), seeds=2).results, "The answer")
    assert told.startswith(
        "It falls under the question's recipe, by 80.0 points; under the sound one it goes from 95.0~% to 29.1~%, "
        "which 2 seeds cannot tell from chance. ".replace("~", "\u202f")
    )
    assert "can be learned" not in told
    assert "(scan rows), accuracy is not seen to differ between the ends by more than 2 seeds can tell from" in told


def test_what_falls_and_rises_again_is_told_as_that() -> None:
    def accuracy(point: Point) -> float:
        return 0.5 if point.timesteps == 28 else 0.9

    told = told_of(contents_of(accuracy, scans=("rows",), timesteps=(1, 28, 784)).results, "The answer")
    assert told.startswith("Under neither recipe is it seen to fall from T = 1 to T = 784: ")
    dip = (
        "90.0~% at T = 1, 90.0~% at T = 784, and lowest between them with 50.0~% at T = 28; best is T = 1 with 90.0~%."
    )
    assert told.count(dip.replace("~", "\u202f")) == 2


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([500] * 28, "knows hardly more after 28 steps, 10.0~%, than after the first, 10.0~%."),
        (
            [500] * 9 + [4500] * 18 + [1500],
            "knows most after 10 of 28 steps, 90.0~%, and forgets: at the end it is 30.0~%.",
        ),
        ([500] * 9 + [4050] * 18 + [4500], "comes to nine tenths of its accuracy after 10 of 28 steps."),
    ],
)
def test_how_early_an_lstm_knows_is_said_of_one_that_knows(after: list[int], said: str) -> None:
    results = [
        result.model_copy(update={"hits_after": tuple(after)})
        for result in contents_of(seeds=1, scans=("rows",), timesteps=(28,)).results
    ]
    told = told_of(results, "What more steps change")
    assert told.count(f"With T = 28 the question recipe's LSTM {said}".replace("~", "\u202f")) == 1


def test_recipes_of_which_neither_learns_teach_nothing() -> None:
    told = told_of(
        contents_of(lambda p: 0.9 if (p.recipe, p.timesteps) == ("question", 1) else 0.1).results, "The answer"
    )
    assert told.startswith("It falls under the question's recipe, by 80.0 points; under the sound one its interval at ")
    assert "can be learned" not in told


def test_how_much_each_loses_is_compared_by_the_intervals() -> None:
    def accuracy(point: Point) -> float:
        slope = 0.07 if point.recipe == "question" else 0.068
        return float(0.9 - 0.01 * point.seed - slope * np.log2(point.timesteps))

    told = told_of(contents_of(accuracy).results, "The answer")
    assert "by 67.3 points under the question's and by 65.4 points under the sound one: more steps are harder" in told
    assert "decides" not in told


def test_what_is_said_of_the_recipe_is_what_was_measured() -> None:
    usual = told_of(contents_of(scans=("rows",)).results, "What the recipe changes")
    assert "The recipe matters beside T" in usual
    assert (
        "There are no more at the last T than at the first: a reason why recipes differ, none why accuracy falls"
        in usual
    )
    assert "Mean squared error behind a softmax is a quiet teacher: over all T it gives the output 0.021 times" in usual
    odd = told_of(
        changed(
            accuracy=lambda r: 0.5 + 0.01 * r.point.seed,
            saturated=lambda r: (r.point.recipe == "question") * r.point.timesteps / 1000,
            output_gradient=lambda r: 1.0 + 0.001 * r.point.timesteps * (r.point.recipe == "question"),
        ),
        "What the recipe changes",
    )
    assert "The recipe is not seen to matter here by more than 3 seeds can tell from chance: with the same" in odd
    assert "There are more at the last T than at the first." in odd
    assert "is not seen to be a quieter teacher: over all T it gives the output 1 to 1.8 times" in odd


def test_gates_that_are_not_saturated_are_not_said_to_be() -> None:
    """As of images of 0 and 1."""
    told = told_of(changed(saturated=lambda _: 0.0), "What the recipe changes")
    assert (
        "Raw pixels are not seen to push the gates towards 0 or 1 here: before anything is learned, saturated are "
        "0.0~% at T = 1, 0.0~% at T = 16, 0.0~% at T = 784; with scaled pixels 0.0~%, 0.0~%, 0.0~%."
    ).replace("~", "\u202f") in told
    assert "hardly learns" not in told


def test_steps_that_took_no_more_time_are_not_said_to_cost_any() -> None:
    assert "And steps cost time, for they cannot be computed side by side: 10,000 images take" in told_of(
        contents_of(scans=("rows",)).results, "What more steps change"
    )
    told = told_of(changed(seconds_an_epoch=lambda r: r.counts.fitted / 10_000), "What more steps change")
    assert (
        "More steps took no more time: 10,000 images take 1.00~s at T = 1 and 1.00~s at T = 784.".replace("~", "\u202f")
        in told
    )


def test_the_units_are_those_of_the_network_that_was_trained() -> None:
    assert "with 40 units, 4h(f + h + 1) weights are " in told_of(
        changed(lstm_parameters=lambda _: 7), "What more steps change"
    )


def test_where_images_end_in_ink_nothing_is_said_of_blank_steps() -> None:
    assert "The median image ends in 118 blank pixels" in told_of(contents_of().results, "What more steps change")
    assert "blank" not in told_of(changed(blank_tail=lambda _: 0), "What more steps change")


def where_a_step_ends(accuracy: Callable[[Point], float]) -> str:
    results = contents_of(accuracy, scans=("rows",)).results
    sentences = [sentence.text for sentence in reasons(summary_of(results))]
    [sentence] = [text for text in sentences if text.startswith("Where a step ends")]
    return sentence


def test_steps_that_cut_rows_are_compared_with_those_that_fit() -> None:
    sentence = where_a_step_ends(lambda point: 0.5 if point.timesteps in {16, 49} else 0.9)
    assert sentence.startswith("Where a step ends seems to matter too: ")
    assert "49 pixels are no whole rows of 28, and T = 16 comes to 50.0\u202f%, " in sentence
    assert "90.0\u202f% at T = 14 and" in sentence
    assert "90.0\u202f% at T = 28" in sentence
    assert "of 4 such T between two that fit, 2 did worse than both" in sentence


def test_where_they_do_no_worse_the_page_does_not_claim_it() -> None:
    sentence = where_a_step_ends(lambda point: 0.9 - point.timesteps / 10_000)
    assert sentence.startswith("Where a step ends is not seen to matter here: ")
    assert "of 4 such T between two that fit, 0 did worse than both" in sentence


@pytest.mark.parametrize(
    ("lost", "said"), [(0.2, "matters too"), (0.0, "is not seen to matter by more than 3 seeds can tell from chance")]
)
def test_scans_are_compared_at_one_t_and_where_they_differ_most(lost: float, said: str) -> None:
    def accuracy(point: Point) -> float:
        worse = 0.5 if point.timesteps == 392 else lost
        return 0.9 - 0.01 * point.seed - (worse if point.scan == "columns" else 0)

    [text] = [s.text for s in reasons(summary_of(contents_of(accuracy).results)) if s.text.startswith("The order")]
    assert text.startswith(f"The order in which the same pixels are read {said}: the sound recipe comes to 89.0")
    columns = f"{100 * (0.89 - lost):.1f}\u202f% by scan columns"
    assert f"{columns}, 89.0\u202f% by scan permuted at T = 28" in text
    assert text.endswith("and to 89.0\u202f%, 39.0\u202f%, 89.0\u202f% at T = 392, where they are furthest apart.")


def test_the_shapes_that_were_asked_about_have_a_sentence_of_their_own() -> None:
    texts = [sentence.text for sentence in reasons(summary_of(contents_of(scans=("rows",)).results))]
    under = "from 89.0~% to 61.0~% under the question's recipe and from 89.0~% to 73.0~% under the sound one."
    assert f"From T = 1 to T = 16 it goes {under}".replace("~", "\u202f") in texts
    one = [sentence.text for sentence in reasons(summary_of(contents_of(scans=("rows",), timesteps=(16,)).results))]
    assert not [text for text in one if text.startswith("From T")]


def test_of_one_scan_nothing_is_said_of_others() -> None:
    results = contents_of(scans=("columns",)).results
    assert not [s for s in reasons(summary_of(results)) if s.text.startswith("The order")]


def test_an_interval_is_the_wider_of_students_over_seeds_and_wilsons_over_images() -> None:
    setting = summary_of(contents_of(scans=("rows",)).results).series("rows", "sound")[0]
    values = [result.accuracy for result in setting.results]
    half = 4.303 * statistics.stdev(values) / 3**0.5
    assert setting.interval == pytest.approx((statistics.mean(values) - half, statistics.mean(values) + half))
    low, high = summary_of(contents_of(scans=("rows",), seeds=1).results).series("rows", "sound")[0].interval
    assert (low, high) == pytest.approx((0.8914, 0.9080), abs=5e-4)  # of 4,500 in 5,000
    tied = summary_of(contents_of(lambda _: 0.9, scans=("rows",), seeds=3).results).series("rows", "sound")[0]
    assert tied.interval == pytest.approx((low, high))  # seeds that agree are no more images
