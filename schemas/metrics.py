"""The measures of a run, as metrics.json holds them: their form and what each means. Not here: computing them.

Labels are the dataset's own (receipt: `labels.first` onwards), never class indices. A measure whose definition would
divide by zero is None, so that 'unknown' is never read as 'bad'.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.handles import Frozen

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[Probability, Probability]
LossName = Literal["cross-entropy", "mean-squared-error"]


class NamedLoss(Frozen):
    """The loss that the configuration trains with, on the test split, without smoothing or weight penalties.

    `cross-entropy` is in nats; `mean-squared-error` is the mean over samples and classes, as Keras has it.
    """

    name: LossName
    value: float = Field(ge=0)


class ClassMetrics(Frozen):
    """One class against all others."""

    label: int
    name: str
    precision: Probability | None = Field(description="Share of its predictions that are right; None: never predicted.")
    recall: Probability | None = Field(description="Share of its samples that were found; None: no samples.")
    f1: Probability | None = Field(description="Harmonic mean of both; None: neither samples nor predictions.")
    support: Count = Field(description="Samples of the class.")
    predicted: Count = Field(description="Samples that were taken for the class.")
    recall_interval: Interval | None = Field(description="Wilson 95 % interval of the recall.")


class Macro(Frozen):
    """Plain means over the classes that have samples; a precision that is None counts as 0 here."""

    precision: Probability
    recall: Probability
    f1: Probability
    classes: int = Field(ge=1, description="Classes that the means are over.")


class Bin(Frozen):
    """One bin of the reliability diagram: samples whose top-1 confidence c has lower < c <= upper."""

    lower: Probability
    upper: Probability
    count: Count
    confidence: Probability | None = Field(description="Mean confidence of the bin's samples; None: it is empty.")
    accuracy: Probability | None = Field(description="Share of the bin's samples that are right; None: it is empty.")


class Calibration(Frozen):
    """How far the top-1 confidence can be taken at its word.

    `ece` is the expected calibration error of Guo et al., 'On Calibration of Modern Neural Networks', ICML 2017,
    equation 3: the mean of |accuracy - confidence| over equal-width bins, each weighted by its share of the samples.
    `mce` is the maximum of the same gaps over the bins that are not empty (equation 5 there).
    """

    bins: int = Field(ge=1)
    ece: Probability
    mce: Probability
    reliability: tuple[Bin, ...]


class Mistake(Frozen):
    """One wrong answer. `index` is the sample's row in its file."""

    index: Count
    label: int
    predicted: int
    confidence: Probability = Field(description="Probability of the predicted class.")
    probability_of_label: Probability


class Slice(Frozen):
    """Some of the samples: how many of them were answered right."""

    name: str
    lower: float | None = Field(description="Least value of the property in the slice; None: it is not a number.")
    upper: float | None = Field(description="Greatest value of the property in the slice.")
    samples: int = Field(ge=1)
    correct: Count
    accuracy: Probability
    interval: Interval = Field(description="Wilson 95 % interval of the accuracy.")


class Slicing(Frozen):
    """All samples, parted by one property.

    `ink` is the sum of an image's pixels as stored; `blank tail` the number of pixels that are 0 at the end of its
    sequence, in the order in which the network reads them; `half` the first and the second half of the file.
    Quarters are cut at the quartiles of the measured samples: equal values stay together, so that quarters may have
    unequal sizes, and one that would be empty is left out.
    """

    by: Literal["ink", "blank tail", "half"]
    slices: tuple[Slice, ...]


class Suspect(Frozen):
    """A sample whose written label may be wrong. `index` is its row in its file."""

    index: Count
    label: int
    suggested: int = Field(description="The most probable of the other labels that reach their threshold.")
    probability_of_label: Probability
    probability_of_suggested: Probability


class Suspects(Frozen):
    """Samples whose label may be wrong, by confident learning; a suspicion, since the model may be wrong as well.

    Northcutt, Jiang and Chuang, 'Confident Learning: Estimating Uncertainty in Dataset Labels', JAIR 70, 2021: the
    threshold of a class is the mean probability of that class over the samples labelled so; a sample is suspected
    where another class reaches its own threshold, and of several the most probable one is suggested (the off-diagonal
    of the confident joint, equation 1 there). Only wrong answers are suspected here.
    """

    count: Count
    thresholds: tuple[Probability | None, ...] = Field(description="Of each class; None: no samples.")
    worst: tuple[Suspect, ...] = Field(
        description="Those with the greatest difference of the two probabilities, greatest first."
    )


class Floor(Frozen):
    """A simple model on the same split: what can be had without a network. Its definition stands in evaluate/floors."""

    name: Literal["nearest centroid", "logistic regression"]
    trained_on: int = Field(ge=1, description="Training images that it saw.")
    correct: Count
    accuracy: Probability
    interval: Interval = Field(description="Wilson 95 % interval of the accuracy.")


class Metrics(Frozen):
    """Everything that evaluate measures about one model on one split.

    What earlier versions did not measure is empty or None in what they wrote.
    """

    samples: int = Field(ge=1)
    correct: Count
    accuracy: Probability
    interval: Interval = Field(description="Wilson 95 % interval of the accuracy.")
    loss: float = Field(ge=0, description="Mean cross-entropy in nats; probabilities below 1e-12 count as 1e-12.")
    configured_loss: NamedLoss
    classes: tuple[ClassMetrics, ...]
    macro: Macro
    confusion: tuple[tuple[Count, ...], ...] = Field(description="Row: true class, column: predicted class.")
    calibration: Calibration
    worst: tuple[Mistake, ...] = Field(description="The mistakes made with the most confidence, worst first.")
    slices: tuple[Slicing, ...] = ()
    suspects: Suspects | None = None
    floors: tuple[Floor, ...] = ()

    def name_of(self, label: int) -> str:
        """The name of the class with a label."""
        return next(measured.name for measured in self.classes if measured.label == label)
