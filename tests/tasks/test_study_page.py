"""The study's page: what it says is measured, escaped, and tied to figures that are there."""

from __future__ import annotations

import html
import itertools
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from samples import both, signed, silent
from study_results import changed, contents_of, reasons, told_of

from schemas.configuration import Reshape
from schemas.design import PublishedStudy
from tasks.reshape import sealed
from tasks.scan import scan_order
from tasks.store import Store
from tasks.study import page as pages
from tasks.study import publication
from tasks.study.figures import _accuracy as accuracy_figure
from tasks.study.figures import gradient, output_gradient, spread, time
from tasks.study.grouping import grouping_of, regrouping_of
from tasks.study.page import render
from tasks.study.publication import first_samples
from tasks.study.reasons import followed, power_told
from tasks.study.seen import group, seen_told, step_map, strips
from tasks.study.sentence import FIGURES
from tasks.study.summary import summary_of
from tasks.study.words import row_width, why_so_many_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.study import PointResult
    from tasks.study.page import StudyContents
    from tasks.study.summary import Summary


@pytest.fixture(scope="module", autouse=True)
def figures_drawn_once() -> Iterator[None]:
    """Pages of equal results share their figures: a second less each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_figures", cache(pages._figures))
        yield


@pytest.fixture(scope="module")
def page() -> str:
    return render(contents_of())


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
    steps = re.findall(r'alt="What step (\d+) of 16 sees, scan rows: pixels ', page)
    assert list(map(int, steps)) == list(range(1, 17))
    assert re.findall(r'alt="Training image \d+, labelled (\d)"', page) == [*"5041921314353617"]
    assert "stepwise run --dataset mnist --preset answer-frames" in page


def test_grouping_that_leaves_images_over_says_so_in_the_ledgers_words() -> None:
    grouping = grouping_of(1000, 16, 784)
    with pytest.raises(ValueError, match="cannot reshape") as refused:
        np.zeros((1000, 784), np.uint8).reshape(1000 // 16, 16, 784)
    assert grouping.sequences == 62
    assert grouping.refusals == {"NumPy, which refuses the shape": str(refused.value)}
    assert "62 (sequences) against 1,000 (targets)" in grouping.ledger


def test_grouping_that_leaves_none_over_says_so_in_keras_own_words() -> None:
    import keras

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="cardinality") as refused:
        model.fit(np.zeros((3750, 1)), np.zeros(60_000), verbose=0)
    assert grouping_of(60_000, 16, 784).refusals["Keras 3"] == " ".join(str(refused.value).split())


def page_of(pixels: int, timesteps: int) -> StudyContents:
    """A page of images of so many pixels, in one row, read in so many steps."""
    contents = contents_of(scans=("rows",), timesteps=(timesteps,), pixels=pixels, seeds=1)
    return replace(contents, images=np.zeros((28, pixels), np.uint8), labels=tuple("0123456789" * 3)[:28])


def test_the_page_says_which_interval_a_band_is(page: str) -> None:
    assert "the mean of 3 seeds" in page
    assert "the wider of Student's, over the seeds, and Wilson's, over the images." in page


def text_of(page: str, section: str) -> str:
    """The words of a section of the page, the figures' own left out."""
    [found] = re.findall(rf'<section aria-labelledby="{section}">(.*?)</section>', page, re.DOTALL)
    words = re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", " ", found, flags=re.DOTALL))
    return " ".join(html.unescape(words).replace("\u00a0", " ").replace("\u202f", " ").split())


def test_where_nothing_is_left_out_no_seed_draws_its_own() -> None:
    assert "Each seed draws its own." in render(contents_of(scans=("rows",), timesteps=(28,)))
    assert "Each seed draws its own." not in render(contents_of(scans=("rows",), timesteps=(28,), everything=True))


@pytest.mark.slow
def test_a_time_that_holds_the_compiling_is_no_time_of_steps() -> None:
    one, more = contents_of(scans=("rows",), epochs=1), contents_of(scans=("rows",), epochs=2)
    assert ['id="fig-time"' in render(each) for each in (one, more)] == [False, True]
    assert "10,000 images take" not in told_of(one.results, "What more steps change")
    assert "10,000 images take" in told_of(more.results, "What more steps change")


def test_one_step_alone_makes_a_page() -> None:
    page = render(contents_of(seeds=1, scans=("columns",), timesteps=(1,)))
    answers = text_of(page, "answers")
    assert "Why 49? An image has 784 pixels, and 16 steps have to read each of them once: one step sees" in answers
    assert "The shape (N // 16, 16, 784) does something else" in answers
    assert "That leaves 3,750 sequences for 60,000 labels, and training cannot begin." in answers
    assert "One T was measured: that says nothing of more steps." in answers
    assert "Under the sound recipe (scan columns): 90.0 % at T = 1, measured at no other T. " in answers
    assert "Each setting was trained once: what other seeds would come to is not known." in answers
    assert "More steps" not in answers
    assert "What more steps change" not in answers
    assert "There are" not in answers
    counts = text_of(page, "samples")
    assert "(N, 16, 49) 60,000 60,000 one image in 16 steps " in counts
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
    order = "The order in which the same pixels are read is not seen to matter"
    chance = "(the intervals overlap, so 1 seed cannot tell)"
    there = ", ".join(f"70.8 % by scan {scan}" for scan in ("rows", "columns", "permuted"))
    assert f"{order} {chance}: the sound recipe comes to {there} at T = 28. " in answers
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


@pytest.mark.parametrize(
    ("item", "width"),
    [((787,), 787), ((784,), 28), ((28, 30), 30), ((1, 28, 30), 30), ((28, 30, 3), 90), ((3, 28, 30), 30)],
)
def test_a_page_is_made_of_images_of_any_rank(item: tuple[int, ...], width: int) -> None:
    contents = contents_of(seeds=1, timesteps=(28,))
    images = np.zeros((16, *item), np.uint8)
    page = render(replace(contents, images=images))
    assert row_width(item) == width
    assert page.count('class="pixels line"') == (3 * (16 + 4) + 16 if item == (787,) else 0)
    assert math.prod(step_map(item, "rows", 1).shape[1:]) == width


def test_the_artifact_is_made_of_images_without_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = contents_of(seeds=1, scans=("rows",))
    told: list[str] = []
    monkeypatch.setattr(publication, "create_markdown_artifact", lambda markdown, **_: told.append(markdown))
    published = PublishedStudy(study="s", place="studies/s", page="studies/s/study.html", manifest="0")
    for item in ((28, 28), (784,), (787,)):
        publication.show(contents.subject, contents.results, published, item)
    rows, cut, no_rows = told
    assert "Where a step ends" in rows
    assert cut == rows
    assert "Where a step ends" not in no_rows


@pytest.mark.parametrize(("images", "timesteps"), [(1, 2), (15, 16), (16, 16), (60_000, 16), (60_000, 784)])
def test_the_ledger_has_words_for_every_grouping(images: int, timesteps: int) -> None:
    assert grouping_of(images, timesteps, 784).ledger.startswith("reshape, train split: ")


def test_one_image_a_sequence_is_no_grouping() -> None:
    with pytest.raises(ValueError, match="nothing is grouped"):
        grouping_of(60_000, 1, 784)


@pytest.mark.parametrize(
    ("subject", "pixels", "timesteps", "command"),
    [
        ({}, 784, 16, "stepwise run --dataset mnist --preset answer-frames"),
        ({}, 392, 8, "stepwise run --dataset mnist --preset answer-frames --set reshape.timesteps=8"),
        (
            {},
            756,
            28,
            (
                "stepwise run --dataset mnist --preset answer-frames --set reshape.timesteps=28 "
                "--set reshape.remainder=drop"
            ),
        ),
        (
            {"test_images": 10_001},
            784,
            16,
            "stepwise run --dataset mnist --preset answer-frames --set reshape.remainder=drop",
        ),
        ({"data": Path("/my data/d")}, 784, 16, "stepwise run --data '/my data/d' --preset answer-frames"),
        (
            {"catalogs": (Path("/a.toml"), Path("/b.toml")), "dataset": "mine"},
            784,
            16,
            "stepwise run --catalog /a.toml --catalog /b.toml --dataset mine --preset answer-frames",
        ),
    ],
)
def test_the_command_that_groups_labels_too_is_one_that_runs(
    subject: dict[str, object], pixels: int, timesteps: int, command: str
) -> None:
    contents = page_of(pixels, timesteps)
    page = render(replace(contents, subject=contents.subject.model_copy(update=subject)))
    assert f" group the labels too: {command} trains (N // {timesteps}, {timesteps}, {pixels}) " in text_of(
        page, "samples"
    )


def test_what_grouping_leaves_over_is_said_and_no_label_of_it_promised() -> None:
    counts = text_of(render(page_of(756, 28)), "samples")
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
    assert regrouping_of(contents.subject.model_copy(update={"test_images": 15}), 60_000, 16) is None
    few = replace(contents, subject=contents.subject.model_copy(update={"test_images": 15}))
    assert "--preset" not in render(few)


@pytest.mark.parametrize("scan", ["rows", "columns", "permuted"])
@pytest.mark.parametrize("timesteps", [1, 4, 6, 24])
def test_pictures_show_the_pixels_that_each_step_reads(scan: str, timesteps: int) -> None:
    pixels = np.arange(24)
    read = pixels[scan_order(Reshape(timesteps=1, scan=scan), (4, 6))].reshape(timesteps, -1)  # type: ignore[arg-type]
    shown = step_map((4, 6), scan, timesteps)  # type: ignore[arg-type]
    for step in range(timesteps):
        assert set(pixels.reshape(4, 6)[(shown == step).any(axis=2)]) == set(read[step])


@pytest.mark.parametrize(
    ("scan", "timesteps", "told"),
    [
        ("rows", 1, ["rows 1 to 4"]),
        ("rows", 4, ["row 1", "row 2", "row 3", "row 4"]),
        ("rows", 3, ["pixels 1 to 8", "pixels 9 to 16", "pixels 17 to 24"]),
        ("columns", 3, ["columns 1 to 2", "columns 3 to 4", "columns 5 to 6"]),
        ("columns", 8, ["3 pixels in rows 1 to 3"]),
        ("rows", 24, ["pixel 1", "pixel 2"]),
    ],
)
def test_what_a_step_sees_is_said_for_those_who_see_no_pictures(scan: str, timesteps: int, told: list[str]) -> None:
    shown = step_map((4, 6), scan, timesteps)  # type: ignore[arg-type]
    assert [seen_told((shown == step).any(axis=2)) for step in range(timesteps)][: len(told)] == told


def test_an_image_in_colour_is_drawn_as_one_and_its_channels_are_seen_together() -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 6, 3)).astype(np.uint8)
    [strip] = strips(images[0], "rows", [4], 4, transposed=False)
    assert [tile.seen for tile in strip.tiles] == ["row 1", "row 2", "row 3", "row 4"]
    assert group(images, tuple("0123456789012345"), transposed=True)[0][0] == "0"


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
