"""The page of a study: one HTML file that needs nothing but itself. Here: what it is given; not here: words, figures.

As the report of a run: texts are escaped by the template engine, and the page's own policy keeps a browser from loading
anything from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.configuration import Reshape
from schemas.study import recipe_of
from tasks.pages import template
from tasks.scan import scan_order
from tasks.study import figures, words
from tasks.study.grouping import grouping_of, regrouping_of
from tasks.study.summary import Summary, summary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.configuration import Scan, Training
    from schemas.design import StudySubject
    from schemas.study import PointResult

_TEMPLATE: Final = Path(__file__).with_name("study.html.jinja")
_SHOWN_T: Final = (1, 4, 16, 28, 784)
_SHOWN_STEPS: Final = 4
_EVERY_STEP: Final = 28  # pictures, and no more, even of a T that is shown whole


@dataclass(frozen=True)
class StudyContents:
    """Everything a page shows.

    Attributes:
        subject: What the study is about.
        rows: Images of the training split.
        images: The first of them as stored, (n, rows, columns, …) or (n, pixels) uint8.
        labels: The class of each of these.
        results: What every point measured.
    """

    subject: StudySubject
    rows: int
    images: NDArray[np.uint8]
    labels: tuple[str, ...]
    results: tuple[PointResult, ...]


@dataclass(frozen=True)
class Strip:
    """Some steps of one T: the step's number and its picture as a data URI."""

    timesteps: int
    features: int
    tiles: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Size:
    """How much a point was trained on."""

    images: int
    epochs: int


def render(contents: StudyContents) -> str:
    """The page as HTML."""
    return template(_TEMPLATE).render(_view(contents), power=words.power_told)


def strips(image: NDArray[np.uint8], scan: Scan, timesteps: list[int], whole: int, *, transposed: bool) -> list[Strip]:
    """What steps of each T see of an image: every one of the `whole` T, of the others some, evenly spaced."""
    upright = image.reshape(-1, words.row_width(image.shape))
    found = []
    for t in timesteps:
        step_of = step_map(image.shape, scan, t)
        most = _EVERY_STEP if t == whole else _SHOWN_STEPS
        shown = sorted({round(k) for k in np.linspace(0, t - 1, min(t, most))})
        pair = (upright.T, step_of.T) if transposed else (upright, step_of)
        tiles = tuple((k + 1, figures.step_picture(pair[0], pair[1] == k)) for k in shown)
        found.append(Strip(t, image.size // t, tiles))
    return found


def group(images: NDArray[np.uint8], labels: tuple[str, ...], *, transposed: bool) -> tuple[tuple[str, str], ...]:
    """Whole images, each with its class: what the advice takes for the steps of one sequence."""
    upright = images.reshape(len(images), -1, words.row_width(images.shape[1:]))
    turned = upright.transpose(0, 2, 1) if transposed else upright
    return tuple(
        (label, figures.step_picture(image, np.ones(image.shape, np.bool_)))
        for label, image in zip(labels, turned, strict=False)
    )


def step_map(item: tuple[int, ...], scan: Scan, timesteps: int) -> NDArray[np.intp]:
    """(rows, columns): the step, from 0, that reads each pixel of an image as stored."""
    order = scan_order(Reshape(timesteps=1, scan=scan), item)
    step_of = np.empty(order.size, np.intp)
    step_of[order] = np.arange(order.size) // (order.size // timesteps)
    return step_of.reshape(-1, words.row_width(item))


def recipes_told(results: tuple[PointResult, ...]) -> dict[str, Training]:
    """The training of each recipe, as one of its points had it."""
    return {result.point.recipe: recipe_of(result.point)[1] for result in results}


def _view(contents: StudyContents) -> dict[str, Any]:
    summary, subject = summary_of(contents.results), contents.subject
    shown = sorted({summary.near(t) for t in _SHOWN_T})
    first = contents.results[0]
    cut, transposed = words.cut_into(summary), subject.orientation == "transposed"
    grouped = words.grouped_by(summary)
    sizes = {(p.images, p.epochs) for p in (r.point for r in contents.results)}
    return {
        "it": subject,
        "summary": summary,
        "rows": contents.rows,
        "one_row": contents.images[0].size == words.row_width(contents.images.shape[1:]),
        "pixels": first.point.timesteps * first.point.features,
        "held_out": first.counts.held_out,
        "results": contents.results,
        "recipes": recipes_told(contents.results),
        "units": recipe_of(first.point)[0].layers[0].units,
        "sizes": [Size(*size) for size in sorted(sizes)],
        "parts": sum(result.counts.left_out > 0 for result in contents.results),
        "seconds": sum(result.seconds for result in contents.results),
        "strips": {scan: strips(contents.images[0], scan, shown, cut, transposed=transposed) for scan in summary.scans},
        "group": group(contents.images[:grouped], contents.labels, transposed=transposed),
        "cut": cut,
        "grouping": grouping_of(contents.rows, grouped),
        "regrouping": regrouping_of(subject, contents.rows, grouped),
        "features": words.why_so_many_features(summary, contents.rows),
        "asked": words.why_it_changes_asked(summary),
        "reasons": words.why_accuracy_changes(summary, words.row_width(contents.images.shape[1:])),
        "titles": words.FIGURES,
        "after": words.followed(summary),
        "first_epoch": words.in_first_epoch(summary.settings),
        "machines": sorted({result.machine for result in contents.results}),
        "figures": _figures(summary),
    }


def _figures(summary: Summary) -> dict[str, Any]:
    from markupsafe import Markup  # comes with jinja2

    drawn = {f"accuracy-{scan}": figures.accuracy(summary, scan) for scan in summary.scans}
    drawn |= {
        "parameters": figures.parameters(summary),
        "saturation": figures.saturation(summary),
        "loss": figures.output_gradient(summary),
        "time": figures.time(summary),
    }
    if any(setting.gradient_ratio is not None for setting in summary.settings):
        drawn["gradient"] = figures.gradient(summary)
    for t in words.followed(summary):
        drawn[f"after-{t}"] = figures.after_each_step(summary, t, summary.scans)
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704  # matplotlib escaped every text in it
