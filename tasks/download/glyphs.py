"""Digits that the project draws itself: five faces, distorted, as honest IDX files, the same bytes on every machine.

Only IEEE-exact operations are used (+ - * / and square roots of float64, element by element, minima, comparisons), a
rotation by its rational parametrisation, and raw words of PCG64, whose stream NumPy keeps. No sine, no matrix product,
no floating-point sum whose order may vary: so the digests in the catalog hold for any processor and NumPy.
Not here: the digests themselves (the catalog).
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tasks.idx import write_idx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Role, Split

    Floats = NDArray[np.float64]
    Point = tuple[float, float]
    Stroke = list[Point]

ROWS: Final[dict[Split, int]] = {"train": 12_000, "test": 2_000}
SIDE: Final = 28
CLASSES: Final = 10

_SEEDS: Final[dict[Split, int]] = {"train": 2015, "test": 1998}
_BATCH: Final = 1000
_FIELD: Final = 65  # points along a side of a distance field
_STEP: Final = 0.375  # pixels between its points
_REACH: Final = (_FIELD - 1) / 2 * _STEP
_WORD: Final = float(2**53)


def draw_file(split: Split, role: Role, path: Path) -> Path:
    """Write one of the four files.

    Images are (N, 28, 28) uint8, ink on 0; labels (N,) uint8, as many of each class.
    """
    write_idx(path, images(split) if role == "images" else labels(split))
    return path


def labels(split: Split) -> NDArray[np.uint8]:
    """The classes (N,), balanced, in an order that the seed decides."""
    rows = ROWS[split]
    order = np.argsort(np.random.PCG64(_SEEDS[split]).random_raw(rows), kind="stable")
    return (order % CLASSES).astype(np.uint8)


def images(split: Split) -> NDArray[np.uint8]:
    """The pictures (N, 28, 28) of `labels`."""
    fields = _fields()
    stream = np.random.PCG64(_SEEDS[split] + 1)
    classes = labels(split)
    drawn = np.empty((len(classes), SIDE, SIDE), np.uint8)
    for start in range(0, len(classes), _BATCH):
        batch = slice(start, start + _BATCH)
        drawn[batch] = _drawn(fields, classes[batch], stream)
    return drawn


def _drawn(fields: Floats, classes: NDArray[np.uint8], stream: np.random.PCG64) -> NDArray[np.uint8]:
    """Draw a batch (n, 28, 28): look every pixel up in its glyph's distance field, through the distortion."""
    n = len(classes)
    chance = _Chance(stream, n)
    face = (chance.uniform() * len(fields)).astype(np.intp)
    x, y = _undistorted(chance)
    distance = _looked_up(fields[face, classes], x, y)
    half_width = chance.between(0.7, 1.5)
    softness = chance.between(0.6, 1.1)
    ink = np.clip((half_width - distance) / softness + 0.5, 0.0, 1.0)
    ink = ink * chance.between(150.0, 255.0)
    noise = _noise(stream, n) * chance.between(0.0, 0.4)
    return np.clip(ink + noise, 0.0, 255.0).astype(np.uint8)


class _Chance:
    """One number for every picture of a batch, shaped (n, 1, 1), from raw words of the stream."""

    def __init__(self, stream: np.random.PCG64, n: int) -> None:
        self._stream = stream
        self._n = n

    def uniform(self) -> Floats:
        """Numbers in [0, 1), shaped (n,)."""
        words: NDArray[np.uint64] = self._stream.random_raw(self._n)
        return (words >> np.uint64(11)).astype(np.float64) / _WORD

    def between(self, low: float, high: float) -> Floats:
        """Numbers in [low, high)."""
        return (low + (high - low) * self.uniform()).reshape(-1, 1, 1)

    def around_zero(self, most: float) -> Floats:
        """Numbers in (-most, most), those near zero likelier: the mean of two."""
        return (self.between(-most, most) + self.between(-most, most)) / 2.0


def _undistorted(chance: _Chance) -> tuple[Floats, Floats]:
    """Where in the glyph's own plane each pixel lies: coordinates (n, 28, 28), in pixels from its middle.

    The distortion shifts, rotates by up to 15 degrees, shears, and scales both axes. A rotation by the angle a is
    ((1 - t²) / (1 + t²), 2t / (1 + t²)) with t = tan(a / 2), exact to the last bit everywhere.
    """
    grid = np.arange(SIDE, dtype=np.float64) - (SIDE - 1) / 2
    across = grid.reshape(1, 1, SIDE) - chance.around_zero(2.0)
    down = grid.reshape(1, SIDE, 1) - chance.around_zero(2.0)
    t = chance.around_zero(0.13)
    cosine, sine = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    x = cosine * across + sine * down
    y = cosine * down - sine * across
    x = x + chance.around_zero(0.25) * y
    return x / chance.between(0.85, 1.15), y / chance.between(0.9, 1.1)


def _looked_up(fields: Floats, x: Floats, y: Floats) -> Floats:
    """Distances at coordinates (n, 28, 28), interpolated in the fields (n, side, side) of their glyphs."""
    column = np.clip((x + _REACH) / _STEP, 0.0, _FIELD - 1.001)
    row = np.clip((y + _REACH) / _STEP, 0.0, _FIELD - 1.001)
    left, top = column.astype(np.intp), row.astype(np.intp)
    right, low = column - left, row - top
    flat = fields.reshape(-1)
    at = np.arange(len(fields), dtype=np.intp).reshape(-1, 1, 1) * (_FIELD * _FIELD) + top * _FIELD + left
    above = flat[at] + right * (flat[at + 1] - flat[at])
    below = flat[at + _FIELD] + right * (flat[at + _FIELD + 1] - flat[at + _FIELD])
    distances: Floats = above + low * (below - above)
    return distances


def _noise(stream: np.random.PCG64, n: int) -> Floats:
    """Grain (n, 28, 28) in -128..127, one byte of the stream a pixel."""
    words: NDArray[Any] = stream.random_raw(n * SIDE * SIDE // 8)
    grain = words.astype("<u8").view(np.uint8).reshape(n, SIDE, SIDE)
    return grain.astype(np.float64) - 128.0


@functools.cache
def _fields() -> Floats:
    """Distance to the nearest stroke (faces, classes, side, side), in pixels, around each glyph's middle."""
    return np.stack([np.stack([_field(strokes) for strokes in face]) for face in _faces()])


def _field(strokes: Sequence[Stroke]) -> Floats:
    grid = np.arange(_FIELD, dtype=np.float64) * _STEP - _REACH
    x, y = grid.reshape(1, -1), grid.reshape(-1, 1)
    nearest = np.full((_FIELD, _FIELD), 4 * _REACH * _REACH)
    for stroke in strokes:
        for (x0, y0), (x1, y1) in itertools.pairwise(stroke):
            if (x0, y0) == (x1, y1):  # where an arc joins a line
                continue
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
            across, down = x - (x0 + along * dx), y - (y0 + along * dy)
            nearest = np.minimum(nearest, across * across + down * down)
    distances: Floats = np.sqrt(nearest)
    return distances


def _faces() -> tuple[tuple[list[Stroke], ...], ...]:
    """The faces, each ten glyphs; x runs right from -5 to 5, y down from -8 to 8."""
    slanted = tuple([[(x - 0.3 * y, y) for x, y in stroke] for stroke in glyph] for glyph in _written())
    return (_seven_segments(), _round(), slanted, _blocks(), _bookish())


def _arc(x: float, y: float, rx: float, ry: float, first: int, quarters: int) -> Stroke:
    """Quarters of an ellipse round (x, y), clockwise from the quarter turn `first` (0 right, 1 down, 2 left, 3 up)."""
    points: Stroke = []
    turns = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
    for quarter in range(first, first + quarters):
        a, b, c, d = turns[quarter % 4]
        for step in range(5):
            t = step / 4
            u, v = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
            points.append((x + rx * (a * u + b * v), y + ry * (c * u + d * v)))
    return points


def _seven_segments() -> tuple[list[Stroke], ...]:
    """As pocket calculators show them; the segments do not touch."""
    bars: dict[str, Stroke] = {
        "a": [(-3.5, -8), (3.5, -8)],
        "b": [(4.5, -7), (4.5, -1)],
        "c": [(4.5, 1), (4.5, 7)],
        "d": [(-3.5, 8), (3.5, 8)],
        "e": [(-4.5, 1), (-4.5, 7)],
        "f": [(-4.5, -7), (-4.5, -1)],
        "g": [(-3.5, 0), (3.5, 0)],
    }
    lit = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcfgd")
    return tuple([bars[name] for name in names] for names in lit)


def _round() -> tuple[list[Stroke], ...]:
    """A plain sans-serif of circles and straight lines."""
    return (
        [_arc(0, 0, 5, 8, 0, 4)],
        [[(-2.5, -5), (0.5, -8), (0.5, 8)]],
        [[*_arc(0, -3.5, 4.5, 4.5, 2, 2), *_arc(0, -3.5, 4.5, 3.5, 0, 1)[:3], (-4.5, 8), (4.8, 8)]],
        [[*_arc(-0.5, -4, 4.5, 4, 2, 3)], [*_arc(-0.5, 4, 5, 4, 3, 3)]],
        [[(2, 8), (2, -8), (-5, 3.5), (5, 3.5)]],
        [[(4, -8), (-3.5, -8), (-4, -0.5)], [(-4, -0.5), *_arc(-0.5, 3, 5, 5, 3, 3)]],
        [_arc(0, 3, 4.7, 5, 0, 4), [(-4.7, 3), (-4, -2), (-1.5, -6), (2.5, -8)]],
        [[(-4.5, -8), (4.5, -8), (-1.5, 8)]],
        [_arc(0, -4.2, 3.8, 3.8, 0, 4), _arc(0, 3.8, 4.8, 4.2, 0, 4)],
        [_arc(0, -3, 4.7, 5, 0, 4), [(4.7, -3), (4, 2), (1.5, 6), (-2.5, 8)]],
    )


def _written() -> tuple[list[Stroke], ...]:
    """As written by hand: an open four, a crossed seven, loops in two and eight."""
    return (
        [_arc(0, 0, 4, 7.5, 3, 4), [(0, -7.5), (2.5, -8.5)]],
        [[(0, -8), (0, 8)]],
        [
            [*_arc(0, -4, 4, 4, 2, 3), (-3, 6)],
            [*_arc(-2.8, 6, 1.6, 1.6, 1, 3), (0, 6), (4.5, 8)],
        ],
        [[(-4, -8), (4, -8), (0, -1.5), *_arc(0, 3.2, 4.5, 4.7, 3, 3)]],
        [[(-3.5, -8), (-4.5, 1.5), (4.5, 1.5)], [(2.5, -4), (2.5, 8)]],
        [[(-3, -7), (-4, -1), *_arc(-0.5, 3.5, 4.5, 4.5, 3, 3)], [(-3, -7), (4.5, -8)]],
        [[(3, -8), (-1, -5), (-4, 1), (-4, 4)], _arc(0, 4, 4, 4, 0, 4)],
        [[(-4.5, -6.5), (-4, -8), (4.5, -8), (0, 8)], [(-2, 0), (4.5, 0)]],
        [
            [
                (3.5, -6.5),
                (0, -8),
                (-3.5, -5),
                (3.5, 3),
                (2.5, 7),
                (-0.5, 8),
                (-3.5, 5),
                (-2, 1),
                (3.5, -3.5),
                (3.5, -6.5),
            ]
        ],
        [_arc(0, -4, 3.8, 4, 0, 4), [(3.8, -5), (3.8, 8)]],
    )


def _blocks() -> tuple[list[Stroke], ...]:
    """Corners cut off, no curve, as on jerseys."""
    ring: Stroke = [(-2, -8), (2, -8), (5, -5), (5, 5), (2, 8), (-2, 8), (-5, 5), (-5, -5), (-2, -8)]
    return (
        [ring, [(-1, 2), (1, -2)]],
        [[(-3, -6), (0, -8), (0, 8)], [(-3.5, 8), (3.5, 8)]],
        [[(-5, -5), (-2, -8), (2, -8), (5, -5), (5, -2), (-5, 6), (-5, 8), (5, 8)]],
        [[(-5, -8), (5, -8), (0.5, -1.5), (2.5, -1.5), (5, 1), (5, 5), (2, 8), (-2, 8), (-5, 5)]],
        [[(-5, -8), (-5, 0), (5, 0)], [(5, -8), (5, 8)]],
        [[(5, -8), (-5, -8), (-5, -2), (2, -2), (5, 1), (5, 5), (2, 8), (-5, 8)]],
        [[(5, -8), (-2, -8), (-5, -5), (-5, 5), (-2, 8), (2, 8), (5, 5), (5, 2), (2, -1), (-5, -1)]],
        [[(-5, -5), (-5, -8), (5, -8), (5, -5), (0, 1), (0, 8)]],
        [
            [(-2, -8), (2, -8), (4.5, -6), (4.5, -2), (2, 0), (-2, 0), (-4.5, -2), (-4.5, -6), (-2, -8)],
            [(2, 0), (5, 2), (5, 6), (2, 8), (-2, 8), (-5, 6), (-5, 2), (-2, 0)],
        ],
        [[(-5, 8), (2, 8), (5, 5), (5, -5), (2, -8), (-2, -8), (-5, -5), (-5, -2), (-2, 1), (5, 1)]],
    )


def _bookish() -> tuple[list[Stroke], ...]:
    """Narrow, with feet, and old-style: 0, 1 and 2 small, 6 and 8 tall, the others hanging."""
    return (
        [_arc(0, 2.5, 4, 5, 0, 4)],
        [[(-2.5, -1), (0, -2.5), (0, 7.5)], [(-2.5, 7.5), (2.5, 7.5)]],
        [[*_arc(0, 0.5, 3.5, 3, 2, 3)[:11], (-4, 7.5), (4, 7.5), (4, 6)]],
        [_arc(-0.5, -1, 3.5, 3, 2, 3), _arc(-0.5, 5, 4, 3, 3, 3)],
        [[(1.5, -5), (-4.5, 4.5), (4.5, 4.5)], [(1.5, -5), (1.5, 8)], [(-0.5, 8), (3.5, 8)]],
        [[(3.5, -5), (-2.5, -5), (-3, 0.5), *_arc(-0.5, 4, 4, 4, 3, 3)], [(3.5, -5), (3.5, -6.5)]],
        [_arc(0, 3.5, 4, 4, 0, 4), [(-4, 3.5), (-3.5, -2), (0, -6.5), (3.5, -8)]],
        [[(-4, -3), (-4, -5), (4, -5), (-0.5, 8)], [(-2, 8), (1, 8)]],
        [_arc(0, -4.5, 3, 3.3, 0, 4), _arc(0, 3.2, 4, 4.4, 0, 4)],
        [_arc(0, -1, 4, 4, 0, 4), [(4, -1), (3.5, 4), (0, 7.5), (-3.5, 8.5)]],
    )
