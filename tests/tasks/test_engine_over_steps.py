"""200 steps of the engine beside 200 of Keras' own `fit`: no further apart than Keras is from itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from schemas.presets import configured
from tasks.download.glyphs import images, labels
from tasks.network import Moments, build
from tasks.train.engine import Examples
from tasks.train.learner import Learner

if TYPE_CHECKING:
    from schemas.configuration import RunConfiguration

STEPS = 200
# The network of the question, raw pixels and all, where gates are shut and rounding is magnified; and a sound one, so
# large that its weights' gradient is added up step by step.
QUESTION = configured("question-16x49")
SOUND = configured(
    settings=[
        "training.optimizer=adam",
        "training.learning_rate=0.001",
        "training.schedule=constant",
        "training.batch_size=50",
        "network.dropout_head=0",
        "network.layers=[{units=128}]",
    ]
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "configuration", [pytest.param(QUESTION, id="question", marks=pytest.mark.soak), pytest.param(SOUND, id="sound")]
)
def test_it_drifts_from_keras_no_further_than_keras_from_itself(configuration: RunConfiguration) -> None:
    n, (steps, _) = STEPS * configuration.training.batch_size, configuration.reshape.sequence_shape((28, 28))
    x, y = images("train")[:n].reshape(n, steps, -1), labels("train")[:n].astype(np.int32)
    start = weights_of(network(configuration, x))
    ours = by_the_engine(configuration, x, y)
    plain, compiled = (by_fit(configuration, x, y, jit_compile=jit) for jit in (False, True))
    assert apart(ours, start) > 0.05, "nothing was learned"
    assert apart(ours, plain) <= 3 * apart(compiled, plain)


def network(configuration: RunConfiguration, x: np.ndarray) -> Any:  # noqa: ANN401
    moments = Moments.of(x, configuration.training.scaling)
    return build(configuration.network, configuration.reshape, configuration.training, x.shape[1:], 10, moments)


def by_the_engine(configuration: RunConfiguration, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    model, rows = network(configuration, x), np.arange(len(x))
    learner = Learner(model, Examples(x, y, rows, rows[:0], 10), configuration.training, replicas=2)
    for _ in learner.epoch(1, 0, (0.0, 0.0, 0.0)):
        pass
    return weights_of(model)


def by_fit(configuration: RunConfiguration, x: np.ndarray, y: np.ndarray, *, jit_compile: bool) -> np.ndarray:
    import keras

    model, training = network(configuration, x), configuration.training
    optimizers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    clip = {"global_clipnorm": training.clip_norm} if training.clip_norm else {}
    losses = {
        "mean-squared-error": keras.losses.MeanSquaredError(),
        "cross-entropy": keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing),
    }
    model.compile(
        optimizer=optimizers[training.optimizer](learning_rate=training.learning_rate, **clip),
        loss=losses[training.loss],
        jit_compile=jit_compile,
    )
    order = np.random.Generator(np.random.PCG64([training.seed, 1])).permutation(len(x))
    wanted = np.eye(10, dtype=np.float32)[y[order]]
    model.fit(x[order].astype(np.float32), wanted, batch_size=training.batch_size, shuffle=False, verbose=0)
    return weights_of(model)


def weights_of(model: Any) -> np.ndarray:  # noqa: ANN401
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The distance of two states, relative to the second one's size."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
