"""Upright: images of any shape as the rows and columns that people look at. A foundation. Not here: shades, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.configuration import grid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def upright(images: NDArray[Any], item: tuple[int, ...], orientation: str) -> NDArray[Any]:
    """Images of shape `item`, in the order of the file, as they are drawn.

    Args:
        images: (K, …), K · pixels values of any type.
        item: The shape of one as it is stored; its rows and columns are those of `grid_of`.
        orientation: "transposed" where the file holds columns as rows.

    Returns:
        (K, rows, columns) of the same type; of a pixel that has channels their mean.
    """
    stored = images.reshape(len(images), *grid_of(item))
    # Where there is one value it stays as it is, since a mean would round the largest integers.
    pixels = stored[..., 0] if stored.shape[-1] == 1 else np.mean(stored, -1, np.float64).astype(images.dtype)
    return pixels.transpose(0, 2, 1) if orientation == "transposed" else pixels
