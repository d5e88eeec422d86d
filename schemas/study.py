"""The study of time steps: what is asked, which points that makes, and what one point measures. Not here: measuring.

A point is one training: a recipe, a scan, T and a seed, on so many images for so many epochs. What a point is never
depends on how many others there are, so that one more seed adds its own points and changes none.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, ValidationError

from schemas.configuration import Scan, Training
from schemas.errors import ConfigurationError
from schemas.handles import Frozen
from schemas.presets import configured, problem_told

if TYPE_CHECKING:
    from schemas.configuration import Network

RecipeName = Literal["question", "sound"]
RECIPES: Final[tuple[RecipeName, ...]] = ("question", "sound")
SCANS: Final[tuple[Scan, ...]] = ("rows", "columns", "permuted")

REFERENCE_SEEDS: Final = 3  # the budget is for so many seeds of all recipes and scans on so many processors
REFERENCE_PROCESSORS: Final = 2
BUDGET_MINUTES: Final = 120.0
EPOCHS: Final = 6
LEAST_IMAGES: Final = 2_000
HELD_OUT_SHARE: Final = 1 / 12
MOST_HELD_OUT: Final = 5_000

# One processor's seconds on the reference machine (docs/LOG.md, "The study"): they size the default study, no more.
SECONDS_A_POINT: Final = 6.0
SECONDS_A_STEP: Final = 4.0e-6  # of one image in one epoch
SECONDS_AN_IMAGE: Final = 1.6e-5
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
        description="Decides how many images each T is trained on: three seeds of both recipes and all scans should "
        "end within it on two processors. More or fewer seeds or scans take their part of it.",
    )
    images: int | None = Field(default=None, ge=1, description="No more images than this, whatever the budget.")
    epochs: int | None = Field(default=None, ge=1, description="So many epochs.")


class Point(Frozen):
    """One training of the study."""

    recipe: RecipeName
    scan: Scan
    timesteps: int = Field(ge=1)
    features: int = Field(ge=1)
    seed: int = Field(ge=0)
    images: int = Field(ge=1, description="Training images it learns from.")
    held_out: int = Field(ge=1, description="Training images it is measured on; the same for every point.")
    epochs: int = Field(ge=1)

    @property
    def label(self) -> str:
        """The point by name."""
        return f"{self.timesteps} × {self.features} {self.scan}, {self.recipe} recipe, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """What it should take one processor of the reference machine."""
        return seconds_of(self.timesteps, self.images, self.epochs, self.held_out)


class PointCounts(Frozen):
    """Where the samples of a point went, each counted by itself."""

    sequences: int = Field(description="In the sealed training split.")
    fitted: int
    held_out: int
    left_out: int = Field(description="Neither fitted nor held out: what the subset leaves.")
    seen: int = Field(description="Counted by the optimiser in each epoch.")
    answered: int = Field(description="Held-out images that were answered.")


class PointResult(Frozen):
    """What one point measured."""

    point: Point
    counts: PointCounts
    parameters: int = Field(description="Of the whole model, as Keras counts them.")
    lstm_parameters: int = Field(description="Of the LSTM layer.")
    accuracy: float = Field(description="On the images held out.")
    training_accuracy: float = Field(description="Over the last epoch, on the images it learned from.")
    loss: float = Field(description="Over the last epoch.")
    hits_after: tuple[int, ...] = Field(description="Held-out images answered right after step 1, 2, … T.")
    saturated: float = Field(description="Share of the sigmoid gates below 0.01 or above 0.99 before training.")
    gradient_ratio: float | None = Field(
        description="Before training: norm of the loss's gradient at the inputs of the first quarter of the steps, "
        "over that at the last quarter; None below four steps."
    )
    gradient_ratio_chrono: float | None = Field(description="The same, were the gates' biases drawn for long memory.")
    output_gradient: float = Field(description="Before training: mean norm of the loss's gradient at the logits.")
    blank_tail: int = Field(description="Median number of zero pixels at the end of a sequence.")
    seconds_an_epoch: float = Field(description="The median epoch, the first one apart where there are more.")
    seconds: float = Field(description="The whole point.")
    engine: str
    machine: str


class StudySubject(Frozen):
    """What a study was about."""

    study: str
    created: datetime.datetime
    dataset: str
    title: str
    orientation: str
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
        problems = [problem_told(problem, StudySettings) for problem in error.errors(include_url=False)]
        raise ConfigurationError(
            f"the study is wrong: {'; '.join(problems)}",
            "options as `stepwise study timesteps --help` lists them",
            "Correct them; nothing was run",
        ) from error


def factorisations(pixels: int) -> tuple[tuple[int, int], ...]:
    """Every (T, F) with T · F = pixels, by T."""
    return tuple((t, pixels // t) for t in range(1, pixels + 1) if pixels % t == 0)


def seconds_of(timesteps: int, images: int, epochs: int, held_out: int) -> float:
    """What a point of these sizes should take one processor of the reference machine."""
    learned = epochs * images * (timesteps * SECONDS_A_STEP + SECONDS_AN_IMAGE)
    return SECONDS_A_POINT + learned + held_out * timesteps * SECONDS_A_STEP_LOOKED_AT


def lstm_parameters(features: int, units: int) -> int:
    """4h(f + h + 1): four gates, each with a weight for every feature, every unit and one bias."""
    return 4 * units * (features + units + 1)


def recipe_of(point: Point) -> tuple[Network, Training]:
    """The network and the training of a point; both recipes train the question's network, LSTM(40) in batches of 50."""
    asked = configured("question-16x49")
    given: dict[str, Any] = {"epochs": point.epochs, "seed": point.seed, "validation_share": 0.0}
    if point.recipe == "sound":
        given |= {
            "optimizer": "adam",
            "learning_rate": 0.002,
            "schedule": "one-cycle",
            "loss": "cross-entropy",
            "clip_norm": 1.0,
            "scaling": "standard",
        }
    return asked.network, asked.training.model_copy(update=given)


def designed(settings: StudySettings, pixels: int, rows: int) -> tuple[Point, ...]:
    """The points of a study of a training split, seed by seed, so that each finished seed is a whole picture.

    Raises:
        ConfigurationError: a T does not divide the pixels, or the split is too small.
    """
    epochs = _epochs(settings)
    held_out = min(MOST_HELD_OUT, round(rows * HELD_OUT_SHARE))
    if not held_out:
        raise ConfigurationError(f"{rows} training images", "enough to hold some out", "Study a larger dataset")
    every = factorisations(pixels)
    sizes = _sizes(settings, every, rows - held_out, held_out, epochs)
    return tuple(
        Point(
            recipe=recipe,
            scan=scan,
            timesteps=t,
            features=f,
            seed=seed,
            images=sizes[t],
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


def _epochs(settings: StudySettings) -> int:
    asked = configured("question-16x49").training.epochs
    return settings.epochs or (asked if settings.everything else EPOCHS)


def _sizes(
    settings: StudySettings, every: tuple[tuple[int, int], ...], available: int, held_out: int, epochs: int
) -> dict[int, int]:
    """Training images by T: all of them, or so many that a whole series of every T keeps its part of the budget.

    Whatever is asked for, the part is that of the reference: the sizes of a point do not change with what else is
    studied.
    """
    most = min(available, settings.images or available)
    if settings.everything:
        return {t: most for t, _ in every}
    series = REFERENCE_SEEDS * len(RECIPES) * len(SCANS)
    share = settings.budget_minutes * 60 * REFERENCE_PROCESSORS / series

    def sizes(steps: float) -> dict[int, int]:
        return {t: int(min(most, max(LEAST_IMAGES, 100 * (steps // (100 * t))))) for t, _ in every}

    def cost(steps: float) -> float:
        return sum(seconds_of(t, images, epochs, held_out) for t, images in sizes(steps).items())

    low, high = 1.0, float(most) * every[-1][0]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= share else (low, middle)
    return sizes(low)
