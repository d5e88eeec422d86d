"""Images of every shape come out as the rows and columns that people look at."""

from __future__ import annotations

import numpy as np
import pytest
from samples import drawn

from tasks.upright import upright

IMAGES = drawn(5)


@pytest.mark.parametrize("item", [(4, 6), (24,), (1, 4, 6), (4, 6, 1), (4, 1, 6)])
def test_an_image_of_one_value_a_pixel_is_the_same_however_it_is_stored(item: tuple[int, ...]) -> None:
    stored = IMAGES.reshape(5, *item)
    np.testing.assert_array_equal(upright(stored, item, "upright"), IMAGES)
    np.testing.assert_array_equal(upright(stored.reshape(5, -1), item, "transposed"), IMAGES.transpose(0, 2, 1))


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">i4", ">f4", ">f8"])
@pytest.mark.parametrize("orientation", ["upright", "transposed"])
def test_a_pixel_in_colour_is_the_mean_of_its_channels(dtype: str, orientation: str) -> None:
    stored = drawn(5, (4, 6, 3)).astype(dtype)
    shown = upright(stored, (4, 6, 3), orientation)
    turned = shown.transpose(0, 2, 1) if orientation == "transposed" else shown
    assert shown.dtype == stored.dtype
    assert turned.shape == (5, 4, 6)
    np.testing.assert_allclose(turned, stored.astype(float).mean(3), atol=0 if "f" in dtype else 1, rtol=1e-6)


def test_planes_stand_under_each_other() -> None:
    stored = drawn(5, (3, 8, 6))
    np.testing.assert_array_equal(upright(stored, (3, 8, 6), "upright"), stored.reshape(5, 24, 6))
    assert upright(stored, (3, 8, 6), "transposed").shape == (5, 6, 24)


def test_the_largest_integers_are_not_rounded() -> None:
    stored = np.array([[2**31 - 1, 2**31 - 2]], ">i4")
    np.testing.assert_array_equal(upright(stored, (1, 2), "upright").reshape(1, 2), stored)
