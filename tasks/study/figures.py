"""The figures of a study. Not here: the page and its words; how every figure is drawn (tasks/drawing)."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.study import RECIPES
from tasks.drawing import FIRST, INK, MUTED, NO_NAMES, SECOND, as_png, as_svg, data_uri, drawing, new_figure
from tasks.study.summary import blank_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from schemas.configuration import Scan
    from tasks.study.summary import Setting, Summary

COLOURS: Final[dict[str, str]] = {"question": SECOND, "sound": FIRST}
# Told apart without colours too: hollow squares and full circles, one visible behind the other where they agree.
MARKERS: Final[dict[str, dict[str, Any]]] = {
    "question": {"marker": "s", "fillstyle": "none", "markersize": 8},
    "sound": {"marker": "o"},
}
_MARKS: Final = 8  # of a line that has a value at every step
_WIDTH, _HEIGHT = 410, 280
_TINT: Final = np.array([255.0, 214.0, 165.0])  # paper of the pixels that a step sees
_FADED: Final = 0.22
LEAST_LABELS: Final = 2  # of an axis: one alone does not say how far it goes


def accuracy(summary: Summary, scan: Scan) -> str:
    """Accuracy on the images held out against T, both recipes, with intervals."""
    with drawing():
        title = f"Accuracy against the number of time steps, scan {scan}, both recipes"
        return as_svg(_accuracy(summary, scan), f"accuracy-{scan}", title)


def accuracy_png(summary: Summary) -> bytes:
    """The same for the first scan, for the Prefect UI."""
    with drawing():
        return as_png(_accuracy(summary, summary.scans[0]))


def parameters(summary: Summary) -> str:
    """Weights of the LSTM layer against T."""
    series = _first_series(summary)
    points = [(setting.timesteps, setting.results[0].lstm_parameters) for setting in series]
    with drawing():
        figure, axes = _axes(summary, "weights of the LSTM layer")
        axes.plot(*zip(*points, strict=True), "o-", color=FIRST)
        axes.set_ylim(0, 1.08 * max(weights for _, weights in points))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return as_svg(figure, "parameters", "Weights of the LSTM layer against the number of time steps")


def saturation(summary: Summary) -> str:
    """Share of saturated gates before training, both recipes, first scan."""
    with drawing():
        figure, axes = _axes(summary, "saturated gates, %")
        _by_recipe(axes, summary, lambda setting: 100 * setting.saturated)
        axes.set_ylim(-3, 103)
        return as_svg(figure, "saturation", "Share of saturated gates before training, raw and scaled pixels")


def output_gradient(summary: Summary) -> str:
    """Norm of the loss's gradient at the logits before training, both recipes, first scan."""
    with drawing():
        figure, axes = _axes(summary, "gradient at the output")
        _by_recipe(axes, summary, lambda setting: setting.output_gradient)
        axes.set_yscale("log")
        drawn = [s.output_gradient for s in summary.settings if s.scan == summary.scans[0] and s.output_gradient > 0]
        axes.set_ylim(min([1e-3, *(each / 2 for each in drawn)]), max([10, *(2 * each for each in drawn)]))
        _label(axes)
        return as_svg(figure, "loss", "Norm of the gradient that each recipe's loss gives to the output")


def gradient(summary: Summary) -> str:
    """Gradient at the first quarter of the steps over that at the last, with usual and with chrono biases."""
    with drawing():
        figure, axes = _axes(summary, "first quarter ÷ last quarter")
        drawn = [1.0]
        for recipe in RECIPES:
            found = [(s.timesteps, s.gradient_ratio) for s in summary.series(summary.scans[0], recipe)]
            drawn += _draw_ratios(axes, found, recipe, "-")
        chrono = [(s.timesteps, s.gradient_ratio_chrono) for s in summary.series(summary.scans[0], "sound")]
        drawn += _draw_ratios(axes, chrono, "sound, chrono biases", ":")
        axes.set_yscale("log")
        axes.set_ylim(max(min(drawn), 1e-120) / 10, 10 * max(drawn))
        _label(axes)
        _legend(axes)
        return as_svg(figure, "gradient", "Share of the gradient that reaches the first quarter of the steps")


def time(summary: Summary) -> str:
    """Seconds that an epoch of 10,000 images takes, both recipes, first scan."""
    with drawing():
        figure, axes = _axes(summary, "seconds, 10,000 images")
        _by_recipe(axes, summary, lambda setting: setting.seconds_of_ten_thousand)
        axes.set_yscale("log")
        _label(axes)
        return as_svg(figure, "time", "Time of an epoch for each 10,000 images against the number of time steps")


def after_each_step(summary: Summary, timesteps: int, scans: Sequence[Scan]) -> str:
    """Accuracy after k of T steps, both recipes; one line a scan."""
    with drawing():
        figure = new_figure(_WIDTH, _HEIGHT)
        axes = figure.subplots()
        for scan, style in zip(scans, ("-", "--", ":"), strict=False):
            for recipe in RECIPES:
                for setting in summary.series(scan, recipe):
                    if setting.timesteps == timesteps:
                        after = [100 * share for share in setting.accuracy_after]
                        marks = {**MARKERS[recipe], "markevery": max(1, timesteps // _MARKS), "markersize": 5}
                        look = {"color": COLOURS[recipe], "label": f"{recipe}, {scan}", **marks}
                        axes.plot(range(1, len(after) + 1), after, style, **look)
        _mark_blank_tail(axes, [s for s in summary.settings if s.timesteps == timesteps and s.scan == scans[0]])
        axes.set_xlabel(f"steps read, of {timesteps}")
        axes.set_ylabel("right so far, %")
        axes.set_ylim(0, 102)
        axes.set_xlim(0, timesteps + 1)
        axes.grid(visible=True, axis="y")
        _legend(axes, columns=2)
        return as_svg(figure, f"after-{timesteps}", f"Accuracy after each of {timesteps} steps")


def _mark_blank_tail(axes: Axes, settings: Sequence[Setting]) -> None:
    """The steps at the end in which the median image has no ink, on a tint."""
    if settings and (steps := blank_steps(settings[0])):
        timesteps = settings[0].timesteps
        axes.axvspan(timesteps - steps + 0.5, timesteps + 0.5, color=INK, alpha=0.08, linewidth=0)
        axes.text(timesteps - steps + 0.5, 3, f"no ink, {settings[0].scan} ", ha="right", fontsize="small")


def step_picture(image: NDArray[np.uint8], seen: NDArray[np.bool_]) -> str:
    """An image (rows, columns) as a PNG data URI: the pixels that a step sees in full ink on a tint, others faded."""
    from matplotlib.image import imsave

    ink = image[..., None] / 255.0
    full = _TINT * (1 - ink)
    faded = 255.0 * (1 - _FADED * np.broadcast_to(ink, full.shape))
    picture = np.where(seen[..., None], full, faded).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png", metadata=NO_NAMES)
    return data_uri(buffer.getvalue())


def _accuracy(summary: Summary, scan: Scan) -> Figure:
    figure, axes = _axes(summary, "right, %")
    for recipe in RECIPES:
        series = summary.series(scan, recipe)
        x = [setting.timesteps for setting in series]
        colour = COLOURS[recipe]
        low, high = zip(*([100 * bound for bound in setting.interval] for setting in series), strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.vlines(x, low, high, colors=colour, linewidth=1)  # a band over one T has no width
        means = [100 * setting.accuracy for setting in series]
        axes.plot(x, means, color=colour, label=recipe, **MARKERS[recipe])
    floor = max(setting.floor for recipe in RECIPES for setting in summary.series(scan, recipe))
    axes.axhline(100 * floor, color=MUTED, linestyle=":", linewidth=1.2, label="always the most frequent class")
    axes.set_ylim(0, 103)
    _legend(axes, columns=2)
    return figure


def _axes(summary: Summary, measure: str) -> tuple[Figure, Axes]:
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    ticks = spread(summary.timesteps)
    axes.set_xticks(ticks, [f"{t}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(summary.timesteps[0] / 1.3, summary.timesteps[-1] * 1.3)
    axes.set_xlabel("T, time steps")
    axes.set_ylabel(measure)
    axes.grid(visible=True, axis="y")
    return figure, axes


def spread(timesteps: Sequence[int]) -> list[int]:
    """So many of the T that their labels do not touch on a logarithmic axis; the last one is among them."""
    chosen: list[int] = []
    for t in reversed(timesteps):
        if not chosen or chosen[-1] / t > 1.6:
            chosen.append(t)
    return chosen[::-1]


def _by_recipe(axes: Axes, summary: Summary, measure: Callable[[Setting], float]) -> None:
    for recipe in RECIPES:
        series = summary.series(summary.scans[0], recipe)
        points = [(setting.timesteps, measure(setting)) for setting in series]
        axes.plot(*zip(*points, strict=True), color=COLOURS[recipe], label=recipe, **MARKERS[recipe])
    _legend(axes)


def _draw_ratios(axes: Axes, found: Sequence[tuple[int, float | None]], label: str, style: str) -> list[float]:
    """Draw what is known; returns the values."""
    known = [(t, ratio) for t, ratio in found if ratio]
    colour: Any = COLOURS.get(label, MUTED)
    marks: Any = MARKERS.get(label, {"marker": "^"})
    if known:
        axes.plot(*zip(*known, strict=True), style, color=colour, label=label, **marks)
    return [ratio for _, ratio in known]


def _label(axes: Axes) -> None:
    """Label a logarithmic axis with a few powers of ten, in characters that need no mathematics to be set.

    Where fewer than two are in its range, it is widened to the nearest of 1, 2, 5, 10, … and these are labelled.
    """
    low, high = axes.get_ylim()
    ticks = _powers(low, high)
    if len(ticks) < LEAST_LABELS:
        ticks = _ones_twos_fives(low, high)
        axes.set_ylim(min(low, _value(ticks[0])), max(high, _value(ticks[-1])))
    axes.set_yticks([_value(tick) for tick in ticks], [_told(tick) for tick in ticks])
    axes.minorticks_off()


def _powers(low: float, high: float) -> list[tuple[int, int]]:
    """Powers of ten from low to high as (1, power), six at most, ascending; the last is among them."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    stride = max(1, -(-(last - first + 1) // 6))
    return [(1, power) for power in range(last, first - 1, -stride)][::-1]


def _ones_twos_fives(low: float, high: float) -> list[tuple[int, int]]:
    """The (1, 2 or 5; power) from the last one below low to the first one above high."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = [(digit, power) for power in powers for digit in (1, 2, 5)]
    first = max(k for k, tick in enumerate(every) if _value(tick) <= low)
    last = min(k for k, tick in enumerate(every) if _value(tick) >= high)
    return every[first : last + 1]


def _value(tick: tuple[int, int]) -> float:
    digit, power = tick
    return float(f"{digit}e{power}")


def _told(tick: tuple[int, int]) -> str:
    digit, power = tick
    if -3 <= power <= 3:
        return f"{_value(tick):g}"
    ten = f"10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return ten if digit == 1 else f"{digit} × {ten}"


def _legend(axes: Axes, columns: int = 3) -> None:
    """Above the axes, which grow narrower where it is wider than they are."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, handlelength=1.6, columnspacing=1.1)


def _first_series(summary: Summary) -> tuple[Setting, ...]:
    return next(s for s in (summary.series(summary.scans[0], recipe) for recipe in RECIPES) if s)
