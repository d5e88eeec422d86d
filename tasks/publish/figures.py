"""The figures of a run, as SVG for the report and as PNG for the Prefect UI.

Not here: the page, its words and tables; how every figure is drawn (drawing).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from schemas.visible import visible
from tasks.drawing import FIRST, MUTED, RULE, SECOND, as_png, as_svg, drawing, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from schemas.history import History
    from schemas.metrics import Metrics

MOST_CLASSES_WITH_NUMBERS = 20
MOST_MARKED_EPOCHS = 40
MOST_PIXELS = 2_400  # of a side of the confusion matrix: a thousand classes at 12 each would take gigabytes to draw
LEAST_NAMED = 8  # pixels of a class whose name can be read
_LONGEST_NAME = 14


def learning_curves(history: History) -> str:
    """Loss and accuracy by epoch, one SVG each, side by side where the page has room."""
    with drawing():
        return "".join(
            as_svg(_curve(history, measure), f"{measure}-curve", f"{measure} by epoch, training and validation")
            for measure in ("loss", "accuracy")
        )


def learning_curves_png(history: History) -> bytes:
    """Loss and accuracy by epoch, side by side, as PNG."""
    with drawing():
        figure = new_figure(820, 290)
        for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            _draw_curve(axes, history, measure)
        return as_png(figure)


def confusion(metrics: Metrics) -> str:
    """The confusion matrix as SVG: rows are true classes, columns are answers."""
    names = [_short(measured.name) for measured in metrics.classes]
    with drawing():
        title = f"Confusion matrix of {len(names)} classes: rows are the true class, columns the answer"
        # fewer classes may shrink to the width of a phone; with more, the names would become too small to read
        least = 0.66 if len(names) <= MOST_CLASSES_WITH_NUMBERS else 0.9
        return as_svg(_confusion(metrics, names), "confusion", title, least)


def confusion_png(metrics: Metrics) -> bytes:
    """The confusion matrix as PNG; classes whose names the font cannot draw go by their labels."""
    with drawing():
        names = [_short(measured.name) for measured in metrics.classes]
        if not _drawable(names):
            names = [str(measured.label) for measured in metrics.classes]
        return as_png(_confusion(metrics, names))


def reliability(metrics: Metrics) -> str:
    """The reliability diagram as SVG, with the number of answers in every bin below it."""
    with drawing():
        title = f"Reliability diagram in {metrics.calibration.bins} bins: accuracy against confidence"
        return as_svg(_reliability(metrics), "reliability", title)


def steps(image: NDArray[Any], sequence: NDArray[Any], step_of_pixel: NDArray[np.integer] | None) -> str:
    """One image beside the sequence that it became, as SVG.

    Args:
        image: (rows, columns), as people look at it.
        sequence: (T, F), as the network reads it.
        step_of_pixel: (rows, columns), the step (from 0) that each pixel of `image` went to. The step with the
            most ink is marked in both pictures, unless it is the only one. None: no step is marked.
    """
    shown = int(sequence.astype(np.float64).sum(axis=1).argmax())
    with drawing():
        figure = new_figure(640, 320)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        _draw_pixels(left, image, "equal")
        _draw_pixels(right, sequence, "auto")
        if len(sequence) > 1 and step_of_pixel is not None:
            _mark(left, step_of_pixel == shown, "equal")
            _mark(right, np.broadcast_to(np.arange(len(sequence))[:, None] == shown, sequence.shape), "auto")
        left.set_title(f"the image, {image.shape[0]} × {image.shape[1]}")
        right.set_title(f"the sequence, T = {sequence.shape[0]} steps of F = {sequence.shape[1]}")
        right.set_xlabel("feature")
        right.set_ylabel("step, read downwards" if len(sequence) > 1 else "the only step")
        title = f"An image and the steps it is read in, {sequence.shape[0]} of them"
        return as_svg(figure, "steps", title)


def _curve(history: History, measure: str) -> Figure:
    figure = new_figure(410, 270)
    _draw_curve(figure.subplots(), history, measure)
    return figure


def _draw_curve(axes: Axes, history: History, measure: str) -> None:
    epochs = history.epochs
    fine = len(epochs) > MOST_MARKED_EPOCHS
    x = [epoch.epoch for epoch in epochs]
    axes.plot(x, [getattr(epoch, measure) for epoch in epochs], "-" if fine else "o-", color=FIRST, label="training")
    validation = [getattr(epoch, f"validation_{measure}") for epoch in epochs]
    if all(value is not None for value in validation):
        axes.plot(x, validation, "--" if fine else "s--", color=SECOND, label="validation")
    axes.axvline(history.kept, color=MUTED, linewidth=1.4, linestyle=":", label=f"kept: epoch {history.kept}")
    axes.set_xlabel("epoch")
    axes.set_ylabel(measure if measure == "loss" else "accuracy, %")
    axes.locator_params(axis="x", nbins=8, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlim(0.5, max(x) + 0.5)
    if measure == "accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    axes.grid(visible=True, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handlelength=1.6, columnspacing=1.1)


def _confusion(metrics: Metrics, names: Sequence[str]) -> Figure:
    counts = np.array(metrics.confusion)
    with_numbers = len(names) <= MOST_CLASSES_WITH_NUMBERS
    side = 46.0 if with_numbers else min(12.0, MOST_PIXELS / len(names))
    margin = 40 + 6 * max(len(name) for name in names)
    whole = max(round(side * len(names)), 120) + margin
    figure = new_figure(whole, whole)
    axes = figure.subplots()
    axes.imshow(_tints(counts, strongest=0.42 if with_numbers else 0.85), interpolation="none")
    axes.set_xlabel("answered")
    axes.set_ylabel("true class")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    size = 12 if with_numbers else 8
    upright = all(len(name) <= 3 for name in names) and with_numbers
    shown = range(0, len(names), math.ceil(LEAST_NAMED / side))
    axes.set_xticks(shown, [names[k] for k in shown], rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(shown, [names[k] for k in shown], fontsize=size)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, which="minor", color=RULE, linewidth=0.8 if with_numbers else 0.4)
    if with_numbers:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                weight = "bold" if row == column else "normal"
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=12, fontweight=weight)
    return figure


def _tints(counts: NDArray[np.int64], strongest: float) -> NDArray[np.float64]:
    """(C, C, 4) colours: right answers in the first colour, wrong ones in the second, by the root of their share."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)
    wrong_most = max(float(shares[~right].max(initial=0)), 1e-9)
    alpha = np.where(right, shares * 0.7, 0.15 + 0.85 * np.sqrt(np.minimum(shares / wrong_most, 1))) * strongest
    tints = np.zeros((*counts.shape, 4))
    tints[..., :3] = np.where(right[..., None], (0.05, 0.52, 0.56), (0.86, 0.42, 0.10))
    tints[..., 3] = np.where(counts > 0, alpha, 0)
    return tints


def _reliability(metrics: Metrics) -> Figure:
    bins = [b for b in metrics.calibration.reliability if b.count]
    figure = new_figure(500, 500)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="as sure as right")
    for b in bins:
        upper.plot([b.confidence, b.confidence], [b.confidence, b.accuracy], color=SECOND, linewidth=2.4, alpha=0.7)
    points = ([b.confidence for b in bins], [b.accuracy for b in bins])
    upper.plot(*points, "o", color=FIRST, markersize=5.5, label="answers of one bin")
    upper.set_xlim(0, 1.02)
    upper.set_ylim(0, 1.04)
    upper.set_ylabel("right, %")
    upper.grid(visible=True)
    upper.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, handlelength=1.6)
    widths = [b.upper - b.lower for b in bins]
    lower.bar([b.lower for b in bins], [b.count for b in bins], widths, align="edge", color=FIRST, alpha=0.55)
    lower.set_yscale("log")
    lower.set_ylim(0.7, metrics.samples * 2)
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    lower.minorticks_off()
    lower.grid(visible=True, axis="y")
    lower.set_ylabel("answers")
    lower.set_xlabel("confidence, %")
    upper.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    upper.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    figure.align_ylabels()
    return figure


def _draw_pixels(axes: Axes, values: NDArray[Any], aspect: Literal["equal", "auto"]) -> None:
    axes.imshow(values, cmap="gray_r", aspect=aspect, interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_edgecolor(RULE)


def _mark(axes: Axes, where: NDArray[np.bool_], aspect: Literal["equal", "auto"]) -> None:
    marks = np.zeros((*where.shape, 4))
    marks[where] = (0.95, 0.50, 0.08, 0.5)
    axes.imshow(marks, aspect=aspect, interpolation="none", gid="mark")


def _short(name: str) -> str:
    name = visible(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _drawable(names: Sequence[str]) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # as above

    glyphs = get_font(findfont(FontProperties())).get_charmap()
    return all(ord(character) in glyphs for name in names for character in name)
