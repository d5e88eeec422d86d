"""The study's page: what it says is measured, escaped, and tied to figures that are there."""

from __future__ import annotations

import itertools
import re
import statistics
from typing import TYPE_CHECKING

import numpy as np
import pytest
from study_results import contents_of, falling

from schemas.configuration import Reshape
from tasks.scan import scan_order
from tasks.study.figures import spread
from tasks.study.page import render, step_map
from tasks.study.summary import summary_of
from tasks.study.words import FIGURES, grouping_of, power_told, why_accuracy_changes, why_so_many_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schemas.study import Point, PointResult
    from tasks.study.summary import Summary
    from tasks.study.words import Sentence


@pytest.fixture(scope="module")
def page() -> str:
    return render(contents_of())


def reasons(summary: Summary) -> list[Sentence]:
    """All that is said of accuracy."""
    return list(itertools.chain.from_iterable(why_accuracy_changes(summary, 28).values()))


def test_every_sentence_names_a_figure_that_is_on_the_page(page: str) -> None:
    summary = summary_of(contents_of().results)
    sentences = [*why_so_many_features(summary, 60_000), *reasons(summary)]
    ids = set(re.findall(r'<figure id="fig-([a-z]+)"', page))
    assert {sentence.figure for sentence in sentences} == ids == set(FIGURES)
    assert len(sentences) >= 12
    for sentence in sentences:
        assert page.count(f'href="#fig-{sentence.figure}"') >= 1


def test_every_link_on_the_page_leads_somewhere_on_it(page: str) -> None:
    targets, ids = set(re.findall(r'<a[^>]* href="#([^"]+)"', page)), re.findall(r'\bid="([^"]+)"', page)
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert "default-src 'none'" in page
    outside = {address for address in re.findall(r'(?:src|href)="([^"#]+)"', page) if not address.startswith("data:")}
    assert outside == set()
    assert "<script" not in page


def test_what_the_data_are_called_is_text_and_no_markup() -> None:
    page = render(contents_of(title="<img src=x onerror=alert(1)>\u202e", seeds=1, scans=("rows",)))
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;[U+202E]" in page


def test_the_asked_for_numbers_are_those_of_the_question(page: str) -> None:
    assert "Found 3750 input samples and 60000 target samples" in page
    assert "3,750 (sequences) against 60,000 (targets), a ratio of 16" in page
    assert "<h3>Why 49?</h3>" in page
    assert "<h3>Why does accuracy fall with more steps?</h3>" in page
    assert "784\u00a0/\u00a016\u00a0=\u00a049" in page
    assert "132,000 at T\u00a0=\u00a01, 14,400 at T\u00a0=\u00a016, 6,720 at T\u00a0=\u00a0784" in page


def test_every_step_of_the_questions_t_is_a_picture_and_so_is_what_the_advice_takes_for_steps(page: str) -> None:
    steps = re.findall(r'alt="What step (\d+) of 16 sees, scan rows"', page)
    assert list(map(int, steps)) == list(range(1, 17))
    assert re.findall(r'alt="Training image \d+, labelled (\d)"', page) == [*"5041921314353617"]
    assert "stepwise run --dataset mnist --preset answer-frames" in page


def test_grouping_that_leaves_images_over_says_so_in_the_ledgers_words() -> None:
    grouping = grouping_of(1000, 16)
    assert (grouping.sequences, grouping.keras) == (62, "Found 62 input samples and 1000 target samples")
    assert "62 (sequences) against 1,000 (targets)" in grouping.ledger


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (falling, "accuracy falls with T"),
        (lambda point: 0.2 + 0.07 * np.log2(point.timesteps), "accuracy rises with T"),
        (lambda point: 0.5 + 0.01 * point.seed, "is not seen to differ between the ends by more than chance"),
    ],
)
def test_the_words_say_what_was_measured(accuracy: object, said: str) -> None:
    summary = summary_of(contents_of(accuracy).results)  # type: ignore[arg-type]
    *_, asked, sound = why_accuracy_changes(summary, 28)["The answer"]
    assert [said in sentence.text for sentence in (asked, sound)] == [True, True]


def told_of(results: Iterable[PointResult], about: str) -> str:
    """What the page says of these results under a heading."""
    return " ".join(sentence.text for sentence in why_accuracy_changes(summary_of(results), 28)[about])


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
            "It falls under the question's recipe alone, by 67.3 points: more steps can be learned, but not so.",
        ),
        (0.0, 0.07, "It falls under the sound recipe alone, by 67.3 points."),
        (0.0, 0.0, "Under neither recipe is it seen to fall by more than chance."),
    ],
)
def test_the_answer_is_what_was_measured(question: float, sound: float, answer: str) -> None:
    def accuracy(point: Point) -> float:
        slope = question if point.recipe == "question" else sound
        return float(0.9 - 0.01 * point.seed - slope * np.log2(point.timesteps))

    assert answer in told_of(contents_of(accuracy).results, "The answer")


def changed(**changes: Callable[[PointResult], float]) -> list[PointResult]:
    """Results of which some values are others."""
    return [
        result.model_copy(update={name: value(result) for name, value in changes.items()})
        for result in contents_of(scans=("rows",)).results
    ]


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
            saturated=lambda r: r.point.timesteps / 1000,
            output_gradient=lambda r: 1.0 + 0.001 * r.point.timesteps * (r.point.recipe == "question"),
        ),
        "What the recipe changes",
    )
    assert "The recipe is not seen to matter here" in odd
    assert "There are more at the last T than at the first." in odd
    assert "is not seen to be a quieter teacher: over all T it gives the output 1 to 1.8 times" in odd


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


@pytest.mark.parametrize(("lost", "said"), [(0.2, "matters too"), (0.0, "is not seen to matter")])
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


def test_the_page_says_which_interval_a_band_is(page: str) -> None:
    assert "the mean of 3 seeds" in page
    assert "the wider of Student's, over the seeds, and Wilson's, over the images." in page


def test_one_t_alone_makes_a_page() -> None:
    page = render(contents_of(seeds=1, scans=("columns",), timesteps=(1,)))
    assert "was measured at one T" in page
    assert "One T was measured: that says nothing of more steps." in page
    assert "There are more" not in page
    assert "There are no more" not in page
    assert "Gradient that reaches" in page


@pytest.mark.parametrize("scan", ["rows", "columns", "permuted"])
@pytest.mark.parametrize("timesteps", [1, 4, 6, 24])
def test_pictures_show_the_pixels_that_each_step_reads(scan: str, timesteps: int) -> None:
    pixels = np.arange(24)
    read = pixels[scan_order(Reshape(timesteps=1, scan=scan), (4, 6))].reshape(timesteps, -1)  # type: ignore[arg-type]
    shown = step_map((4, 6), scan, timesteps)  # type: ignore[arg-type]
    for step in range(timesteps):
        assert set(pixels.reshape(4, 6)[shown == step]) == set(read[step])


def test_labels_of_an_axis_do_not_touch_and_the_last_is_there() -> None:
    every = [t for t in range(1, 785) if 784 % t == 0]
    chosen = spread(every)
    assert chosen[-1] == 784
    assert all(after / before > 1.6 for before, after in itertools.pairwise(chosen))


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.97, "97.0\u202f%"), (4.2e-45, "4 × 10⁻⁴⁵"), (0.0, "less than a number can hold"), (None, "an unknown share")],
)
def test_small_shares_are_powers_of_ten(value: float | None, told: str) -> None:
    assert power_told(value) == told
