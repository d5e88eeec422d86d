"""The configuration of a run: its form, its bounds and what they mean. Not here: presets (presets.toml) and files.

An invalid configuration cannot be constructed. Every field's description is what the Prefect UI shows beside it.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.champion import Demands
from schemas.drift import DriftLimits
from schemas.errors import ConfigurationError
from schemas.handles import Frozen

EPOCHS: Final = 8
LEAST_SEEN: Final = 128_000  # a small set that is gone through eight times has hardly been learned: docs/LOG.md
MOST_EPOCHS: Final = 1_000
MOST_CHANNELS: Final = 4
Layout = Literal["pixels", "frames"]
Scan = Literal["rows", "columns", "permuted"]
Share = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Reshape(Frozen):
    """How images become sequences (N, T, F)."""

    layout: Layout = Field(
        default="pixels",
        description="pixels: one image is one sequence and its pixels are split into T steps, N never changes. "
        "frames: T consecutive images are one sequence, with a label for every frame.",
    )
    timesteps: int = Field(
        default=0,
        ge=0,
        description="T. Layout pixels: must divide the pixels of an image, F = pixels / T; 0: each line of the image "
        "is a step, 28 where images are 28 × 28. Layout frames: images in one sequence.",
    )
    scan: Scan = Field(default="rows", description="The order in which pixels become steps.")
    scan_seed: int = Field(default=0, ge=0, description="Seed of the permuted scan.")
    remainder: Literal["error", "drop"] = Field(
        default="error",
        description="Layout frames, where T does not divide N: stop, or drop the rest and say how many in the ledger.",
    )
    targets: Literal["as layout", "one per image"] = Field(
        default="as layout",
        description="'one per image' leaves the labels ungrouped under layout frames: a mistake, kept so that the "
        "failure can be seen (preset question-3750).",
    )

    @property
    def images_per_sequence(self) -> int:
        """1 under layout pixels, T under layout frames."""
        return self.timesteps if self.layout == "frames" else 1

    def sequence_shape(self, item: tuple[int, ...]) -> tuple[int, int]:
        """(T, F), steps and features of one, of a sequence of images of this shape.

        Where T is not given, a step is one row, or one column where the scan goes by columns.

        Raises:
            ConfigurationError: T does not divide the pixels; the divisors are listed.
        """
        pixels, (rows, columns, _) = math.prod(item), grid_of(item)
        steps = self.timesteps or (columns if self.scan == "columns" else rows)
        if self.layout == "frames":
            return steps, pixels
        if pixels % steps:
            raise ConfigurationError(
                f"reshape.timesteps = {steps} does not divide the {pixels} pixels of an image",
                f"one of {', '.join(map(str, divisors(pixels)))}",
                "Set reshape.timesteps to one of them, or to 0: a line of the image a step",
            )
        return steps, pixels // steps

    def resolved(self, item: tuple[int, ...]) -> Self:
        """The same with T as a number, for images of this shape; raises ConfigurationError as `sequence_shape`."""
        return self.model_copy(update={"timesteps": self.sequence_shape(item)[0]})

    @model_validator(mode="after")
    def _frames_are_so_many(self) -> Self:
        if self.layout == "frames" and not self.timesteps:
            raise ValueError("layout frames needs timesteps, the images in one sequence")
        return self


def grid_of(item: tuple[int, ...]) -> tuple[int, int, int]:
    """Rows, columns and values of a pixel, of an image of this shape.

    Axes of size 1 do not count, and few values on the last of three axes are a pixel's channels. Where channels come
    first, the rows are those of all planes under each other. An image without rows, a vector, is cut into about as many
    as each then has pixels.
    """
    axes = [size for size in item if size > 1]
    channels = axes.pop() if len(axes) > 2 and axes[-1] <= MOST_CHANNELS else 1
    pixels = math.prod(axes)
    rows = math.prod(axes[:-1]) if len(axes) > 1 else min(divisors(pixels), key=lambda t: abs(t - pixels / t))
    return rows, pixels // rows, channels


def divisors(number: int) -> list[int]:
    """Ascending."""
    return [t for t in range(1, number + 1) if number % t == 0]


class LstmLayer(Frozen):
    """One LSTM layer."""

    units: int = Field(default=128, ge=1, description="Width h of the layer.")
    bidirectional: bool = Field(default=False, description="Read the sequence in both directions.")


class Network(Frozen):
    """The network: LSTM layers, then a dense softmax over the classes."""

    layers: tuple[LstmLayer, ...] = Field(
        default=(LstmLayer(),), min_length=1, description="The LSTM layers, the one that reads the sequence first."
    )
    dropout_input: Share = Field(default=0.0, description="Dropout of single input values, after scaling.")
    dropout_between: Share = Field(default=0.0, description="Dropout between LSTM layers.")
    dropout_head: Share = Field(default=0.3, description="Dropout before the dense layer.")
    pooling: Literal["last", "mean", "none"] = Field(
        default="last",
        description="What the dense layer sees under layout pixels: the last step, the mean over the steps, or every "
        "step beside the others, with weights for each.",
    )
    memory: Literal["short", "chrono"] = Field(
        default="short",
        description="What the LSTM's gates begin with. short: forget biases of 1, as Keras has it; chrono: forget and "
        "input biases drawn for memories of 1 to T steps, for long sequences.",
    )


class Augmentation(Frozen):
    """Training images are seen moved a little, anew in every epoch; images held out or tested never are."""

    shift: Finite = Field(
        default=2.0,
        ge=0,
        description="Pixels by which an image is moved at most, down or across, each drawn by itself.",
    )
    rotation: Finite = Field(
        default=10.0, ge=0, le=180, description="Degrees by which an image is turned about its middle at most."
    )


class EarlyStopping(Frozen):
    """Stop when the validation loss has not improved for so many epochs, and keep the best weights."""

    patience: int = Field(
        default=3, ge=1, description="Epochs without a better validation loss before it stops, however short."
    )


class Training(Frozen):
    """How the network is trained."""

    epochs: int = Field(
        default=0,
        ge=0,
        description="How often the training sequences are gone through. 0: 8 times, or where they are few as often as "
        "it takes to see 128,000, 1,000 times at most.",
    )
    batch_size: int = Field(default=128, ge=1, description="Sequences in one step of the optimizer.")
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = Field(
        default="adamw", description="How a gradient becomes a step."
    )
    learning_rate: Finite = Field(default=4e-3, gt=0, description="Peak of the schedule.")
    schedule: Literal["constant", "one-cycle"] = Field(
        default="one-cycle", description="one-cycle: warm up to the peak, then anneal by a cosine to almost 0."
    )
    warm_up: float = Field(
        default=0.3, gt=0, lt=1, description="Share of all steps in which one-cycle rises to its peak."
    )
    loss: Literal["cross-entropy", "mean-squared-error"] = Field(
        default="cross-entropy", description="What training makes small; mean-squared-error is the question's."
    )
    label_smoothing: Share = Field(default=0.05, description="Share of each target that is spread over all classes.")
    weight_decay: Finite = Field(default=0.01, ge=0, description="Decoupled weight decay; adamw only.")
    weight_dropout: Share = Field(
        default=0.0, description="Share of the LSTM's recurrent weights that each batch is read without (DropConnect)."
    )
    clip_norm: Finite = Field(default=1.0, ge=0, description="Bound on the global norm of the gradient; 0 for none.")
    scaling: Literal["none", "unit", "standard"] = Field(
        default="standard",
        description="none: raw values; unit: over the range of a type of whole numbers to 0..1; standard: minus the "
        "training mean, over the training deviation.",
    )
    augmentation: Augmentation | None = Field(
        default=None,
        title="Augmentation",
        description="Move and turn the training images a little, anew in every epoch; only when asked.",
    )
    validation_share: Share = Field(
        default=0.05, description="Share of the training sequences held out for validation; 0 for none."
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        title="Early Stopping",
        description="Stop when the validation loss no longer improves, and keep the best weights; only when asked.",
    )
    seed: int = Field(
        default=20, ge=0, lt=2**32, description="Seed of weights, split, order, dropout and the moving of images."
    )

    def epochs_over(self, sequences: int) -> int:
        """The epochs that are given; else 8, or enough to see 128,000 sequences where they are few, 1,000 at most."""
        return self.epochs or max(EPOCHS, min(MOST_EPOCHS, math.ceil(LEAST_SEEN / sequences)))

    @model_validator(mode="after")
    def _early_stopping_has_something_to_watch(self) -> Self:
        if self.early_stopping and not self.validation_share:
            raise ValueError("early_stopping watches the validation loss, and validation_share = 0 holds nothing out")
        return self


class Evaluating(Frozen):
    """What evaluation reports."""

    calibration_bins: int = Field(default=15, ge=2, le=100, description="Bins of the reliability diagram.")
    worst_mistakes: int = Field(
        default=24,
        ge=0,
        le=200,
        description="How many of the surest mistakes are shown, and at most of the labels that may be wrong.",
    )


class RunConfiguration(Frozen):
    """Everything that decides what a retraining run does. The defaults are the preset `rows`."""

    preset: str = Field(
        default="rows", description="Name of the preset this began with. Only a name: it brings no settings."
    )
    dataset: str = Field(default="mnist", description="A name of the dataset catalog.")
    reshape: Reshape = Reshape()
    network: Network = Network()
    training: Training = Training()
    evaluation: Evaluating = Evaluating()
    promotion: Demands = Demands()
    drift: DriftLimits = DriftLimits()

    def resolved(self, item: tuple[int, ...], sequences: int) -> Self:
        """The same with T and epochs as numbers, for images of this shape and so many sequences to learn from.

        What is given and what follows from the data are then equal where they agree.

        Raises:
            ConfigurationError: T does not divide the pixels.
        """
        training = self.training.model_copy(update={"epochs": self.training.epochs_over(sequences)})
        return self.model_copy(update={"reshape": self.reshape.resolved(item), "training": training})
