"""Where the points of the accuracy chart lie. Here: positions in pixels, the scale. Not here: drawing (the template).

One place a run, in the order in which runs were made. The scale is one of errors: equal distances are equal factors of
the share of wrong answers, so that 99.0 and 99.5 % stay apart where another run has 85 %.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tasks.site.records import Champions, Run

HEIGHT: Final = 280
LEFT, RIGHT, TOP, BOTTOM = 58, 58, 14, 36  # the scale stands on both sides, for a wide chart is moved sideways
SHAPES: Final = ("circle", "square", "diamond", "triangle", "cross")
_WIDEST_SLOT, _LEAST_SLOT, _NARROWEST_PLOT, _WIDE_PLOT = 56.0, 9.0, 230.0, 900.0
_TICKS_APART, _LARGEST_GAP, _DATES_APART = 26.0, 84.0, 96.0
_STEPS: Final = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 0.00005, 0.00001)
_MOST_OF_A_STEP: Final = 50


@dataclass(frozen=True)
class Point:
    """One run: its place, its interval's ends, its mark."""

    run: Run
    x: float
    y: float
    upper: float
    lower: float
    shape: str
    champion: bool


@dataclass(frozen=True)
class Chart:
    """Everything that the template draws of one dataset.

    Attributes:
        dataset: Its name.
        width: Of the drawing.
        points: The runs, the oldest first.
        ticks: (y, share) of the scale.
        dates: (x, text) below.
        line: Path of the champion's accuracy; "" where there is none.
        breaks: Where other test images begin: accuracies on the two sides cannot be compared.
        legend: (shape, preset).
    """

    dataset: str
    width: int
    height: int
    left: int
    right: int
    bottom: int
    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    dates: tuple[tuple[float, str], ...]
    line: str
    breaks: tuple[float, ...]
    legend: tuple[tuple[str, str], ...]


def chart_of(dataset: str, runs: Sequence[Run], champions: Champions) -> Chart:
    """The chart of a dataset's runs, given the newest first; those without an accuracy or a time are left out."""
    shown = [run for run in reversed(runs) if run.dataset == dataset and run.interval and run.created]
    slot = min(_WIDEST_SLOT, max(_LEAST_SLOT, _WIDE_PLOT / max(len(shown), 1)))
    plot = max(_NARROWEST_PLOT, slot * len(shown))
    places = [LEFT + slot * (i + 0.5) for i in range(len(shown))]
    scale, ticks = _scale(shown)
    shapes = _shapes(shown)
    return Chart(
        dataset=dataset,
        width=round(LEFT + plot + RIGHT),
        height=HEIGHT,
        left=LEFT,
        right=round(LEFT + plot),
        bottom=HEIGHT - BOTTOM,
        points=tuple(
            Point(
                run=run,
                x=round(x, 1),
                y=scale(run.accuracy or 0.0),
                upper=scale(run.interval[1]) if run.interval else 0.0,
                lower=scale(run.interval[0]) if run.interval else 0.0,
                shape=shapes[run.preset or ""],
                champion=champions.standing.get(dataset) == run.name,
            )
            for run, x in zip(shown, places, strict=True)
        ),
        ticks=ticks,
        dates=_dates(shown, places),
        line=_line(dataset, shown, champions, scale, slot),
        breaks=tuple(round(places[i] - slot / 2, 1) for i in _of_other_test_images(shown)),
        legend=_legend(shapes),
    )


def _shapes(shown: Sequence[Run]) -> dict[str, str]:
    """The mark of each preset, in the order in which they were first run; where there are more, the last share one."""
    presets = dict.fromkeys(run.preset or "" for run in shown)
    return {preset: SHAPES[min(i, len(SHAPES) - 1)] for i, preset in enumerate(presets)}


def _legend(shapes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Each mark and what it stands for."""
    presets = [*shapes]
    if len(presets) <= len(SHAPES):
        return tuple((shapes[preset], preset) for preset in presets)
    own = presets[: len(SHAPES) - 1]
    return (*((shapes[preset], preset) for preset in own), (SHAPES[-1], "other presets"))


def _of_other_test_images(shown: Sequence[Run]) -> Iterator[int]:
    """The places of runs that answered other test images than those before; runs that do not say are passed over."""
    known = [(i, run.test) for i, run in enumerate(shown) if run.test]
    return (i for (_, before), (i, test) in itertools.pairwise(known) if test != before)


def _scale(shown: Sequence[Run]) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """From a share to its y, and the ticks."""
    bounds = [bound for run in shown for bound in (run.interval or ())]
    wrong = [1 - bound for bound in bounds if bound < 1]
    least = min(wrong, default=0.01) / 2

    def height(share: float) -> float:
        return -math.log10(max(1 - share, least))

    low, high = height(min(bounds, default=0.0)), height(max(bounds, default=1.0))
    room = max(0.06 * (high - low), 0.02)
    low, high = low - room, high + room

    def y(share: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - height(share)) / (high - low), 1)

    ticks = _ticks(y, 1 - 10**-low, 1 - 10**-high)
    if 1.0 in bounds:  # it has no place on a scale of errors; where it is drawn, no other share is to be read
        whole = y(1.0)
        ticks = ((whole, "100"), *((place, text) for place, text in ticks if place - whole >= _TICKS_APART))
    return y, ticks


def _ticks(y: Callable[[float], float], lowest: float, highest: float) -> tuple[tuple[float, str], ...]:
    """Round shares between two that are so far apart that their texts can be read."""
    chosen: dict[float, str] = {}
    for shares in _candidates(lowest, highest):
        if _gap(chosen) <= _LARGEST_GAP:
            break
        for share in shares:
            place = y(share)
            if lowest <= share <= highest and all(abs(place - other) >= _TICKS_APART for other in chosen):
                chosen[place] = f"{100 * share:.6g}"
    return tuple(sorted(chosen.items()))


def _candidates(lowest: float, highest: float) -> Iterator[Iterable[float]]:
    """The roundest first: where wrong answers are 1, 2 or 5 of a power of ten; then, for narrow scales, multiples."""
    for parts in (1, 2, 5):
        yield [round(1 - parts * 10.0**-power, 7) for power in range(1, 7)]
    for step in _STEPS:
        yield _multiples(step, lowest, highest)


def _gap(chosen: Iterable[float]) -> float:
    """The largest distance between neighbours, the chart's edges included."""
    places = sorted([TOP, *chosen, HEIGHT - BOTTOM])
    return max(after - before for before, after in itertools.pairwise(places))


def _multiples(step: float, lowest: float, highest: float) -> Iterator[float]:
    """The shares between two that are multiples of a step, from above, at most so many."""
    last = math.floor(min(highest, 1 - step / 2) / step)
    first = max(math.ceil(max(lowest, 0.0) / step), last - _MOST_OF_A_STEP)
    for multiple in range(last, first - 1, -1):
        yield round(multiple * step, 7)


def _dates(shown: Sequence[Run], places: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """The dates below, as many as can be read; with the hour where all are of two days."""
    times = [run.created for run in shown if run.created]
    if not times:
        return ()
    form = "%-d %b %H:%M" if (times[-1] - times[0]).days < 2 else "%-d %b %Y"
    found: list[tuple[float, str]] = []
    for x, time in zip(places, times, strict=True):
        if not found or x - found[-1][0] >= _DATES_APART:
            found.append((round(x, 1), time.strftime(form)))
    return tuple(found)


def _line(
    dataset: str, shown: Sequence[Run], champions: Champions, scale: Callable[[float], float], slot: float
) -> str:
    """The accuracy of whoever was champion, a step a run.

    Interrupted where nobody was, where it is gone, and beside runs that answered other test images than it did; nothing
    where the history is damaged, and nobody knows who stood.
    """
    if dataset in champions.torn:
        return ""
    known = {run.name: run for run in shown}
    history = [(entry.at, entry.champion) for entry in champions.histories.get(dataset, ())]
    ends: list[datetime.datetime | None] = [run.created for run in shown[1:]]
    path, before = "", None
    for i, end in enumerate([*ends, None] if shown else []):
        stood = next((name for at, name in reversed(history) if end is None or at < end), None)
        champion = known.get(stood) if stood else None
        others = champion is not None and None not in {champion.test, shown[i].test} and champion.test != shown[i].test
        accuracy = champion.accuracy if champion and not others else None
        if accuracy is not None:
            start = "" if before is not None else f"M{LEFT + slot * i:.1f} {scale(accuracy)}"
            path += f"{start}V{scale(accuracy)}H{LEFT + slot * (i + 1):.1f}"
        before = accuracy
    return path
