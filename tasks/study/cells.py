"""One LSTM layer and its dense head in NumPy, written out so that one can look inside: gates, states, gradients.

Here: what the study measures of a network besides its accuracy. Not here: training (tasks/train).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tasks.network import chrono_bias

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras
    from numpy.typing import NDArray

    from schemas.configuration import Training

    Floats = NDArray[np.floating[Any]]

SATURATED: Final = 0.01  # a gate closer than this to 0 or 1: its slope is below a twenty-fifth of the steepest
CHUNK: Final = 1000
LEAST_STEPS: Final = 4  # fewer have no quarters


@dataclass(frozen=True)
class Weights:
    """The weights of a network of one LSTM layer: w (F, 4h), u (h, 4h), b (4h,), head (h, C), head_bias (C,).

    Raw values are scaled first: raw * scale + offset.
    """

    w: Floats
    u: Floats
    b: Floats
    head: Floats
    head_bias: Floats
    scale: float = 1.0
    offset: float = 0.0

    @property
    def units(self) -> int:
        """The units h."""
        return int(self.u.shape[0])

    def in_doubles(self) -> Weights:
        """The same in float64, where gradients may become as small as they do."""
        arrays = {name: getattr(self, name).astype(np.float64) for name in ("w", "u", "b", "head", "head_bias")}
        return replace(self, **arrays)


@dataclass(frozen=True)
class Step:
    """One step of a batch: the gates i, f, g, o, the cell before and after it, and the state h; each (B, h)."""

    i: Floats
    f: Floats
    g: Floats
    o: Floats
    before: Floats
    c: Floats
    h: Floats


def weights_of(model: keras.Model) -> Weights:
    """The weights of a Keras model of one LSTM layer and a dense one, with a scaling before them or without."""
    first, lstm, dense = model.layers[0], model.layers[-2], model.layers[-1]
    scaling = {"scale": first.scale, "offset": first.offset} if len(model.layers) > 2 else {}
    return Weights(*lstm.get_weights(), *dense.get_weights(), **scaling)


def steps(weights: Weights, x: NDArray[Any]) -> Iterator[Step]:
    """Go through the steps of raw sequences (B, T, F), in the order of the gates i, f, g, o that Keras has."""
    dtype = weights.w.dtype
    h = c = np.zeros((len(x), weights.units), dtype)
    for t in range(x.shape[1]):
        z = scaled(weights, x[:, t]) @ weights.w + h @ weights.u + weights.b
        z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
        i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
        before, c = c, f * c + i * g
        h = o * np.tanh(c)
        yield Step(i, f, g, o, before, c, h)


def scaled(weights: Weights, raw: NDArray[Any]) -> Floats:
    """Raw values as the layer reads them."""
    dtype = weights.w.dtype
    return raw.astype(dtype) * dtype.type(weights.scale) + dtype.type(weights.offset)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)), by way of tanh, which does not overflow."""
    half: Floats = 0.5 * (1 + np.tanh(0.5 * z))
    return half


def hits_after_each_step(weights: Weights, x: NDArray[Any], y: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """How many sequences the head answers right from the state after step 1, 2, … T; and how many were answered."""
    hits, answered = np.zeros(x.shape[1], np.int64), 0
    for start in range(0, len(x), CHUNK):
        true = y[start : start + CHUNK]
        for t, step in enumerate(steps(weights, x[start : start + CHUNK])):
            answers = (step.h @ weights.head + weights.head_bias).argmax(1)
            hits[t] += np.count_nonzero(answers == true)
        answered += len(answers)
    return hits, answered


def saturated_share(weights: Weights, x: NDArray[Any]) -> float:
    """Share of the values of the gates i, f and o, over all steps of x (B, T, F), that are almost 0 or almost 1."""
    found = total = 0
    for step in steps(weights, x):
        for gate in (step.i, step.f, step.o):
            found += int(np.count_nonzero((gate < SATURATED) | (gate > 1 - SATURATED)))
            total += gate.size
    return found / total


def output_gradient(weights: Weights, h: Floats, y: NDArray[np.int32], training: Training) -> Floats:
    """(B, C): the gradient of each sequence's own loss at its logits, from its last state h (B, h)."""
    logits = h @ weights.head + weights.head_bias
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    p = exponentials / exponentials.sum(1, keepdims=True)
    classes = p.shape[1]
    wanted = np.eye(classes)[y] * (1 - training.label_smoothing) + training.label_smoothing / classes
    if training.loss == "cross-entropy":
        return p - wanted  # type: ignore[no-any-return]
    slope = 2 * (p - wanted) / classes
    return p * (slope - (slope * p).sum(1, keepdims=True))  # type: ignore[no-any-return]


def input_gradient_norms(weights: Weights, x: NDArray[Any], y: NDArray[np.int32], training: Training) -> Floats:
    """(T,): norm of the gradient of the mean loss at the scaled input of each step, by backpropagation through time."""
    weights = weights.in_doubles()
    kept = list(steps(weights, x))
    dh = output_gradient(weights, kept[-1].h, y, training) @ weights.head.T / len(x)
    dc = np.zeros_like(dh)
    norms = np.zeros(len(kept))
    for t in reversed(range(len(kept))):
        s = kept[t]
        tanh_c = np.tanh(s.c)
        dc = dc + dh * s.o * (1 - tanh_c**2)
        dz = np.concatenate(
            [
                dc * s.g * s.i * (1 - s.i),
                dc * s.before * s.f * (1 - s.f),
                dc * s.i * (1 - s.g**2),
                dh * tanh_c * s.o * (1 - s.o),
            ],
            axis=1,
        )
        norms[t] = np.linalg.norm(dz @ weights.w.T)
        dh, dc = dz @ weights.u.T, dc * s.f
    return norms


def first_over_last_quarter(norms: Floats) -> float | None:
    """Norm over the first quarter of the steps, over that of the last; None where there are no quarters or no end."""
    quarter = len(norms) // 4
    if len(norms) < LEAST_STEPS:
        return None
    last = float(np.linalg.norm(norms[-quarter:]))
    return float(np.linalg.norm(norms[:quarter])) / last if last else None


def with_chrono_bias(weights: Weights, timesteps: int, seed: int) -> Weights:
    """The same weights with the biases of chrono initialisation, for a memory of up to T steps."""
    return replace(weights, b=chrono_bias(weights.units, timesteps, seed).astype(weights.b.dtype))


def blank_tail(x: NDArray[Any]) -> int:
    """Median number of zeros at the end of sequences (B, …) of pixels."""
    reversed_pixels = x.reshape(len(x), -1)[:, ::-1] != 0
    tails = np.where(reversed_pixels.any(1), reversed_pixels.argmax(1), reversed_pixels.shape[1])
    return int(np.median(tails))
