"""Drift: how the training data differ from the champion's, and what is done about it. Not here: measuring it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.errors import DataError
from schemas.handles import Frozen, Handle

Level = Literal["none", "warn", "stop"]
Count = Annotated[int, Field(ge=0)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PIXEL_BINS = 32
CONFIDENCE_BINS = 10


class DriftLimits(Frozen):
    """How far new training data may be from the champion's, as a population stability index beyond chance."""

    warn: Limit = Field(
        default=0.1, description="Population stability index from which on a shift is told as a warning; 0.1 is usual."
    )
    stop: Limit | None = Field(
        default=None,
        description="Index from which on the run stops before training, so that a person looks at the data; 0.25 is "
        "usual. Empty: it never stops.",
    )


class Profile(Frozen):
    """What training data look like, in counts.

    Attributes:
        rows: Images.
        first: The label of the first class; None: published before profiles stated it.
        labels: How often each class occurs, in the order of the classes.
        low: Left edge of the first bin of pixels.
        high: Right edge of the last.
        pixels: Pixels in each of equally wide bins.
        below: Pixels below the first bin.
        above: Pixels above the last.
        mean: Of all pixels, in their own unit.
        std: The same.
        confidence: How often the champion answered with a probability in each tenth, over a sample of images that it
            did not learn; None: not asked.
    """

    rows: Count
    first: int | None = None
    labels: tuple[Count, ...]
    low: float
    high: float
    pixels: tuple[Count, ...]
    below: Count = 0
    above: Count = 0
    mean: float
    std: float
    confidence: tuple[Count, ...] | None = None


class Shift(Frozen):
    """How far one distribution is from the champion's."""

    what: str
    index: float = Field(ge=0, description="Population stability index.")
    chance: float = Field(ge=0, description="What chance alone may give with so many samples.")
    level: Level
    found: str = Field(description="What moved most, as a person would say it; of pixels mean and deviation before.")


class Drift(Frozen):
    """The training data of a run beside the champion's."""

    champion: str | None
    worst: Level
    shifts: tuple[Shift, ...] = ()
    why_none: str = Field(default="", description="Why nothing was compared, where nothing was.")
    profile: Profile


class Drifted(Frozen):
    """What the stage drift returns: where the comparison is kept, and its worst level."""

    drift: Handle
    worst: Level


class DriftedError(DataError):
    """The training data have drifted so far that the run stops; `drift` is the comparison."""

    def __init__(self, found: str, expected: str, remedy: str, file: str, drift: Drift) -> None:
        super().__init__(found, expected, remedy, file)
        self.args = (found, expected, remedy, file, drift)
        self.drift = drift
