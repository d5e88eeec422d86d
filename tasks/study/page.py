"""The page of a study: one HTML file that needs nothing but itself. Here: what it is given; not here: words, figures.

As the report of a run: texts are escaped by the template engine, and the page's own policy keeps a browser from loading
anything from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.study import GRADIENTS, LOOKED_AT, recipe_of
from tasks.pages import template
from tasks.study import figures, reasons, words
from tasks.study.grouping import grouping_of, regrouping_of
from tasks.study.seen import group, strips
from tasks.study.sentence import FIGURES
from tasks.study.summary import Summary, summary_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from schemas.configuration import Training
    from schemas.design import StudySubject
    from schemas.study import PointResult

_TEMPLATE: Final = Path(__file__).with_name("study.html.jinja")
_SHOWN_T: Final = (1, 4, 16, 28, 784)


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
class Size:
    """How much a point was trained on."""

    images: int
    epochs: int


def render(contents: StudyContents) -> str:
    """The page as HTML."""
    return template(_TEMPLATE).render(_view(contents), power=reasons.power_told)


def recipes_told(results: tuple[PointResult, ...]) -> dict[str, Training]:
    """The training of each recipe, as one of its points had it."""
    return {result.point.recipe: recipe_of(result.point)[1] for result in results}


def _view(contents: StudyContents) -> dict[str, Any]:
    summary, subject = summary_of(contents.results), contents.subject
    first, pixels = contents.results[0], words.values_of(summary)
    cut, transposed = words.cut_into(summary), subject.orientation == "transposed"
    shown = sorted({cut, *map(summary.near, _SHOWN_T)})
    grouped = words.grouped_by(summary)
    sizes = {(p.images, p.epochs) for p in (r.point for r in contents.results)}
    return {
        "it": subject,
        "summary": summary,
        "rows": contents.rows,
        "one_row": contents.images[0].size == words.row_width(contents.images.shape[1:]),
        "pixels": pixels,
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
        "grouping": grouping_of(contents.rows, grouped, pixels),
        "regrouping": regrouping_of(subject, contents.rows, grouped),
        "features": words.why_so_many_features(summary, contents.rows),
        "asked": words.why_it_changes_asked(summary),
        "reasons": words.why_accuracy_changes(summary, words.row_width(contents.images.shape[1:])),
        "titles": FIGURES,
        "after": reasons.followed(summary),
        "looked_at": (LOOKED_AT, GRADIENTS),
        "first_epoch": reasons.in_first_epoch(summary.settings),
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
    for t in reasons.followed(summary):
        drawn[f"after-{t}"] = figures.after_each_step(summary, t, summary.scans)
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704  # matplotlib escaped every text in it
