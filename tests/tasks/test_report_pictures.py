"""The pictures of the report: upright, in the order of the network's steps, each drawn once."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.image import imread
from page_support import Page
from report_contents import contents_of, digit
from samples import drawn, labels_of, parsed

from schemas.configuration import Reshape, RunConfiguration
from tasks.drawing import grey
from tasks.publish import report
from tasks.publish.report import render, step_of_pixel
from tasks.publish.story import pictures
from tasks.scan import as_sequences, scan_order
from tasks.store import Store
from tasks.upright import upright

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tasks.publish.contents import ReportContents

pytestmark = pytest.mark.usefixtures("measures_drawn_once")


@pytest.fixture(scope="module")
def contents() -> ReportContents:
    return contents_of()


def stored_as(image: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """A digit in another type of IDX; wider ones with shades that no byte has."""
    return image if dtype == "u1" else (image.astype(np.float64) * 30 - 1000).astype(dtype)


def turned_and_scanned(scan: str, dtype: str = "u1", *, turned: bool) -> ReportContents:
    """The contents of a report whose first picture was read in this order, stored upright or turned."""
    reshape = Reshape.model_validate({"timesteps": 16, "scan": scan, "scan_seed": 5})
    stored = stored_as(digit(3, 1), dtype)
    places = np.arange(784)
    if scan == "columns":
        places = np.concatenate([np.arange(c, 784, 28) for c in range(28)])
    if scan == "permuted":
        places = np.argsort(np.random.PCG64(5).random_raw(784), kind="stable")
    [picture] = grey(stored[None])
    return contents_of(
        configuration=RunConfiguration(reshape=reshape),
        sequence=stored.reshape(-1)[places].reshape(16, 49),
        sequence_picture=picture.T if turned else picture,
        orientation="transposed" if turned else "upright",
    )


def test_what_the_network_saw_stands_beside_each_mistake(contents: ReportContents) -> None:
    seen = "The same as the network saw it"
    page = Page(render(contents))
    assert seen not in page.values("alt")  # rows of rows: the picture itself
    assert "The network saw these very pictures, a row at a step" in page.words
    columns = contents_of(reshape=Reshape(timesteps=16, scan="columns"))
    words = Page(render(columns))
    assert words.values("alt").count(seen) == len(columns.metrics.worst)
    assert "16 steps downwards, 49 pixels across" in words.words


def test_pictures_of_wide_pixels_that_the_network_saw_as_they_are_stand_alone(contents: ReportContents) -> None:
    """Both are stretched each by itself, so that they are equal where the network read rows."""
    stored = np.array([stored_as(picture, ">i2") for picture in contents.pictures])
    stored[0] //= 7
    words = Page(render(dataclasses.replace(contents, pictures=grey(stored), seen=stored))).words
    assert "The network saw these very pictures, a row at a step" in words


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">f4"])
@pytest.mark.parametrize("scan", ["rows", "columns", "permuted"])
@pytest.mark.parametrize("turned", [False, True])
def test_steps_of_pixels_are_those_of_the_sequence(scan: str, dtype: str, *, turned: bool) -> None:
    """Reading the picture's pixels of step t gives the t-th row of the sequence, up to their order."""
    contents = turned_and_scanned(scan, dtype, turned=turned)
    steps = step_of_pixel(contents)
    [grey_sequence] = grey(contents.sequence[None])
    for t in range(16):
        assert sorted(contents.sequence_picture[steps == t].tolist()) == sorted(grey_sequence[t].tolist())


@pytest.mark.parametrize(
    "scan", [*(pytest.param(scan, marks=pytest.mark.slow) for scan in ("rows", "columns")), "permuted"]
)
@pytest.mark.parametrize("turned", [pytest.param(False, marks=pytest.mark.slow), True])
def test_one_step_is_marked_in_both_pictures(scan: str, *, turned: bool) -> None:
    assert render(turned_and_scanned(scan, turned=turned)).count('class="mark"') == 2


def test_one_step_is_marked_where_pixels_are_no_bytes() -> None:
    """Whatever shades the picture was given: nothing is found out by comparing."""
    contents = turned_and_scanned("rows", ">i2", turned=True)
    darker = dataclasses.replace(contents, sequence_picture=contents.sequence_picture // 2)
    assert render(darker).count('class="mark"') == 2


def stored_in(item: tuple[int, ...], reshape: Reshape) -> ReportContents:
    """The contents of a report whose first image, of this shape, is a ramp."""
    image = np.arange(math.prod(item), dtype=">i2").reshape(1, *item)
    base = contents_of(reshape=Reshape())
    return dataclasses.replace(
        base,
        configuration=RunConfiguration(reshape=reshape),
        receipt=base.receipt.model_copy(update={"image_shape": item, "image_dtype": ">i2"}),
        sequence=as_sequences(image, scan_order(reshape, item), reshape.sequence_shape(item))[0],
        sequence_picture=grey(upright(image, item, "upright"))[0],
        seen=None,
    )


@pytest.mark.parametrize(
    ("item", "said"),
    [((784,), "784"), ((1, 28, 28), "1 × 28 × 28"), ((28, 28, 1), "28 × 28 × 1"), ((28, 28), "28 × 28")],
)
@pytest.mark.parametrize("scan", ["rows", "columns"])
def test_images_are_drawn_in_rows_and_columns_and_told_as_they_are_stored(
    item: tuple[int, ...], said: str, scan: str
) -> None:
    contents = stored_in(item, Reshape.model_validate({"scan": scan}))
    lines = np.arange(28)
    expected = np.broadcast_to(lines[:, None] if scan == "rows" else lines, (28, 28))
    np.testing.assert_array_equal(step_of_pixel(contents), expected)
    words = Page(render(contents)).words
    assert f"The first test image, stored as {said} values, and the array" in words
    assert "the image, 28 × 28" in words
    assert "Its 784 pixels are read in 28 steps" in words


@pytest.mark.parametrize(("scan", "timesteps"), [("rows", 0), ("columns", 0), ("rows", 4 * 6 * 3), ("permuted", 4)])
def test_a_step_is_marked_in_a_picture_in_colour_only_where_whole_pixels_went_to_it(scan: str, timesteps: int) -> None:
    contents = stored_in((4, 6, 3), Reshape.model_validate({"scan": scan, "timesteps": timesteps}))
    page = render(contents)
    assert contents.sequence_picture.shape == (4, 6)
    assert page.count('class="mark"') == (0 if timesteps else 2)
    steps = step_of_pixel(contents)
    if steps is not None:
        np.testing.assert_array_equal(steps, np.indices((4, 6))[int(scan == "columns")])
    words = Page(page).words
    assert "stored as 4 × 6 × 3 values and drawn as the mean of its channels" in words
    assert "Its 72 values are read in" in words


def bytes_of(uri: str) -> NDArray[np.uint8]:
    """The shades of a PNG, ink 255."""
    shown = imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))), format="png")
    return 255 - np.rint(255 * shown[..., 0]).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["u1", ">i2"])
@pytest.mark.parametrize("orientation", ["upright", "transposed"])
def test_frames_are_shown_upright(dtype: str, orientation: str) -> None:
    reshape = Reshape(layout="frames", timesteps=3, scan="columns")
    upright = [digit(k)[4:24] for k in (7, 2, 4)]  # (20, 28): what is turned has another shape
    stored = np.array([stored_as(image.T if orientation == "transposed" else image, dtype) for image in upright])
    base = contents_of(reshape=Reshape(layout="frames", timesteps=3))
    contents = dataclasses.replace(
        base,
        configuration=RunConfiguration(reshape=reshape),
        receipt=base.receipt.model_copy(update={"image_shape": stored.shape[1:], "image_dtype": stored.dtype.str}),
        sequence=stored.transpose(0, 2, 1).reshape(3, -1),
        sequence_picture=np.zeros((20, 28), np.uint8),
        orientation=orientation,
    )
    page = Page(render(contents))
    shown = [a["src"] or "" for _, a in page.tags if (a.get("alt") or "").startswith("Step")]
    for uri, image in zip(shown, grey(np.array(upright)), strict=True):
        np.testing.assert_allclose(bytes_of(uri).astype(int), image, atol=2)


def test_pictures_are_upright_and_each_has_all_shades(tmp_path: Path) -> None:
    """One that is bright by itself does not make the others dark."""
    store, images = Store(tmp_path), drawn(60, dtype="i2") // 100
    images[7] *= 50
    table = parsed(store, images, labels_of(60))
    [first, bright] = pictures(store, table, [0, 7], "transposed")
    assert first.shape == bright.shape == (6, 4)
    for shown, stored in ((first, images[0]), (bright, images[7])):
        wide = stored.T.astype(float)
        np.testing.assert_array_equal(shown, ((wide - wide.min()) / (wide.max() - wide.min()) * 255).astype(np.uint8))


@pytest.mark.parametrize("item", [(24,), (1, 4, 6), (4, 6, 1)])
def test_pictures_of_images_without_two_axes_have_rows_and_columns(tmp_path: Path, item: tuple[int, ...]) -> None:
    store = Store(tmp_path)
    table = parsed(store, drawn(20, item), labels_of(20))
    np.testing.assert_array_equal(pictures(store, table, [3, 5], "upright"), grey(drawn(20)[[3, 5]]))


def test_pictures_in_colour_are_grey(tmp_path: Path) -> None:
    store, images = Store(tmp_path), drawn(20, (4, 6, 3))
    [picture] = pictures(store, parsed(store, images, labels_of(20)), [3], "upright")
    np.testing.assert_array_equal(picture, grey(images[3:4].mean(3).astype("u1"))[0])


def test_each_picture_is_drawn_once(contents: ReportContents, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[int]()
    monkeypatch.setattr(report, "picture_uris", lambda pictures: calls.append(len(pictures)) or [""] * len(pictures))
    render(contents)
    assert contents.suspects is not None
    assert sorted(calls) == sorted([len(contents.pictures), len(contents.suspects)])
