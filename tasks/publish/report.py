"""The report of a run: one HTML file that needs nothing but itself. Here: what it says; not here: figures, look, files.

Whatever comes from data or configuration is escaped by the template engine, and control characters are spelled out.
The page carries a content security policy under which a browser would refuse to load anything from anywhere.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.catalog import load_catalog
from schemas.configuration import grid_of
from schemas.errors import ConfigurationError
from schemas.ledger import EQUATIONS, MEANING
from schemas.presets import configured
from tasks.drawing import grey, picture_uris
from tasks.pages import template
from tasks.publish import figures
from tasks.publish.caveats import caveats, repeated, weakest
from tasks.scan import scan_order
from tasks.upright import upright
from tasks.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.configuration import RunConfiguration
    from schemas.handles import Split, Station
    from schemas.ledger import Equation, Ledger
    from schemas.metrics import Interval, Metrics, Suspect
    from tasks.publish.contents import ReportContents

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_MOST_FRAMES = 24
_MOST_CONFUSIONS = 5


@dataclass(frozen=True)
class Stop:
    """One stop of a split's way through the stages."""

    name: str
    count: str
    unit: str
    note: str


@dataclass(frozen=True)
class EquationRow:
    """One equation with its two sides for each split; None where it does not apply."""

    equation: Equation
    train: tuple[int, int] | None
    test: tuple[int, int] | None


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another."""

    true: str
    answered: str
    count: int
    share: float


def render(contents: ReportContents) -> str:
    """The report as HTML.

    Raises:
        CountsBrokenError: the ledger is not closed, so that the page's first claim would be false.
    """
    contents.ledger.verify_complete()
    return template(_TEMPLATE).render(_view(contents), literal=_literal)


def stops(ledger: Ledger, split: Split) -> tuple[Stop, ...]:
    """The way of one split, from the files' headers to the last place its samples are counted."""

    def n(station: Station) -> str:
        return number(ledger.count(split, station) or 0)

    dropped = f" {n('dropped')} dropped, as configured." if ledger.count(split, "dropped") else ""
    way = (
        Stop("File headers", n("image header"), "images", f"{n('label header')} labels promised"),
        Stop("Decoded", n("decoded images"), "images", f"{n('decoded labels')} labels found"),
        Stop("Table", n("table rows"), "rows", "an image and its label in each"),
        Stop(
            "Sequences",
            n("images in sequences"),
            "images",
            f"in {n('sequences')} sequences, with {n('labels in targets')} labels.{dropped}".removesuffix("."),
        ),
    )
    if split == "test":
        return (
            *way,
            Stop("Evaluated", n("evaluated"), "images", "answered by the model"),
            Stop("Predictions", n("predictions written"), "rows", "read back from the file"),
        )
    held = f"{n('validation')} more held out" if ledger.count(split, "validation") else "none held out"
    return (
        *way,
        Stop("Training", n("fitted"), "sequences", f"to learn from, {held}"),
        Stop("Every epoch", n("seen in an epoch"), "sequences", "counted by the optimiser"),
    )


def equations(ledger: Ledger) -> tuple[EquationRow, ...]:
    """Every equation with both sides, by split."""
    sides = {(b.equation, b.split): (b.left or 0, b.right or 0) for b in ledger.balances()}
    return tuple(EquationRow(e, sides.get((e, "train")), sides.get((e, "test"))) for e in EQUATIONS)


def confusions(metrics: Metrics, most: int = _MOST_CONFUSIONS) -> tuple[Confusion, ...]:
    """The most frequent confusions, the most frequent first."""
    counts = np.array(metrics.confusion)
    np.fill_diagonal(counts, 0)
    ranked = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in ranked]
    classes = metrics.classes
    return tuple(
        Confusion(classes[i].name, classes[j].name, int(counts[i, j]), int(counts[i, j]) / classes[i].support)
        for i, j in pairs
        if counts[i, j]
    )


def step_of_pixel(contents: ReportContents) -> NDArray[np.intp] | None:
    """(rows, columns): the step of every pixel of the shown image; None where a pixel's channels went to several."""
    order = scan_order(contents.configuration.reshape, contents.receipt.image_shape)
    steps = np.empty((1, order.size), np.intp)
    steps[0, order] = np.arange(order.size) // contents.sequence.shape[1]
    of_channels = steps.reshape(-1, grid_of(contents.receipt.image_shape)[2])
    if (of_channels != of_channels[:, :1]).any():
        return None
    turned: NDArray[np.intp] = _upright(contents, steps)[0]
    return turned


def rerun_command(configuration: RunConfiguration, began_with: str | None = None) -> str:
    """The command that runs this configuration again: its preset, every value that differs from it, and the start.

    Whoever gives it has to name the catalog where the dataset is one of their own, and to have the run that a warm
    start began with.
    """
    own = [] if configuration.dataset in load_catalog().datasets else ["--catalog", "CATALOG.toml"]
    parts = ["stepwise", "run", *own, "--dataset", configuration.dataset, "--preset", configuration.preset]
    try:
        base = _flat(configured(configuration.preset, dataset=configuration.dataset).model_dump(mode="json"))
    except ConfigurationError:  # a preset of another version: nothing is known to be left out
        base = {}
    for key, value in _flat(configuration.model_dump(mode="json")).items():
        if "." not in key:
            continue
        if value is not None and (key not in base or base[key] != value):
            parts += ["--set", f"{key}={_literal(value)}"]
        if value is None and (base.get(key) is not None or any(name.startswith(f"{key}.") for name in base)):
            parts += ["--set", f"{key}="]
    return shlex.join([*parts, *(["--start-from", began_with] if began_with else [])])


def _view(contents: ReportContents) -> dict[str, Any]:
    """What the template is given, by name."""
    metrics, history = contents.metrics, contents.history
    present = [measured for measured in metrics.classes if measured.recall is not None]
    suspects = _suspects(contents)
    defaults = _flat(type(contents.configuration)().model_dump(mode="json"))
    return {
        "it": contents,
        "metrics": metrics,
        "history": history,
        "settings": contents.configuration,
        "lines": {split: stops(contents.ledger, split) for split in ("train", "test")},
        "equations": equations(contents.ledger),
        "stations": [
            (station, meaning, contents.ledger.count("train", station), contents.ledger.count("test", station))
            for station, meaning in MEANING.items()
        ],
        "stage_of": {entry.station: entry.stage for entry in contents.ledger.entries},
        "dropped": sum(contents.ledger.count(split, "dropped") or 0 for split in ("train", "test")),
        "sequences": contents.ledger.count("train", "sequences"),
        "frames": _frames(contents),
        "weakest": weakest(metrics),
        "recall_floor": _floor([measured.recall_interval for measured in present if measured.recall_interval]),
        "slice_floor": _floor([piece.interval for slicing in metrics.slices for piece in slicing.slices]),
        "model_floor": _floor([metrics.interval, *(floor.interval for floor in metrics.floors)]),
        "confusions": confusions(metrics),
        "all_confusions": confusions(metrics, most=len(metrics.classes) ** 2),
        "pictures": list(zip(metrics.worst, picture_uris(contents.pictures), _seen(contents), strict=True)),
        "suspects": suspects,
        "known_suspects": sum(suspect.index in contents.reviewed for suspect, _ in suspects),
        "leaks": leaks.rows if (leaks := repeated(contents, "test in train")) else 0,
        "caveats": caveats(contents),
        "in_colour": grid_of(contents.receipt.image_shape)[2] > 1,
        "pixel_type": np.dtype(contents.receipt.image_dtype).name,
        "total_seconds": sum(contents.timings.values()),
        "configuration": _flat(contents.configuration.model_dump(mode="json")),
        "defaults": defaults,
        "rerun": rerun_command(contents.configuration, contents.began_with),
        "figures": _figures(contents),
    }


def _figures(contents: ReportContents) -> dict[str, Any]:
    from markupsafe import Markup  # comes with jinja2

    drawn = {
        "curves": figures.learning_curves(contents.history),
        "confusion": figures.confusion(contents.metrics),
        "reliability": figures.reliability(contents.metrics),
    }
    if contents.configuration.reshape.layout == "pixels":
        drawn["steps"] = figures.steps(contents.sequence_picture, contents.sequence, step_of_pixel(contents))
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704  # matplotlib escaped every text in it


def _frames(contents: ReportContents) -> list[str]:
    """The images inside the shown sequence as data URIs, where its steps are images."""
    if contents.configuration.reshape.layout != "frames":
        return []
    images = contents.sequence[:_MOST_FRAMES]
    order = scan_order(contents.configuration.reshape, contents.receipt.image_shape)
    stored = np.empty_like(images)
    stored[:, order] = images
    return picture_uris(grey(_upright(contents, stored)))


def _upright(contents: ReportContents, images: NDArray[Any]) -> NDArray[Any]:
    """Images (K, pixels), pixels in the order of the file, as (K, rows, columns), turned as the pictures are."""
    return upright(images, contents.receipt.image_shape, contents.orientation)


def _floor(intervals: list[Interval]) -> float:
    """Where the scale of some intervals begins: a round share just below the lowest bound; 0 where there are none."""
    lowest = min((low for low, _ in intervals), default=0.0)
    width = 1 - lowest
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0) if width <= 2 * step or step == 1.0)
    return max(0.0, math.floor(lowest / step) * step)


def _seen(contents: ReportContents) -> list[str | None]:
    """What the network read of each of the worst mistakes, as data URIs; None where that is the picture itself."""
    pictures, seen = contents.pictures, contents.seen
    if seen is None:
        return [None] * len(pictures)
    drawn = grey(seen)
    if drawn.shape == pictures.shape and np.array_equal(drawn, pictures):
        return [None] * len(pictures)
    return list(picture_uris(drawn))


def _suspects(contents: ReportContents) -> list[tuple[Suspect, str]]:
    found, pictures = contents.metrics.suspects, contents.suspects
    if found is None or pictures is None:
        return []
    return list(zip(found.worst, picture_uris(pictures), strict=True))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return dict(_leaves("", values))


def _leaves(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _literal(value: Any) -> str:  # noqa: ANN401  # any leaf of a configuration
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False) if value is not None else "none"
