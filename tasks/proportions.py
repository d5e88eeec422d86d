"""Proportions of right answers: their intervals, and whether one model beats another on the same samples.

A foundation: evaluate and compare share it. Letters as in the papers.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.metrics import Interval


def wilson(correct: int, total: int, level: float = 0.95) -> Interval:
    """The score interval of a proportion (Wilson, JASA 22, 1927): the p at which `correct` lies on the bound.

    Its bounds solve (p - correct/total)^2 = z^2 p (1 - p) / total, stay within 0 and 1, and have width above 0 where
    all samples, or none, are correct.
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (correct + z2 / 2) / (total + z2)
    half = math.sqrt(z2 * (correct * (total - correct) / total + z2 / 4)) / (total + z2)
    lower = 0.0 if correct == 0 else centre - half
    upper = 1.0 if correct == total else centre + half
    return lower, upper


def mcnemar_exact(b: int, c: int) -> float:
    """The one-sided p-value of McNemar's exact test (Psychometrika 12, 1947): P(X >= b), X binomial(b + c, 1/2).

    Under the hypothesis that both models err equally often, each sample that just one of them got right is a fair
    coin: the samples that both got right, or both wrong, say nothing about which is better.

    Args:
        b: Samples that only the new model got right.
        c: Samples that only the old model got right.
    """
    m = b + c
    terms = (math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1) for k in range(b, m + 1))
    return min(1.0, math.fsum(math.exp(term - m * math.log(2)) for term in terms))


def newcombe_paired(a: int, b: int, c: int, d: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a difference of paired proportions, new minus old (Newcombe, Stat. Med. 17, 1998, method 10).

    It joins the score intervals of both proportions, taking account of their correlation phi, which is corrected for
    continuity where it is positive.

    Args:
        a: Samples that both models got right.
        b: Those that only the new one got right.
        c: Those that only the old one got right.
        d: Those that neither got right.
        level: Of confidence.
    """
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n, level), wilson(a + c, n, level)
    phi = _phi(a, b, c, d)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return p1 - p2 - math.sqrt(max(0.0, below)), p1 - p2 + math.sqrt(max(0.0, above))


def _phi(a: int, b: int, c: int, d: int) -> float:
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if not margins:
        return 0.0
    numerator: float = a * d - b * c
    if numerator > 0:
        numerator = max(numerator - (a + b + c + d) / 2, 0)
    return numerator / math.sqrt(margins)
