"""Results of a study that nobody measured: smooth, made up, of the form of real ones."""

from __future__ import annotations

import datetime
import itertools
from typing import TYPE_CHECKING

import numpy as np

from schemas.design import StudySettings, StudySubject, designed
from schemas.study import Point, PointCounts, PointResult, lstm_parameters
from tasks.study.page import StudyContents
from tasks.study.summary import summary_of
from tasks.study.words import why_accuracy_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tasks.study.sentence import Sentence
    from tasks.study.summary import Summary

ROWS = 60_000


def falling(point: Point) -> float:
    return 0.9 - 0.01 * point.seed - (0.07 if point.recipe == "question" else 0.04) * np.log2(point.timesteps)


def result_of(point: Point, accuracy: Callable[[Point], float] = falling) -> PointResult:
    hits = round(accuracy(point) * point.held_out)
    after = np.linspace(0.1 * point.held_out, hits, point.timesteps).astype(int) if point.timesteps > 1 else [hits]
    raw = point.recipe == "question"
    quarters = point.timesteps >= 4
    lstm = lstm_parameters(point.features, 40)
    return PointResult(
        point=point,
        counts=PointCounts(
            sequences=ROWS,
            fitted=point.images,
            held_out=point.held_out,
            left_out=ROWS - point.images - point.held_out,
            seen=point.images,
            answered=point.held_out,
        ),
        parameters=lstm + 410,
        lstm_parameters=lstm,
        accuracy=hits / point.held_out,
        floor=0.1,
        training_accuracy=hits / point.held_out,
        loss=0.5,
        hits_after=tuple(map(int, after)),
        saturated=0.9 / point.timesteps if raw else 0.001,
        gradient_ratio=10.0 ** (-point.timesteps / 18) if quarters else None,
        gradient_ratio_chrono=0.1 if quarters else None,
        output_gradient=0.02 if raw else 0.95,
        blank_tail=118,
        seconds_an_epoch=point.images * point.timesteps * 4e-6,
        seconds=12.0,
        engine="none",
        machine="x86_64, 2 processors",
    )


def contents_of(
    accuracy: Callable[[Point], float] = falling,
    title: str = "MNIST handwritten digits",
    pixels: int = 784,
    **settings: object,
) -> StudyContents:
    asked = StudySettings.model_validate(settings)
    rng = np.random.default_rng(0)
    return StudyContents(
        StudySubject(
            study="20261125-120000-mnist-timesteps-0000",
            created=datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC),
            dataset="mnist",
            title=title,
            orientation="upright",
            test_images=10_000,
            settings=asked,
            seconds=4321.0,
        ),
        ROWS,
        rng.integers(0, 256, (16, 28, 28)).astype(np.uint8),
        tuple("5041921314353617"),
        tuple(result_of(point, accuracy) for point in designed(asked, pixels, ROWS)),
    )


def reasons(summary: Summary) -> list[Sentence]:
    """All that is said of accuracy."""
    return list(itertools.chain.from_iterable(why_accuracy_changes(summary, 28).values()))


def told_of(results: Iterable[PointResult], about: str) -> str:
    """What the page says of these results under a heading."""
    return " ".join(sentence.text for sentence in why_accuracy_changes(summary_of(results), 28)[about])


def changed(**changes: Callable[[PointResult], float]) -> list[PointResult]:
    """Results of which some values are others."""
    return [
        result.model_copy(update={name: value(result) for name, value in changes.items()})
        for result in contents_of(scans=("rows",)).results
    ]
