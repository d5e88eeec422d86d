"""What is looked at before a model may take the champion's place, a finding each.

Not here: the answers that are compared (answers), the images that count (seen), the verdict (the stage itself).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.champion import Finding, Paired
from tasks.compare.answers import metrics_of
from tasks.proportions import mcnemar_exact, newcombe_paired
from tasks.wording import beside, counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.champion import Demands
    from schemas.handles import Labels
    from schemas.metrics import Calibration
    from tasks.compare.answers import Answers
    from tasks.compare.seen import Seen

CHANCE: Final = 0.05  # at which a class, of all together, or honesty is said to be lost by mistake
VANISHED: Final = 5  # images of a class: where so many were found and none is, chance is not asked


def paired(new: Answers, old: Answers, level: float = 0.95) -> Paired:
    """Two models' answers to the same samples, side by side; the difference with its interval at a level."""
    a, b, c, d = _table(new.right, old.right)
    return Paired(
        samples=a + b + c + d,
        both=a,
        only_new=b,
        only_old=c,
        neither=d,
        p=mcnemar_exact(b, c),
        difference=(b - c) / (a + b + c + d),
        interval=newcombe_paired(a, b, c, d, level),
        level=level,
    )


def _table(new: NDArray[Any], old: NDArray[Any]) -> tuple[int, int, int, int]:
    """Samples that both got right, only the new one, only the old one, neither."""
    return (
        int((new & old).sum()),
        int((new & ~old).sum()),
        int((~new & old).sum()),
        int((~new & ~old).sum()),
    )


def alone(predictions: Path, labels: Labels, seen: Seen, demands: Demands) -> Iterator[Finding]:
    """What is demanded of any model, on images that it has not learned from."""
    rows = ~seen.by_new
    if not rows.any():
        yield Finding(what="test images that it has not learned from", holds=False, found=f"none of {len(rows):,}")
        return
    metrics = metrics_of(predictions, labels, rows)
    everywhere = metrics_of(predictions, labels, np.ones_like(rows))
    # Where no image of a class is left, it is at least to be found where it was learned.
    classes = [
        left if left.support else of_all for left, of_all in zip(metrics.classes, everywhere.classes, strict=True)
    ]
    known = "" if seen.new_known else ", as far as that is on record"
    of = (
        f" of the {metrics.samples:,} test images that it has not learned from{known}"
        if known or not rows.all()
        else ""
    )
    accuracy, low = metrics.accuracy, metrics.interval[0]
    commonest = max(each.support for each in metrics.classes) / metrics.samples
    if demands.minimum_accuracy:
        yield Finding(
            what="minimum accuracy",
            holds=accuracy >= demands.minimum_accuracy,
            found=_demanded(accuracy, of, demands.minimum_accuracy),
        )
    yield from (
        Finding(
            what=f"minimum recall of class {each.name}",
            holds=False,
            found=_demanded(each.recall or 0, f" of its {each.support:,} found", demands.minimum_recall)
            if each.support
            else "no test image has it, so that nobody knows",
        )
        for each in classes
        if (each.recall or 0) < demands.minimum_recall
    )
    shown = beside(low, commonest, ".2%")
    surely = f"surely above {shown}" if low > commonest else f"which may be as low as {shown}"
    yield Finding(
        what="better than always answering the most frequent class",
        holds=low > commonest,
        found=f"{accuracy:.2%}{of}, {surely}, where that would give {commonest:.2%}",
    )


def _demanded(found: float, of: str, least: float) -> str:
    return f"{beside(found, least, '.2%')}{of}, at least {least:.2%} demanded"


def better(comparison: Paired, demands: Demands, without: str) -> Finding:
    """Whether the new model is better; `without` says which images did not count."""
    low, high = comparison.interval
    return Finding(
        what="better than the champion",
        holds=comparison.p <= demands.error_rate,
        found=f"{counted(comparison.only_new, 'image')} only this model got right, "
        f"{comparison.only_old:,} only the champion: "
        f"{100 * comparison.difference:+.2f} points ({100 * comparison.level:g} % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}); p = {beside(comparison.p, demands.error_rate)}, at most {demands.error_rate:g} demanded"
        f"{without}",
    )


def classes_kept(
    new: Answers, old: Answers, rows: NDArray[np.bool_], labels: Labels, demands: Demands
) -> Iterator[Finding]:
    """One finding for all classes that hold, or one for each that does not.

    Of many classes one falls by luck: the rate is that of all together (Bonferroni). It is not the error rate that is
    demanded of the whole: to object more rarely would be no stricter.
    """
    compared, there = (set(np.unique(of.labels).tolist()) for of in (new.of(rows), new))
    limit = CHANCE / max(1, len(compared))
    lost = [
        Finding(what=f"class {labels.names[label - labels.first]} not lost", holds=False, found=found)
        for label in sorted(there)
        if (
            found := _vanished(label, new, old)
            or _loss_of(label, new.of(rows), old.of(rows), demands.class_margin, limit)
        )
    ]
    kept = f"none is found {100 * demands.class_margin:g} points more rarely than chance explains"
    few = sum(0.5 ** int((new.of(rows).labels == label).sum()) > limit for label in compared)
    if few:
        kept += f"; of {few:,} of {len(compared):,} there are too few images to tell"
    if unknown := len(there - compared):
        kept += f"; of {unknown:,} of the classes no image is left that neither has learned from"
    yield from lost or [Finding(what="no class lost", holds=True, found=kept)]


def _vanished(label: int, new: Answers, old: Answers) -> str:
    """That a class is never found any more, in images that were learned either; empty where it is, or never was.

    Of few images chance is not excluded so soon as somebody would be sorry.
    """
    of_class = new.labels == label
    before, now = int(old.right[of_class].sum()), int(new.right[of_class].sum())
    if now or before < VANISHED:
        return ""
    return f"found in none of its {int(of_class.sum()):,} images, by the champion in {before:,}"


def _loss_of(label: int, new: Answers, old: Answers, margin: float, limit: float) -> str:
    """What a class has lost, where it is more than the margin, and chance less likely than the limit; else nothing."""
    of_class = new.labels == label
    both, gained, lost, neither = _table(new.right[of_class], old.right[of_class])
    samples = both + gained + lost + neither
    if lost - gained <= margin * samples:
        return ""
    p = mcnemar_exact(lost, gained)
    before, now = (both + lost) / samples, (both + gained) / samples
    return f"found {now:.2%} of the time, by the champion {before:.2%} (p = {p:.2g})" if p <= limit else ""


def calibrated(now: Calibration, before: Calibration, demands: Demands) -> Finding:
    """Whether answers are as sure as they are right, but for a margin and for chance."""
    chance = NormalDist().inv_cdf(1 - CHANCE) * math.hypot(_deviation(now), _deviation(before))
    return Finding(
        what="calibration not worse",
        holds=now.ece <= before.ece + demands.calibration_margin + chance,
        found=f"expected calibration error {now.ece:.2%}, the champion's {before.ece:.2%}, "
        f"{demands.calibration_margin:.2%} more allowed and {chance:.2%} for chance",
    )


def _deviation(calibration: Calibration) -> float:
    """About the standard deviation of an expected calibration error of n answers: that of its bins' right answers.

    They are taken for binomial, with the confidence q or the share a that was right, whichever gives more.
    """
    variance = 0.0
    for each in calibration.reliability:
        q, a = each.confidence or 0.0, each.accuracy or 0.0
        variance += each.count * max(q * (1 - q), a * (1 - a))
    return math.sqrt(variance) / sum(each.count for each in calibration.reliability)
