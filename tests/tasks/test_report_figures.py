"""The figures: well-formed, deterministic, in the page's colours; their PNGs are PNGs of the size they should have."""

from __future__ import annotations

import base64
import functools
import io
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from report_contents import digit, history_of, metrics_of

from tasks import drawing
from tasks.measures import measure
from tasks.publish import figures

DIGITS = tuple("0123456789")
NAMES = {"digits": DIGITS, "undrawable": ("字", "\u202e"), "many": tuple(f"class {k}" for k in range(62))}


@pytest.fixture(scope="module")
def curves() -> str:
    return figures.learning_curves(history_of())


@pytest.fixture(scope="module")
def reliability() -> str:
    return figures.reliability(metrics_of(DIGITS))


@functools.cache
def confusion_png(names: tuple[str, ...]) -> bytes:
    return figures.confusion_png(metrics_of(names))


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314 - drawn by the line before
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_curves_show_training_validation_and_the_kept_epoch(curves: str) -> None:
    loss, accuracy = re.findall(r"<svg.*?</svg>", curves, flags=re.DOTALL)
    for svg, name in ((loss, "loss"), (accuracy, "accuracy, %")):
        assert {"training", "validation", "kept: epoch 8", "epoch", name} <= set(texts(svg))
    alone = figures.learning_curves(history_of(1, validation=False))
    assert "validation</text>" not in alone


def test_many_epochs_are_lines_without_marks() -> None:
    few, many = (figures.learning_curves(history_of(n)).count("<use") for n in (8, 41))
    assert many < few


@pytest.mark.slow
def test_confusions_of_a_thousand_classes_are_drawn_no_larger_than_they_can_be_read() -> None:
    classes, named = 1_000, 250
    metrics = measure(np.arange(classes), np.eye(classes, dtype=np.float32), [f"{k:03}" for k in range(classes)])
    svg = figures.confusion(metrics)
    assert 2_400 < float(re.search(r'viewBox="0 0 (\d+)', svg)[1]) < 2_600  # type: ignore[index]
    assert len(texts(svg)) == 2 * named + 2


def test_confusion_writes_numbers_only_where_they_can_be_read() -> None:
    metrics = metrics_of(DIGITS)
    shown = texts(figures.confusion(metrics))
    counts = [f"{n:,}" for row in metrics.confusion for n in row if n]
    assert sorted(shown) == sorted([*counts, *DIGITS, *DIGITS, "answered", "true class"])
    many = [f"c{k}" for k in range(figures.MOST_CLASSES_WITH_NUMBERS + 1)]
    assert sorted(texts(figures.confusion(metrics_of(many)))) == sorted(["answered", "true class", *many, *many])


def test_colours_and_fonts_are_the_pages(curves: str, reliability: str) -> None:
    drawn = curves + reliability
    assert "font-family" not in drawn
    assert set(re.findall(r"(?:fill|stroke): ?(#\w+)", drawn)) == set()
    assert "var(--first, #0d6f78)" in drawn


def test_long_and_strange_names_stay_in_bounds() -> None:
    svg = figures.confusion(metrics_of(["x" * 200, "$\\frac{", "<b>&\"'", "\u202eabc", "\x07", "字"]))
    assert "x" * 13 + "…" in texts(svg)
    assert {"$\\frac{", "<b>&\"'", "[U+202E]abc", "[U+0007]", "字"} <= set(texts(svg))


def test_names_that_look_like_what_is_taken_out_of_a_drawing_stay() -> None:
    names = ["font-family: a", ' id="mark"', "#0d6f78", "url(#a", 'href="#b']
    assert {*names} <= set(texts(figures.confusion(metrics_of(names))))


def require_picture(png: bytes) -> None:
    picture = imread(io.BytesIO(png), format="png")
    assert min(picture.shape[:2]) > 200
    assert picture[0, 0, :3].tolist() == [1, 1, 1]
    assert 0.2 < picture[..., :3].mean() < 1
    assert b"Software" not in png


@pytest.mark.parametrize("kind", ["digits", "undrawable", pytest.param("many", marks=pytest.mark.slow)])
def test_a_png_of_the_confusions_is_drawn(kind: str) -> None:
    require_picture(confusion_png(NAMES[kind]))


def test_a_png_of_the_learning_curves_is_drawn() -> None:
    require_picture(figures.learning_curves_png(history_of()))


def test_equal_input_gives_equal_bytes(curves: str, reliability: str) -> None:
    assert figures.confusion_png(metrics_of(DIGITS)) == confusion_png(DIGITS)
    assert figures.learning_curves(history_of()) == curves
    assert figures.reliability(metrics_of(DIGITS)) == reliability


def test_pictures_keep_every_pixel() -> None:
    pictures = np.array([digit(3), digit(8)])
    uris = drawing.picture_uris(pictures)
    for uri, picture in zip(uris, pictures, strict=True):
        png = base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
        shown = imread(io.BytesIO(png), format="png")[..., 0]
        assert shown.shape == (28, 28)
        np.testing.assert_allclose(shown, 1 - picture / 255, atol=1.5 / 255)


def test_pictures_of_all_types_are_stretched_to_grey() -> None:
    assert drawing.grey(np.array([[-2.0, 0.0, 2.0]])).tolist() == [[0, 127, 255]]
    assert drawing.grey(np.full((1, 2), 7, np.int32)).tolist() == [[0, 0]]
    assert drawing.grey(np.full((1, 2), 255, np.uint8)).tolist() == [[255, 255]], "black all over"
    assert drawing.grey(np.array([[3, 9], [0, 255]], np.uint8)).tolist() == [[0, 255], [0, 255]]
    assert drawing.grey(np.array([[0, 4], [100, 300]], ">i2")).tolist() == [[0, 255], [0, 255]], "each by itself"


def test_step_pictures_mark_a_step_only_where_there_are_several() -> None:
    image = digit(7)
    rows = np.arange(784).reshape(28, 28) // 49
    assert figures.steps(image, image.reshape(16, 49), rows).count('class="mark"') == 2
    assert figures.steps(image, image.reshape(1, 784), rows * 0).count('class="mark"') == 0
