"""The study's page: what it says is measured, escaped, and tied to figures that are there."""

from __future__ import annotations

import html
import itertools
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from samples import both, signed, silent
from study_results import contents_of, falling

from schemas.configuration import Reshape
from schemas.design import PublishedStudy
from tasks.reshape import sealed
from tasks.scan import scan_order
from tasks.store import Store
from tasks.study import publication
from tasks.study.figures import _accuracy as accuracy_figure
from tasks.study.figures import gradient, output_gradient, spread, time
from tasks.study.grouping import grouping_of, regrouping_of
from tasks.study.page import render, step_map
from tasks.study.publication import first_samples
from tasks.study.summary import summary_of
from tasks.study.words import FIGURES, followed, power_told, row_width, why_accuracy_changes, why_so_many_features

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


def told_of(results: Iterable[PointResult], about: str) -> str:
    """What the page says of these results under a heading."""
    return " ".join(sentence.text for sentence in why_accuracy_changes(summary_of(results), 28)[about])


KEPT = "its interval at T = 784 begins at 86.5\u202f%, no more than 5 points below the 89.0\u202f% of T = 1"


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
            f"Under neither recipe is it seen to fall: under the question's {KEPT}; under the sound one {KEPT}. ",
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


def test_a_time_that_holds_the_compiling_is_no_time_of_steps() -> None:
    one, more = contents_of(scans=("rows",), epochs=1), contents_of(scans=("rows",), epochs=2)
    note = "There was one epoch, so the time holds what it takes to compile the network.</figcaption>"
    assert [note in render(each) for each in (one, more)] == [True, False]
    assert "10,000 images take" not in told_of(one.results, "What more steps change")
    assert "10,000 images take" in told_of(more.results, "What more steps change")


def test_where_nothing_is_left_out_no_seed_draws_its_own() -> None:
    assert "Each seed draws its own." in render(contents_of(scans=("rows",), timesteps=(28,)))
    assert "Each seed draws its own." not in render(contents_of(scans=("rows",), timesteps=(28,), everything=True))


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


def test_the_page_says_which_interval_a_band_is(page: str) -> None:
    assert "the mean of 3 seeds" in page
    assert "the wider of Student's, over the seeds, and Wilson's, over the images." in page


def text_of(page: str, section: str) -> str:
    """The words of a section of the page, the figures' own left out."""
    [found] = re.findall(rf'<section aria-labelledby="{section}">(.*?)</section>', page, re.DOTALL)
    words = re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", " ", found, flags=re.DOTALL))
    return " ".join(html.unescape(words).replace("\u00a0", " ").replace("\u202f", " ").split())


def test_one_step_alone_makes_a_page() -> None:
    page = render(contents_of(seeds=1, scans=("columns",), timesteps=(1,)))
    answers = text_of(page, "answers")
    assert "Why 784? An image has 784 pixels, and 1 step has to read each of them once: one step sees" in answers
    assert "The shape (N // 16, 16, 784) does something else" in answers
    assert "3,750 sequences and still 60,000 labels, and training cannot begin." in answers
    assert "One T was measured: that says nothing of more steps." in answers
    assert "accuracy was measured at one T: 90.0 % at T = 1. " in answers
    assert "More steps" not in answers
    assert "What more steps change" not in answers
    assert "There are" not in answers
    counts = text_of(page, "samples")
    assert "(N, 1, 784) 60,000 60,000 one image in 1 step " in counts
    assert "(N // 16, 16, 784) 3,750 60,000 16 different images" in counts
    assert "before training begins: reshape, train split: 3,750 (sequences) against 60,000 (targets)" in counts
    assert "happens at T = 1: under" in page
    assert "after-1" not in page
    assert "fig-gradient" not in page
    assert "One step was studied alone: there is no answer before the last." in text_of(page, "knowing")


def test_one_t_of_several_steps_alone_makes_a_page() -> None:
    contents = contents_of(seeds=1, timesteps=(28,))
    page = render(contents)
    answers = text_of(page, "answers")
    assert "the first quarter receives 2.8 % at T = 28 (the question's recipe, before training)." in answers
    order = (
        "The order in which the same pixels are read is not seen to matter by more than one seed can tell from chance"
    )
    there = ", ".join(f"70.8 % by scan {scan}" for scan in ("rows", "columns", "permuted"))
    assert f"{order}: the sound recipe comes to {there} at T = 28. " in answers
    assert "at T = 28 it gives the output 0.021 times the gradient" in answers
    for claim in ("smaller network", "steps cost time", "furthest apart", "over all T", "best is", "beside T"):
        assert claim not in answers
    assert page.count('class="after-28"') == 1


@pytest.mark.parametrize("timesteps", [(), (1,), (2,), (1, 2), (28,), (1, 784)])
def test_every_sentence_links_to_a_figure_that_is_there(timesteps: tuple[int, ...]) -> None:
    page = render(contents_of(seeds=1, scans=("rows",), timesteps=timesteps))
    links, ids = re.findall(r'href="#(fig-[a-z]+)"', page), re.findall(r'id="(fig-[a-z]+)"', page)
    assert set(links) <= set(ids)


def test_a_wholly_blank_image_in_one_step_links_to_no_figure() -> None:
    results = [r.model_copy(update={"blank_tail": 784}) for r in contents_of(timesteps=(1,)).results]
    assert "blank" not in " ".join(sentence.text for sentence in reasons(summary_of(results)))


def test_the_last_t_is_among_those_that_are_followed() -> None:
    results = contents_of(scans=("rows",), timesteps=(1, 28, 112, 392, 784)).results
    longer = [
        r.model_copy(update={"point": r.point.model_copy(update={"timesteps": 4096})})
        if r.point.timesteps == 784
        else r
        for r in results
    ]
    assert followed(summary_of(results)) == (28, 112, 784)
    assert followed(summary_of(longer)) == (28, 112, 392, 4096)


@pytest.mark.parametrize(("item", "width"), [((784,), 784), ((28, 30), 30), ((28, 30, 3), 90)])
def test_a_page_is_made_of_images_of_any_rank(item: tuple[int, ...], width: int) -> None:
    contents = contents_of(seeds=1, timesteps=(28,))
    images = np.zeros((16, *item), np.uint8)
    page = render(replace(contents, images=images))
    assert row_width(item) == width
    assert page.count('class="pixels line"') == (0 if len(item) > 1 else 3 * 28 + 16)
    assert step_map(item, "rows", 1).shape == (math.prod(item) // width, width)


def test_the_artifact_is_made_of_images_without_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = contents_of(seeds=1, scans=("rows",))
    told: list[str] = []
    monkeypatch.setattr(publication, "create_markdown_artifact", lambda markdown, **_: told.append(markdown))
    published = PublishedStudy(study="s", place="studies/s", page="studies/s/study.html", manifest="0")
    for item in ((28, 28), (784,)):
        publication.show(contents.subject, contents.results, published, item)
    rows, no_rows = told
    assert "Where a step ends" in rows
    assert "Where a step ends" not in no_rows


@pytest.mark.parametrize(("images", "timesteps"), [(1, 2), (15, 16), (16, 16), (60_000, 16), (60_000, 784)])
def test_the_ledger_has_words_for_every_grouping(images: int, timesteps: int) -> None:
    assert grouping_of(images, timesteps).ledger.startswith("reshape, train split: ")


def test_one_image_a_sequence_is_no_grouping() -> None:
    with pytest.raises(ValueError, match="nothing is grouped"):
        grouping_of(60_000, 1)


@pytest.mark.parametrize(
    ("subject", "timesteps", "command"),
    [
        ({}, 16, "stepwise run --dataset mnist --preset answer-frames"),
        ({}, 8, "stepwise run --dataset mnist --preset answer-frames --set reshape.timesteps=8"),
        (
            {},
            28,
            (
                "stepwise run --dataset mnist --preset answer-frames --set reshape.timesteps=28 "
                "--set reshape.remainder=drop"
            ),
        ),
        (
            {"test_images": 10_001},
            16,
            "stepwise run --dataset mnist --preset answer-frames --set reshape.remainder=drop",
        ),
        ({"data": Path("/my data/d")}, 16, "stepwise run --data '/my data/d' --preset answer-frames"),
        (
            {"catalogs": (Path("/a.toml"), Path("/b.toml")), "dataset": "mine"},
            16,
            "stepwise run --catalog /a.toml --catalog /b.toml --dataset mine --preset answer-frames",
        ),
    ],
)
def test_the_command_that_groups_labels_too_is_one_that_runs(
    subject: dict[str, object], timesteps: int, command: str
) -> None:
    contents = contents_of(scans=("rows",), timesteps=(timesteps,), seeds=1)
    page = render(replace(contents, subject=contents.subject.model_copy(update=subject)))
    assert f" group the labels too: {command} trains (N // {timesteps}, {timesteps}, 784) " in text_of(page, "samples")


def test_what_grouping_leaves_over_is_said_and_no_label_of_it_promised() -> None:
    counts = text_of(render(contents_of(scans=("rows",), timesteps=(28,), seeds=1)), "samples")
    assert (
        "28 divides neither count: 24 of 60,000 training images and 4 of 10,000 test images are left out with "
        "their labels, and its ledger says so."
    ) in counts
    assert "keep every label" not in counts
    contents = contents_of(scans=("rows",), timesteps=(16,), seeds=1)
    odd = replace(contents, subject=contents.subject.model_copy(update={"test_images": 10_001}))
    assert "16 divides only one of the counts: 0 of 60,000 training images and 1 of 10,001 test images are left" in (
        text_of(render(odd), "samples")
    )
    assert "keep every label" in text_of(render(contents_of(scans=("rows",), timesteps=(16,), seeds=1)), "samples")


def test_where_a_split_is_shorter_than_a_sequence_no_command_is_given() -> None:
    contents = contents_of(scans=("rows",), timesteps=(784,), seeds=1)
    assert regrouping_of(contents.subject.model_copy(update={"test_images": 783}), 60_000, 784) is None
    few = replace(contents, subject=contents.subject.model_copy(update={"test_images": 783}))
    assert "--preset" not in render(few)


@pytest.mark.parametrize("scan", ["rows", "columns", "permuted"])
@pytest.mark.parametrize("timesteps", [1, 4, 6, 24])
def test_pictures_show_the_pixels_that_each_step_reads(scan: str, timesteps: int) -> None:
    pixels = np.arange(24)
    read = pixels[scan_order(Reshape(timesteps=1, scan=scan), (4, 6))].reshape(timesteps, -1)  # type: ignore[arg-type]
    shown = step_map((4, 6), scan, timesteps)  # type: ignore[arg-type]
    for step in range(timesteps):
        assert set(pixels.reshape(4, 6)[shown == step]) == set(read[step])


def labels_of(svg: str) -> list[str]:
    """The texts in a figure."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def drawn(figure: Callable[[Summary], str], **changes: Callable[[PointResult], float]) -> list[str]:
    return labels_of(figure(summary_of(changed(**changes))))


def test_the_axis_of_the_gradient_at_the_output_holds_the_least_and_the_greatest() -> None:
    assert {"0.001", "10"} <= set(drawn(output_gradient))
    assert "10⁻⁴" not in drawn(output_gradient)
    assert "10⁻⁵" in drawn(output_gradient, output_gradient=lambda _: 0.000009)
    assert "100" in drawn(output_gradient, output_gradient=lambda _: 70.0)
    assert "100" in drawn(gradient, gradient_ratio=lambda _: 20.0)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [((3.0, 3.3), ["2", "5"]), ((0.6, 4.0), ["0.5", "1", "2", "5"]), ((0.2, 300.0), ["1", "10", "100"])],
)
def test_an_axis_without_powers_of_ten_has_labels_too(seconds: tuple[float, float], told: list[str]) -> None:
    short, long = seconds
    labels = drawn(
        time, seconds_an_epoch=lambda r: r.counts.fitted / 10_000 * (short if r.point.timesteps < 28 else long)
    )
    x = labels.index("T, time steps")
    assert labels[x + 1 : labels.index("seconds, 10,000 images")] == told


def test_the_interval_of_one_t_is_a_line_of_its_own() -> None:
    low, high = summary_of(contents_of(timesteps=(28,)).results).series("rows", "sound")[0].interval
    figure = accuracy_figure(summary_of(contents_of(timesteps=(28,)).results), "rows")
    [question, sound] = [line for line in figure.axes[0].collections if isinstance(line, LineCollection)]
    assert np.allclose(sound.get_segments()[0], [(28, 100 * low), (28, 100 * high)])
    assert question.get_linewidth()[0] > 0


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


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4"])
def test_first_images_have_shades_whatever_their_type(tmp_path: Path, dtype: str) -> None:
    store = Store(tmp_path)
    tables = both(store, 40, (4, 6), dtype)
    sequences = sealed(store, tables[0], signed(store, tables), Reshape(timesteps=1, scan="columns"), silent)
    images, names = first_samples(store, {"columns": sequences}, (4, 6))
    assert (images.shape, len(names)) == ((16, 4, 6), 16)
    assert all(len(np.unique(image)) > 5 for image in images)
    if dtype != "u1":
        assert {(int(image.min()), int(image.max())) for image in images} == {(0, 255)}
