"""The design of a study: what is asked, and which points that makes. Not here: what a point is (study).

What a point is never depends on how many others there are, so that one more seed adds its own points and changes none.
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from schemas.configuration import MOST_EPOCHS, Scan
from schemas.errors import ConfigurationError
from schemas.handles import Frozen
from schemas.presets import configured, problems_told
from schemas.study import RECIPES, Point

SCANS: Final[tuple[Scan, ...]] = ("rows", "columns", "permuted")

REFERENCE_SEEDS: Final = 3  # the budget is for so many seeds of all recipes and scans on so many processors
REFERENCE_PROCESSORS: Final = 2
BUDGET_MINUTES: Final = 120.0
EPOCHS: Final = 6
LEAST_SEEN: Final = 50_000  # images in all epochs of a point: a thousand batches of the question's 50
LEAST_IMAGES: Final = 1_000
HELD_OUT_SHARE: Final = 1 / 12
MOST_HELD_OUT: Final = 5_000
BUDGET_USED: Final = 0.85  # of the budget, by reckoning: machines differ, and others use them too

# One processor's seconds on the reference machine (docs/LOG.md, "The study"): they size the default study, no more.
SECONDS_A_POINT: Final = 8.0
SECONDS_A_STEP: Final = 3.5e-6  # of one image in one epoch
SECONDS_AN_IMAGE: Final = 6e-5
SECONDS_A_STEP_LOOKED_AT: Final = 5.0e-6  # of one image held out


class StudySettings(Frozen):
    """What a study is asked for."""

    scans: tuple[Scan, ...] = Field(default=SCANS, min_length=1, description="The orders in which pixels are read.")
    seeds: int = Field(default=REFERENCE_SEEDS, ge=1, description="How often each setting is trained, seeds 0, 1, …")
    timesteps: tuple[int, ...] = Field(default=(), description="Only these T; empty: every divisor of the pixels.")
    everything: bool = Field(default=False, description="All images, and the question's own number of epochs.")
    budget_minutes: float = Field(
        default=BUDGET_MINUTES,
        gt=0,
        allow_inf_nan=False,
        description="Decides how many images every point learns from: three seeds of both recipes and all scans "
        "should end within it on two processors. More or fewer seeds or scans take their part of it.",
    )
    images: int | None = Field(default=None, ge=1, description="No more images than this, whatever the budget.")
    epochs: int | None = Field(default=None, ge=1, description="So many epochs; unless given, more for few images.")


class StudySubject(Frozen):
    """What a study was about."""

    study: str
    created: datetime.datetime
    dataset: str
    title: str
    orientation: str
    data: Path | None = Field(default=None, description="The folder that was studied in place of a named dataset.")
    catalogs: tuple[Path, ...] = Field(default=(), description="Catalogs of the user's own, beside the shipped one.")
    test_images: int = Field(description="Images of the test split, which the study counts and does not look at.")
    settings: StudySettings
    seconds: float = Field(description="What the command took until everything was measured.")


class PublishedStudy(Frozen):
    """What publishing a study returns: one that exists, because its manifest does."""

    study: str
    place: str
    page: str
    manifest: str


def settings_of(**values: object) -> StudySettings:
    """The settings of these values, those that are None left out.

    Raises:
        ConfigurationError: a value is out of bounds or unknown.
    """
    try:
        return StudySettings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(
            f"the study is wrong: {problems_told(error, StudySettings)}",
            "options as `stepwise study timesteps --help` lists them",
            "Correct them; nothing was run",
        ) from error


def factorisations(pixels: int) -> tuple[tuple[int, int], ...]:
    """Every (T, F) with T · F = pixels, by T."""
    return tuple((t, pixels // t) for t in range(1, pixels + 1) if pixels % t == 0)


def seconds_of_sizes(timesteps: int, images: int, epochs: int, held_out: int) -> float:
    """What a point of these sizes should take one processor of the reference machine."""
    learned = epochs * images * (timesteps * SECONDS_A_STEP + SECONDS_AN_IMAGE)
    return SECONDS_A_POINT + learned + held_out * timesteps * SECONDS_A_STEP_LOOKED_AT


def seconds_of(point: Point) -> float:
    """What a point should take one processor of the reference machine."""
    return seconds_of_sizes(point.timesteps, point.images, point.epochs, point.held_out)


def designed(settings: StudySettings, pixels: int, rows: int) -> tuple[Point, ...]:
    """The points of a study of a training split, seed by seed, so that each finished seed is a whole picture.

    Raises:
        ConfigurationError: a T does not divide the pixels, or the split is too small.
    """
    held_out = min(MOST_HELD_OUT, round(rows * HELD_OUT_SHARE))
    if not held_out:
        raise ConfigurationError(f"{rows} training images", "enough to hold some out", "Study a larger dataset")
    every = factorisations(pixels)
    epochs = _epochs(settings, min(rows - held_out, settings.images or rows))
    images = _images(settings, every, rows - held_out, held_out, epochs)
    return tuple(
        Point(
            recipe=recipe,
            scan=scan,
            timesteps=t,
            features=f,
            seed=seed,
            images=images,
            held_out=held_out,
            epochs=epochs,
        )
        for seed in range(settings.seeds)
        for scan in dict.fromkeys(settings.scans)
        for recipe in RECIPES
        for t, f in _asked(settings, every)
    )


def _asked(settings: StudySettings, every: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    known = {t for t, _ in every}
    wrong = [t for t in settings.timesteps if t not in known]
    if wrong:
        raise ConfigurationError(
            f"T = {', '.join(map(str, wrong))} does not divide the {every[-1][0]} pixels of an image",
            f"one of {', '.join(map(str, sorted(known)))}",
            "Ask for one of them",
        )
    return tuple(pair for pair in every if not settings.timesteps or pair[0] in settings.timesteps)


def _epochs(settings: StudySettings, available: int) -> int:
    """Those asked for; few images are gone through more often: what has hardly begun to learn shows nothing."""
    asked = configured("question-16x49").training.epochs if settings.everything else None
    return settings.epochs or max(asked or EPOCHS, min(MOST_EPOCHS, math.ceil(LEAST_SEEN / available)))


def _images(
    settings: StudySettings, every: tuple[tuple[int, int], ...], available: int, held_out: int, epochs: int
) -> int:
    """Training images of every point: the same for each T, or the figures would compare amounts of data.

    All there are, or so many that a series of every T keeps its part of the budget. Whatever is asked for, the part is
    that of the reference: the size of a point does not change with what else is studied.
    """
    most = min(available, settings.images or available)
    if settings.everything:
        return most
    series = REFERENCE_SEEDS * len(RECIPES) * len(SCANS)
    share = BUDGET_USED * settings.budget_minutes * 60 * REFERENCE_PROCESSORS / series
    none, hundred = (sum(seconds_of_sizes(t, n, epochs, held_out) for t, _ in every) for n in (0, 100))
    affordable = 100 * int((share - none) // (hundred - none))
    return min(most, max(LEAST_IMAGES, affordable))
