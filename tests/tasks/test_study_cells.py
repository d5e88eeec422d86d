"""What the study looks at inside a network, beside Keras' and TensorFlow's own answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from schemas.configuration import LstmLayer, Network, Reshape, Training
from schemas.study import lstm_parameters
from tasks.network import Moments, build
from tasks.study import cells

if TYPE_CHECKING:
    import keras

pytestmark = pytest.mark.slow  # TensorFlow's import

B, T, F, H, C = 7, 6, 3, 5, 4


def small(loss: str = "cross-entropy", scaling: str = "standard") -> tuple[Any, Training, Any, Any]:
    training = Training(loss=loss, scaling=scaling, label_smoothing=0.0, seed=3)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (B, T, F)).astype(np.uint8)
    y = (np.arange(B) % C).astype(np.int32)
    network = Network(layers=(LstmLayer(units=H),), dropout_head=0.0)
    model = build(network, Reshape(timesteps=T), training, (T, F), C, Moments.of(x, scaling))
    return model, training, x, y


@pytest.mark.parametrize(("features", "units"), [(784, 40), (49, 40), (1, 40), (3, 5)])
def test_the_formula_counts_what_keras_counts(features: int, units: int) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((2, features)), keras.layers.LSTM(units)])
    assert model.count_params() == lstm_parameters(features, units)


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_answers_after_each_step_are_those_of_keras_on_the_beginning(scaling: str) -> None:
    model, _, x, y = small(scaling=scaling)
    hits, answered = cells.hits_after_each_step(cells.weights_of(model), x, y)
    wanted = []
    for k in range(1, T + 1):
        shorter = type(model).from_config({**model.get_config(), "layers": _cut(model, k)})
        shorter.set_weights(model.get_weights())
        wanted.append(int((shorter.predict(x[:, :k].astype(np.float32), verbose=0).argmax(1) == y).sum()))
    assert answered == B
    assert hits.tolist() == wanted


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, x, y = small()
    whole = cells.hits_after_each_step(cells.weights_of(model), x, y)
    monkeypatch.setattr(cells, "CHUNK", 3)
    chunked = cells.hits_after_each_step(cells.weights_of(model), x, y)
    assert (chunked[0].tolist(), chunked[1]) == (whole[0].tolist(), whole[1])


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_saturation_is_that_of_the_gates_written_out_one_by_one(scaling: str) -> None:
    model, _, x, _ = small(scaling=scaling)
    w = cells.weights_of(model)
    found = total = 0
    for sequence in x:
        h, c = np.zeros(H), np.zeros(H)
        for raw in sequence:
            z = (raw * w.scale + w.offset) @ w.w.astype(float) + h @ w.u + w.b
            gates = 1 / (1 + np.exp(-np.delete(z.reshape(4, H), 2, 0)))
            for value in gates.reshape(-1):
                found += value < 0.01 or value > 0.99
                total += 1
            c = gates[1] * c + gates[0] * np.tanh(z[2 * H : 3 * H])
            h = gates[2] * np.tanh(c)
    assert total == B * T * 3 * H
    assert cells.saturated_share(w, x) == pytest.approx(found / total)
    assert (cells.saturated_share(w, x) > 0.5) == (scaling == "none")


@pytest.mark.parametrize("loss", ["cross-entropy", "mean-squared-error"])
def test_gradients_are_those_of_tensorflows_tape(loss: str) -> None:
    import tensorflow as tf

    from tasks.train.learner import loss_of

    model, training, x, y = small(loss)
    w = cells.weights_of(model)
    scaled, lstm, dense = tf.Variable(cells.scaled(w, x)), model.layers[-2], model.layers[-1]
    with tf.GradientTape(persistent=True) as tape:
        h = lstm(scaled)
        logits = tf.matmul(h, dense.kernel.value) + dense.bias.value
        each = loss_of(training, logits, tf.constant(y), C)
        mean = tf.reduce_mean(each)
    wanted = np.linalg.norm(tape.gradient(mean, scaled).numpy(), axis=(0, 2))
    norms = cells.input_gradient_norms(w, x, y, training)
    np.testing.assert_allclose(norms, wanted, rtol=2e-5)
    outputs = cells.output_gradient(w, h.numpy(), y, training)
    np.testing.assert_allclose(outputs, tape.gradient(each, logits).numpy(), rtol=1e-4, atol=1e-7)


def test_a_ratio_is_of_whole_quarters_and_needs_four_steps() -> None:
    assert cells.first_over_last_quarter(np.array([1.0, 2.0, 3.0])) is None
    assert cells.first_over_last_quarter(np.array([3.0, 9.0, 9.0, 6.0])) == 0.5
    assert cells.first_over_last_quarter(np.array([3.0, 4.0, 0, 0, 0, 0, 0, 6.0, 8.0])) == pytest.approx(0.5)
    assert cells.first_over_last_quarter(np.zeros(8)) is None


def test_chrono_biases_are_for_memories_up_to_t_and_touch_nothing_else() -> None:
    model, *_ = small()
    before = cells.weights_of(model)
    after = cells.with_chrono_bias(before, 100, 1)
    forget = after.b[H : 2 * H]
    assert ((forget >= 0) & (forget <= math.log(99))).all()
    assert np.array_equal(after.b[:H], -forget)
    assert np.array_equal(after.b[2 * H :], before.b[2 * H :])
    assert after.w is before.w


def test_the_blank_tail_is_counted_from_the_end() -> None:
    x = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]], np.uint8)
    assert cells.blank_tail(x) == 3  # of 3, 0 and 4


def _cut(model: keras.Model, k: int) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = [dict(layer) for layer in model.get_config()["layers"]]
    layers[0] = {**layers[0], "config": {**layers[0]["config"], "batch_shape": (None, k, F)}}
    for layer in layers:
        layer.pop("build_config", None)
    return layers
