"""What the project trains with, as the train stage makes it, and how much arithmetic its network is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.configuration import Network, Training
    from tasks.train.learner import Learner

CLASSES = 10


def learner_of(network: Network, training: Training, x: NDArray[np.uint8], y: NDArray[np.int32]) -> Learner:
    """What trains a network on all of these samples, (N, T, F) and (N,); nothing is held out."""
    from schemas.configuration import Reshape
    from tasks.network import Moments, build
    from tasks.train.learner import Examples, Learner
    from tasks.train.machine import replicas_on

    shape = (x.shape[1], x.shape[2])
    reshape = Reshape(timesteps=shape[0])
    model = build(network, reshape, training, shape, CLASSES, Moments.of(x, training.scaling))
    examples = Examples(x, y, np.arange(len(x)), np.arange(0), CLASSES)
    return Learner(model, examples, training, replicas_on(len(os.sched_getaffinity(0))))


def flop(network: Network, steps: int, features: int) -> int:
    """Floating-point operations of a sample, forwards and twice backwards: 3 · 8 · h · (f + h) · T a layer, no head."""
    total, f = 0, features
    for layer in network.layers:
        directions, h = 1 + layer.bidirectional, layer.units
        total += directions * 3 * 8 * h * (f + h) * steps
        f = directions * h
    return total
