"""How often promotion errs: simulated retrainings of equal models, and of one that is better; not a speed.

Every image has a difficulty of its own, the chance that a model of this kind is wrong about it; a retraining draws its
mistakes from it. So two equal models mostly err on the same images, as retrained ones do. What the test promises is
computed beside it, from the two chances of an image that just one model gets right.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import keep
from schemas.champion import Demands
from tasks.compare.answers import Answers
from tasks.compare.findings import paired
from tasks.proportions import mcnemar_exact, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.measure import Options

RETRAININGS = 1000
IMAGES = 10_000
ACCURACY = 0.992
GAIN = 0.003
SPREAD = 2.5  # of the Beta distribution of difficulties: two models then disagree on 1.1 % of the images
SEED = 20_261


@dataclass(frozen=True)
class Simulated:
    """One simulation: retrainings, promotions among them, their share with its 95 % interval, and what was promised."""

    retrainings: int
    promoted: int
    share: float
    interval: tuple[float, float]
    promised: float


def main(options: Options) -> None:
    """Equal models in pairs and in a row, then a better one, again and again."""
    images = options.samples or IMAGES
    print(f"\npromotion: {RETRAININGS:,} retrainings, {images:,} test images, error rate {Demands().error_rate}")
    found = {
        "equal, in pairs": model_pairs(RETRAININGS, images, gain=0),
        "equal, in a row": in_a_row(RETRAININGS, images),
        f"better by {100 * GAIN:.1f} points": model_pairs(RETRAININGS, images, gain=GAIN),
    }
    for name, simulated in found.items():
        low, high = simulated.interval
        print(
            f"  {name:24} promoted {simulated.promoted:4} times: {simulated.share:.1%} ({low:.1%} to {high:.1%}); "
            f"promised: {simulated.promised:.1%}"
        )
    keep("promotion", {"images": images, **{name: asdict(simulated) for name, simulated in found.items()}})


def in_a_row(retrainings: int, images: int, seed: int = SEED) -> Simulated:
    """Retrainings of one kind of model: whoever is promoted is the one to beat; promised is at most this share."""
    draw = np.random.default_rng(seed)
    difficulty = _difficulty(draw, images)
    champion, promoted = _answers(draw, difficulty), 0
    for _ in range(retrainings):
        model = _answers(draw, difficulty)
        if wins(model, champion):
            champion, promoted = model, promoted + 1
    return _simulated(retrainings, promoted, Demands().error_rate)


def model_pairs(retrainings: int, images: int, gain: float, seed: int = SEED) -> Simulated:
    """Retrainings of a model that is better by a gain, or by none, each against a fresh champion of the old kind."""
    draw = np.random.default_rng(seed)
    difficulty = _difficulty(draw, images)
    easier = difficulty * (1 - gain / float(difficulty.mean()))
    promoted = sum(wins(_answers(draw, easier), _answers(draw, difficulty)) for _ in range(retrainings))
    only_new, only_old = float((difficulty * (1 - easier)).mean()), float((easier * (1 - difficulty)).mean())
    return _simulated(retrainings, promoted, power(images, only_new, only_old, Demands().error_rate))


def wins(new: Answers, old: Answers) -> bool:
    """Whether a model is better than the champion by the test of the verdict."""
    return paired(new, old).p <= Demands().error_rate


def power(images: int, only_new: float, only_old: float, error_rate: float) -> float:
    """How often the exact test finds a model better.

    Args:
        images: Of the test set.
        only_new: Chance that just the new model gets an image right.
        only_old: The same for the old one.
        error_rate: Level of the test.
    """
    q = only_new + only_old
    most = min(images, int(images * q + 12 * math.sqrt(images * q) + 12))
    return math.fsum(
        _binomial(m, images, q) * math.fsum(_binomial(b, m, only_new / q) for b in range(_fewest(m, error_rate), m + 1))
        for m in range(most + 1)
    )


def _fewest(m: int, error_rate: float) -> int:
    """Of m images that just one model got right, how many have to be the new one's."""
    return next((b for b in range((m + 1) // 2, m + 1) if mcnemar_exact(b, m - b) <= error_rate), m + 1)


def _binomial(k: int, n: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p))


def _difficulty(draw: np.random.Generator, images: int) -> NDArray[np.float64]:
    wrong = 1 - ACCURACY
    return draw.beta(wrong * SPREAD, ACCURACY * SPREAD, images)


def _answers(draw: np.random.Generator, difficulty: NDArray[np.float64]) -> Answers:
    wrong = (draw.random(len(difficulty)) < difficulty).astype(np.int32)
    return Answers(np.zeros(len(difficulty), np.int32), wrong)


def _simulated(retrainings: int, promoted: int, promised: float) -> Simulated:
    return Simulated(retrainings, promoted, promoted / retrainings, wilson(promoted, retrainings), promised)
