"""What the points of a study say together: each setting over its seeds, with an interval. Not here: words, figures."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.study import RECIPES
from tasks.proportions import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.configuration import Scan
    from schemas.study import PointResult, RecipeName

# Student's t, 97.5 %, by degrees of freedom; beyond them its approach to the normal's 1.96.
_T: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Setting:
    """One recipe, scan and T, with the results of its seeds."""

    recipe: RecipeName
    scan: Scan
    timesteps: int
    features: int
    results: tuple[PointResult, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(result.accuracy for result in self.results)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, the wider of two: Student's over the seeds, and Wilson's over the images of one (all have the same).

        Seeds may agree by chance, or because none of them learned anything: that makes no image count twice.
        """
        both = self.over_images(self.accuracy), self._over_seeds()
        return max(both, key=lambda interval: interval[1] - interval[0])

    def over_images(self, share: float) -> tuple[float, float]:
        """Wilson's 95 % interval of a share of the images held out, each counted once however many seeds there are."""
        answered = self.results[0].counts.answered
        return wilson(round(share * answered), answered)

    @property
    def floor(self) -> float:
        """What always answering the most frequent class would get right, of the same images."""
        return self.results[0].floor

    @property
    def learned(self) -> bool:
        """Whether accuracy is seen to be above that."""
        return self.interval[0] > self.floor

    def _over_seeds(self) -> tuple[float, float]:
        freedom = len(self.results) - 1
        if not freedom:
            return self.accuracy, self.accuracy
        t = _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.5 / freedom
        spread = statistics.stdev(result.accuracy for result in self.results)
        half = t * spread / math.sqrt(len(self.results))
        return max(0.0, self.accuracy - half), min(1.0, self.accuracy + half)

    @property
    def training_accuracy(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(result.training_accuracy for result in self.results)

    @property
    def saturated(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(result.saturated for result in self.results)

    @property
    def output_gradient(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(result.output_gradient for result in self.results)

    @property
    def gradient_ratio(self) -> float | None:
        """Geometric mean over the seeds."""
        return _geometric(result.gradient_ratio for result in self.results)

    @property
    def gradient_ratio_chrono(self) -> float | None:
        """Geometric mean over the seeds."""
        return _geometric(result.gradient_ratio_chrono for result in self.results)

    @property
    def seconds_of_ten_thousand(self) -> float:
        """Median over the seeds of the time that an epoch takes, for each 10,000 images."""
        return statistics.median(10_000 * r.seconds_an_epoch / r.counts.fitted for r in self.results)

    @property
    def accuracy_after(self) -> tuple[float, ...]:
        """Mean share of right answers after step 1, 2, … T."""
        by_step = zip(*(result.hits_after for result in self.results), strict=True)
        answered = sum(result.counts.answered for result in self.results)
        return tuple(sum(hits) / answered for hits in by_step)


@dataclass(frozen=True)
class Summary:
    """All settings of a study."""

    settings: tuple[Setting, ...]

    def series(self, scan: Scan, recipe: RecipeName) -> tuple[Setting, ...]:
        """The settings of one scan and recipe, by T."""
        return tuple(s for s in self.settings if (s.scan, s.recipe) == (scan, recipe))

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The scans, in the order in which they were asked for."""
        return tuple(dict.fromkeys(setting.scan for setting in self.settings))

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Every T, ascending."""
        return tuple(sorted({setting.timesteps for setting in self.settings}))

    @property
    def seeds(self) -> int:
        """Seeds of each setting."""
        return min(len(setting.results) for setting in self.settings)

    def near(self, wanted: int) -> int:
        """The T that comes nearest to a wanted one, by ratio."""
        return min(self.timesteps, key=lambda t: (abs(math.log(t / wanted)), t))


def blank_steps(setting: Setting) -> int:
    """Whole steps at the end in which the median image has no ink."""
    return setting.results[0].blank_tail // setting.features


def summary_of(results: Iterable[PointResult]) -> Summary:
    """The settings of results, each with its seeds."""
    grouped: dict[tuple[Scan, RecipeName, int, int], list[PointResult]] = {}
    for result in results:
        point = result.point
        grouped.setdefault((point.scan, point.recipe, point.timesteps, point.features), []).append(result)
    settings = [
        Setting(recipe, scan, t, f, tuple(sorted(found, key=lambda result: result.point.seed)))
        for (scan, recipe, t, f), found in grouped.items()
    ]
    scans = list(dict.fromkeys(setting.scan for setting in settings))
    settings.sort(key=lambda s: (scans.index(s.scan), RECIPES.index(s.recipe), s.timesteps))
    return Summary(tuple(settings))


def _geometric(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return statistics.geometric_mean(known) if all(known) else 0.0
