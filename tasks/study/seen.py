"""What steps see, as pictures and in words. Not here: how a picture is drawn (figures), the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.configuration import Reshape, grid_of
from tasks.scan import scan_order
from tasks.study.figures import step_picture
from tasks.wording import counted, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.configuration import Scan

_SHOWN_STEPS: Final = 4
_EVERY_STEP: Final = 28  # pictures, and no more, even of a T that is shown whole


@dataclass(frozen=True)
class Tile:
    """One step: its number from 1, its picture as a data URI, and in words which pixels it sees."""

    step: int
    picture: str
    seen: str


@dataclass(frozen=True)
class Strip:
    """Some steps of one T."""

    timesteps: int
    features: int
    tiles: tuple[Tile, ...]


def strips(image: NDArray[np.uint8], scan: Scan, timesteps: list[int], whole: int, *, transposed: bool) -> list[Strip]:
    """What steps of each T see of an image: every one of the `whole` T, of the others some, evenly spaced."""
    upright, found = _drawn(image, transposed=transposed), []
    for t in timesteps:
        step_of = step_map(image.shape, scan, t)
        most = _EVERY_STEP if t == whole else _SHOWN_STEPS
        shown = sorted({round(k) for k in np.linspace(0, t - 1, min(t, most))})
        seen = [_turned((step_of == k).any(axis=2), transposed=transposed) for k in shown]
        tiles = [Tile(k + 1, step_picture(upright, mask), seen_told(mask)) for k, mask in zip(shown, seen, strict=True)]
        found.append(Strip(t, image.size // t, tuple(tiles)))
    return found


def group(images: NDArray[np.uint8], labels: tuple[str, ...], *, transposed: bool) -> tuple[tuple[str, str], ...]:
    """Whole images, each with its class: what the advice takes for the steps of one sequence."""
    drawn = (_drawn(image, transposed=transposed) for image in images)
    return tuple(
        (label, step_picture(image, np.ones(image.shape, np.bool_)))
        for label, image in zip(labels, drawn, strict=False)
    )


def step_map(item: tuple[int, ...], scan: Scan, timesteps: int) -> NDArray[np.intp]:
    """(rows, columns, channels): the step, from 0, that reads each value of an image as stored."""
    order = scan_order(Reshape(timesteps=1, scan=scan), item)
    step_of = np.empty(order.size, np.intp)
    step_of[order] = np.arange(order.size) // (order.size // timesteps)
    return step_of.reshape(grid_of(item))


def seen_told(seen: NDArray[np.bool_]) -> str:
    """Which pixels (rows, columns) a step sees: whole rows or columns, a stretch of pixels, or some in these rows."""
    for told, lines in (("row", seen), ("column", seen.T)) if min(seen.shape) > 1 else ():
        whole = np.flatnonzero(lines.all(axis=1))
        if len(whole) and lines.sum() == len(whole) * lines.shape[1] and np.ptp(whole) == len(whole) - 1:
            return _stretch(told, whole)
    places = np.flatnonzero(seen)
    if len(places) and np.ptp(places) == len(places) - 1:
        return _stretch("pixel", places)
    return f"{counted(len(places), 'pixel')} in {_stretch('row', np.flatnonzero(seen.any(axis=1)))}"


def _stretch(what: str, places: NDArray[np.intp]) -> str:
    first, last = int(places[0]) + 1, int(places[-1]) + 1
    return f"{what} {first}" if first == last else f"{what}s {number(first)} to {number(last)}"


def _drawn(image: NDArray[np.uint8], *, transposed: bool) -> NDArray[np.uint8]:
    """An image (rows, columns) upright; of more than one channel their mean."""
    mean = image.reshape(grid_of(image.shape)).mean(axis=2).astype(np.uint8)
    return _turned(mean, transposed=transposed)


def _turned(picture: NDArray[Any], *, transposed: bool) -> NDArray[Any]:
    return picture.T if transposed else picture
