"""The report of a run: one HTML file that needs nothing but itself. Here: what it says; not here: figures, look, files.

Whatever comes from data or configuration is escaped by the template engine, and control characters are spelled out.
The page carries a content security policy under which a browser would refuse to load anything from anywhere.
"""

from __future__ import annotations

import functools
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import ConfigurationError
from schemas.ledger import EQUATIONS, MEANING
from schemas.presets import configured
from tasks.drawing import visible
from tasks.publish import figures
from tasks.scan import scan_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Literal

    from jinja2 import Template
    from numpy.typing import NDArray

    from schemas.configuration import RunConfiguration
    from schemas.handles import Split, Station
    from schemas.history import History
    from schemas.ledger import Equation, Ledger
    from schemas.metrics import ClassMetrics, Metrics
    from schemas.receipt import Receipt

_TEMPLATE = "report.html.jinja"
_MOST_FRAMES = 24
_MOST_CONFUSIONS = 5
_NARROW = "\u202f"  # narrow no-break space, before units


@dataclass(frozen=True)
class ReportContents:
    """Everything a report shows.

    `pictures` are (K, rows, columns) uint8, aligned with `metrics.worst`; `sequence` is the (T, F) array of the first
    test sequence as the network reads it, `sequence_picture` (rows, columns) its first image; pictures are upright.
    `files` holds the SHA-256 of the run's files by name.
    """

    run: str
    created: datetime
    title: str
    mode: Literal["pinned", "tracked"]
    configuration: RunConfiguration
    receipt: Receipt
    ledger: Ledger
    metrics: Metrics
    history: History
    pictures: NDArray[np.uint8]
    sequence: NDArray[Any]
    sequence_picture: NDArray[np.uint8]
    timings: dict[str, float]
    reused: frozenset[str]
    environment: dict[str, str]
    files: dict[str, str]
    verdicts: tuple[str, ...] = ()


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
    return _template().render(_view(contents))


@functools.cache
def _template() -> Template:
    """The page's template: compiling it takes as long as drawing a figure, so it is compiled once a process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only where a page is made

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "seconds": seconds, "number": number, "literal": _literal}
    return environment.get_template(_TEMPLATE)


def percent(share: float, decimals: int = 1) -> str:
    """A share in percent; never rounded to 0 or 100 where it is neither."""
    text = f"{100 * share:.{decimals}f}"
    looks_exact = float(text) in {0.0, 100.0}
    if looks_exact and share not in {0.0, 1.0} and decimals < 6:
        return percent(share, decimals + 1)
    return f"{text}{_NARROW}%"


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 10:
        return f"{value:.2f}{_NARROW}s"
    if value < 120:
        return f"{value:.1f}{_NARROW}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}{_NARROW}min {rest:02d}{_NARROW}s"


def number(value: int) -> str:
    """A count with its thousands set apart."""
    return f"{value:,}"


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
    """(rows, columns): the step of every pixel of the shown image, or None where the two pictures cannot be related."""
    order = scan_order(contents.configuration.reshape, contents.receipt.image_shape)
    picture = contents.sequence_picture
    if order.size != contents.sequence.size or order.size != picture.size:
        return None
    values, places = np.empty(order.size, contents.sequence.dtype), np.empty(order.size, np.intp)
    values[order] = contents.sequence.reshape(-1)
    places[order] = np.arange(order.size) // contents.sequence.shape[1]
    for shape, turned in ((picture.shape, False), (picture.shape[::-1], True)):
        image, step = values.reshape(shape), places.reshape(shape)
        if np.array_equal(figures.grey(image.T if turned else image), picture):
            return step.T if turned else step
    return None


def rerun_command(configuration: RunConfiguration) -> str:
    """The command that runs this configuration again: its preset, and every value that differs from it."""
    parts = ["stepwise", "run", "--dataset", configuration.dataset, "--preset", configuration.preset]
    try:
        base = _flat(configured(configuration.preset, dataset=configuration.dataset).model_dump(mode="json"))
    except ConfigurationError:  # a preset of another version: nothing is known to be left out
        base = {}
    for key, value in _flat(configuration.model_dump(mode="json")).items():
        if "." in key and value is not None and (key not in base or base[key] != value):
            parts += ["--set", f"{key}={_literal(value)}"]
    return shlex.join(parts)


def _view(contents: ReportContents) -> dict[str, Any]:
    """What the template is given, by name."""
    metrics, history = contents.metrics, contents.history
    present = [measured for measured in metrics.classes if measured.recall is not None]
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
        "weakest": min(present, key=lambda measured: measured.recall or 0),
        "recall_floor": _floor(present),
        "confusions": confusions(metrics),
        "pictures": list(zip(metrics.worst, figures.mistakes(contents.pictures), strict=True)),
        "total_seconds": sum(contents.timings.values()),
        "configuration": _flat(contents.configuration.model_dump(mode="json")),
        "defaults": defaults,
        "rerun": rerun_command(contents.configuration),
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
    values = np.empty_like(images)
    values[:, order] = images
    upright = contents.sequence_picture.shape
    as_stored, turned = values.reshape(-1, *upright), values.reshape(-1, *upright[::-1]).transpose(0, 2, 1)
    is_turned = np.array_equal(figures.grey(turned[0]), contents.sequence_picture)
    return figures.mistakes(figures.grey(turned if is_turned else as_stored))


def _floor(present: list[ClassMetrics]) -> float:
    """Where the scale of the recall intervals begins: a round share just below the lowest bound."""
    lowest = min(measured.recall_interval[0] for measured in present if measured.recall_interval)
    width = 1 - lowest
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0) if width <= 2 * step or step == 1.0)
    return max(0.0, math.floor(lowest / step) * step)


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


def _finalize(value: object) -> object:
    """Spell out what could deceive a reader, in every plain text that the page shows."""
    return visible(value) if type(value) is str else value
