"""The scan: the order in which an image's pixels become steps. A foundation: reshape and the served model share it.

The witness does not: it writes the order out for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.configuration import grid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.configuration import Reshape


def scan_order(settings: Reshape, item: tuple[int, ...]) -> NDArray[np.intp]:
    """Positions (pixels,) of an image's pixels in the order in which the steps take them.

    rows: as stored; columns: column by column, rows and columns as `grid_of` has them, a pixel's channels together;
    permuted: by the rank of a draw of PCG64 for each position, a stream that NumPy keeps stable between versions.
    """
    positions = np.arange(int(np.prod(item)), dtype=np.intp)
    if settings.scan == "columns":
        return positions.reshape(grid_of(item)).swapaxes(0, 1).reshape(-1)
    if settings.scan == "permuted":
        draws = np.random.PCG64(settings.scan_seed).random_raw(positions.size)
        return np.argsort(draws, kind="stable")
    return positions


def as_sequences(images: NDArray[Any], order: NDArray[np.intp], shape: tuple[int, int]) -> NDArray[Any]:
    """Sequences (n, T, F) of images (m, …), their pixels in scan order; shape is (T, F), m = n · T · F / pixels."""
    return np.ascontiguousarray(images.reshape(len(images), -1)[:, order]).reshape(-1, *shape)
