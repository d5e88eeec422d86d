"""What a reader has to know before relying on a model's accuracy. Not here: where the report says it (report)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.proportions import wilson
from tasks.wording import counted, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.metrics import ClassMetrics, Metrics
    from schemas.receipt import Repeated
    from tasks.publish.contents import ReportContents

_SORTED: Final = 2.0  # times chance: images whose neighbours are alike so often do not come in a drawn order
_DEVIATIONS: Final = 3.0  # beyond what chance gives so many pairs of neighbours


def caveats(contents: ReportContents) -> tuple[str, ...]:
    """All of them, a sentence or two each."""
    return (*_of_data(contents), *_of_images_known(contents), *_of_classes(contents), *_of_model(contents))


def repeated(contents: ReportContents, where: str) -> Repeated | None:
    """Images that are there more than once, 'test in train' or within a split; None where there are none."""
    found = (each for each in contents.receipt.repeated or () if each.where == where and each.rows)
    return next(found, None)


@dataclass(frozen=True)
class Weakest:
    """The class that is found least often.

    Attributes:
        of: It, or the first of several.
        others: How many more are found as rarely.
        clearly: Whether its interval lies below that of the class found most often, each so wide that of all classes
            together one lies beside its interval in 5 % of cases (Bonferroni): of many equal ones the extremes differ.
    """

    of: ClassMetrics
    others: int
    clearly: bool


def weakest(metrics: Metrics) -> Weakest | None:
    """The class that is found least often; None where no class is found more often than another."""
    present = sorted((c for c in metrics.classes if c.recall is not None), key=lambda c: c.recall or 0)
    if not present or present[0].recall == present[-1].recall:
        return None
    first, level = present[0], 1 - 0.05 / len(present)
    _, high = _interval(first, level)
    low = max(_interval(c, level)[0] for c in present if c.recall == present[-1].recall)
    return Weakest(first, sum(c.recall == first.recall for c in present) - 1, high < low)


def _interval(measured: ClassMetrics, level: float) -> tuple[float, float]:
    """Where a class's recall lies, at a level."""
    return wilson(round((measured.recall or 0) * measured.support), measured.support, level=level)


def _of_data(contents: ReportContents) -> Iterator[str]:
    yield (
        "It was measured on test images of the same origin as the training images. How it answers images of another "
        "origin was not measured, and it has no answer for what is none of its classes."
    )
    if contents.mode == "tracked":
        yield "Nobody vouches for the files: they are known by the digests below, and never called verified."
    if within := repeated(contents, "within test"):
        yield (
            f"{number(within.rows)} of {counted(within.of, 'test image')} repeat an earlier one, so that the intervals "
            "are narrower than they should be."
        )
    if _are_sorted(contents):
        yield (
            f"Of the test images {percent(contents.neighbours_alike or 0)} have the class of the one before them, "
            f"where chance would give {percent(_chance(contents.metrics))}: an image is answered with its neighbours "
            "in view, so that images in another order may be answered worse, and the intervals are narrower than they "
            "should be."
        )
    suspects = contents.metrics.suspects
    if suspects and suspects.count:
        yield (
            f"{counted(suspects.count, 'test label')} may be wrong: a suspicion of this model, to be looked at by a "
            "person."
        )


def _of_images_known(contents: ReportContents) -> Iterator[str]:
    known = "so the accuracy on images that it never saw may be lower."
    if leaks := repeated(contents, "test in train"):
        yield f"{number(leaks.rows)} of {number(leaks.of)} test images are training images as well, {known}"
    if not contents.before_on_record:
        yield (
            "What the run that it began with had learned from is not wholly on record, so it may have seen some of the "
            "test images."
        )
    if contents.learned_before:
        yield (
            f"{number(contents.learned_before)} of {number(contents.metrics.samples)} test images were training images "
            f"of the run that it began with, or of one before that, {known}"
        )


def _of_classes(contents: ReportContents) -> Iterator[str]:
    classes = contents.metrics.classes
    counts = contents.drift.profile.labels if contents.drift else ()
    unseen = [measured.name for measured, count in zip(classes, counts, strict=False) if not count]
    if unseen and contents.began_with:
        yield f"No training image of this run has these classes, only of those it goes back to: {', '.join(unseen)}."
    elif unseen:
        yield f"No training image has these classes, so that it cannot know them: {', '.join(unseen)}."
    absent = [measured.name for measured in classes if not measured.support]
    if absent:
        yield f"No test image has these classes, so nothing is known about them: {', '.join(absent)}."


def _of_model(contents: ReportContents) -> Iterator[str]:
    metrics, history = contents.metrics, contents.history
    if history.epochs and history.epochs[-1].validation_loss is None:
        yield "No validation split was held out: nothing but the test images tells whether it learned by heart."
    best = max(metrics.floors, key=lambda floor: floor.accuracy, default=None)
    if best and best.accuracy >= metrics.interval[0]:
        as_well = best.accuracy >= metrics.accuracy
        judged = "A simple model does as well" if as_well else "It is not shown to be better than a simple model"
        yield f"{judged}: {best.name} reaches {percent(best.accuracy)}."
    fitted = contents.ledger.count("train", "fitted") or 0
    fitted *= contents.configuration.reshape.images_per_sequence
    if metrics.floors and (few := min(floor.trained_on for floor in metrics.floors)) < fitted:
        yield f"The simple models learned from {few:,} images only, by a limit on their time, the network from more."
    worst, count = max(
        (abs((each.confidence or 0) - (each.accuracy or 0)), each.count)
        for each in metrics.calibration.reliability
        if each.count
    )
    least = weakest(metrics)
    if least and least.clearly:
        found = percent(least.of.recall or 0)
        yield f"It is not equally good everywhere: of the class {least.of.name} it finds {found}."
    yield (
        f"Its confidence is off by {100 * metrics.calibration.ece:.2f} points on average, and by "
        f"{100 * worst:.1f} in the worst bin, which has {counted(count, 'answer')}."
    )


def _chance(metrics: Metrics) -> float:
    """How often two images that are drawn have the same class."""
    return math.fsum((measured.support / metrics.samples) ** 2 for measured in metrics.classes)


def _are_sorted(contents: ReportContents) -> bool:
    """Whether neighbours in a sequence are alike more often than a drawn order explains."""
    alike, chance = contents.neighbours_alike, _chance(contents.metrics)
    pairs = contents.metrics.samples - (contents.ledger.count("test", "sequences") or 0)
    if alike is None or not pairs:
        return False
    deviation = math.sqrt(chance * (1 - chance) / pairs)
    return alike > max(min(_SORTED * chance, (1 + chance) / 2), chance + _DEVIATIONS * deviation)
