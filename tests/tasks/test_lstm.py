"""The layer: its states against NumPy, its gradient against TensorFlow's and, in float64, against differences."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.lstm import lstm

WAYS = {"at once": 1 << 18, "step by step": 0}  # of adding up the weights' gradient: values of dz up to which at once
SHAPES = st.tuples(*(st.integers(1, 5) for _ in range(4)))  # T, B, F, h


def problem(shape: tuple[int, int, int, int], seed: int = 0) -> list[np.ndarray]:
    """Arguments x (T, B, F), W (F, 4h), U (h, 4h), b (4h,), large enough that some gates are nearly shut."""
    steps, batch, features, h = shape
    random = np.random.default_rng(seed)
    shapes = ((steps, batch, features), (features, 4 * h), (h, 4 * h), (4 * h,))
    return [random.normal(size=each, scale=1.5) for each in shapes]


def by_numpy(x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every state (T, B, h), by the equations, one after the other."""

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    h = c = np.zeros((x.shape[1], u.shape[0]))
    states = []
    for x_t in x:
        i, f, g, o = np.split(x_t @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)


def gradients(function, arguments, upstream):  # noqa: ANN001, ANN201
    import tensorflow as tf

    arguments = [tf.constant(each) for each in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = tf.reduce_sum(function(*arguments) * upstream)
    return [each.numpy() for each in tape.gradient(value, arguments)]


def plain(x, w, u, b):  # noqa: ANN001, ANN201
    """Every state, unrolled, for TensorFlow to differentiate by its own rules."""
    import tensorflow as tf

    h = c = tf.zeros([x.shape[1], u.shape[0]], x.dtype)
    states = []
    for t in range(x.shape[0]):
        i, f, g, o = tf.split(x[t] @ w + h @ u + b, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        states.append(h)
    return tf.stack(states)


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_the_states_are_those_of_the_equations(shape: tuple[int, int, int, int], seed: int) -> None:
    arguments = problem(shape, seed)
    expected = by_numpy(*arguments)
    np.testing.assert_allclose(lstm(*arguments, every_step=True).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(lstm(*arguments, every_step=False).numpy(), expected[-1], atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), every_step=st.booleans(), way=st.sampled_from(sorted(WAYS)))
def test_the_gradient_is_tensorflows_own(
    shape: tuple[int, int, int, int], seed: int, *, every_step: bool, way: str
) -> None:
    arguments = problem(shape, seed)
    steps, batch, _, h = shape
    upstream = np.random.default_rng(seed).normal(size=(steps, batch, h) if every_step else (batch, h))
    with mock.patch("tasks.lstm.AT_ONCE", WAYS[way]):
        ours = gradients(lambda *given: lstm(*given, every_step=every_step), arguments, upstream)
    theirs = gradients(lambda *given: plain(*given) if every_step else plain(*given)[-1], arguments, upstream)
    for mine, own in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("every_step", [True, False])
def test_the_gradient_is_the_difference_quotient(every_step: bool, way: str) -> None:
    arguments = problem((4, 3, 2, 3), 5)
    upstream = np.random.default_rng(6).normal(size=(4, 3, 3) if every_step else (3, 3))
    with mock.patch("tasks.lstm.AT_ONCE", WAYS[way]):
        analytic = gradients(lambda *given: lstm(*given, every_step=every_step), arguments, upstream)

    def value() -> float:
        states = by_numpy(*arguments)
        return float(((states if every_step else states[-1]) * upstream).sum())

    step = 1e-5  # central differences in float64: an error of about step squared
    for argument, gradient in zip(arguments, analytic, strict=True):
        for place in np.ndindex(argument.shape):
            kept = argument[place]
            argument[place] = kept + step
            above = value()
            argument[place] = kept - step
            quotient = (above - value()) / (2 * step)
            argument[place] = kept
            assert gradient[place] == pytest.approx(quotient, rel=1e-6, abs=1e-8)


@pytest.mark.slow  # two compilations
@pytest.mark.parametrize("way", WAYS)
def test_compiled_in_float32_it_differs_by_rounding_only(way: str) -> None:
    import tensorflow as tf

    arguments = [each.astype(np.float32) * np.float32(0.3) for each in problem((9, 8, 6, 16), 3)]
    upstream = np.ones((8, 16), np.float32)
    compiled = tf.function(lambda *given: lstm(*given, every_step=False), jit_compile=True, autograph=False)
    with mock.patch("tasks.lstm.AT_ONCE", WAYS[way]):
        ours = gradients(compiled, arguments, upstream)
    exact = gradients(
        lambda *given: plain(*given)[-1], [each.astype(np.float64) for each in arguments], upstream.astype(np.float64)
    )
    for mine, own in zip(ours, exact, strict=True):
        np.testing.assert_allclose(mine, own, atol=2e-6 * np.abs(own).max())
