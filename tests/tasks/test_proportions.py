"""Proportions against published examples, whole numbers and simulations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.proportions import mcnemar_exact, newcombe_paired

COUNTS = st.integers(0, 400)


def test_the_interval_of_a_published_example() -> None:
    """Airways before and after a transplantation, 21 children: Fagerland, Lydersen, Laake (BMC MRM 14, 2014)."""
    low, high = newcombe_paired(1, 1, 7, 12)
    assert (round(low, 3), round(high, 3)) == (-0.507, -0.026)


@given(b=COUNTS, c=COUNTS)
def test_the_exact_test_in_whole_numbers(b: int, c: int) -> None:
    expected = Fraction(sum(math.comb(b + c, k) for k in range(b, b + c + 1)), 2 ** (b + c))
    assert mcnemar_exact(b, c) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("b", "c", "p"), [(0, 0, 1.0), (0, 5, 1.0), (5, 0, 1 / 32), (1, 0, 0.5), (10_000, 0, 0.0)])
def test_the_exact_test_at_its_edges(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p)


@given(a=COUNTS, b=COUNTS, c=COUNTS, d=COUNTS)
def test_an_interval_holds_the_difference_and_turns_with_the_models(a: int, b: int, c: int, d: int) -> None:
    n = a + b + c + d
    if not n:
        return
    low, high = newcombe_paired(a, b, c, d)
    assert -1 <= low <= (b - c) / n <= high <= 1
    turned = newcombe_paired(a, c, b, d)
    assert (-turned[1], -turned[0]) == pytest.approx((low, high))
    wider = newcombe_paired(a, b, c, d, 0.99)
    assert wider[0] <= low
    assert high <= wider[1]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """4,000 test sets of 2,000 images: models that are 97.0 and 96.4 % right, and often wrong about the same images."""
    n, chances = 2000, (0.955, 0.015, 0.009, 0.021)
    drawn = np.random.default_rng(4).multinomial(n, chances, 4000)
    intervals = [newcombe_paired(*map(int, counts)) for counts in drawn]
    held = np.mean([low <= chances[1] - chances[2] <= high for low, high in intervals])
    assert 0.94 <= held <= 0.965
