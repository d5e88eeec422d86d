"""A point of the study of time steps, and what it measures. Not here: which points there are (design), measuring.

A point is one training: a recipe, a scan, T and a seed, on so many images for so many epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from schemas.configuration import Scan, Training
from schemas.handles import Frozen
from schemas.presets import configured

if TYPE_CHECKING:
    from schemas.configuration import Network

RecipeName = Literal["question", "sound"]
LOOKED_AT: Final = 256  # images for the gates before training
GRADIENTS: Final = 64  # images for the gradient, which keeps every step of them in float64
RECIPES: Final[tuple[RecipeName, ...]] = ("question", "sound")


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
    floor: float = Field(description="Share of the images held out that are of their most frequent class.")
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
