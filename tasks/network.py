"""The network: building it from the configuration, running it compiled, saving, loading, digesting its weights.

A foundation: train, evaluate, publish and predict share it. The result is a plain Keras model that holds its own
scaling, so raw pixels go in wherever it is loaded. Not here: learning (tasks/train/engine).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

    from schemas.configuration import Network, Reshape, Training

MODEL_FILE: Final = "model.keras"
ANSWER_BATCH: Final = 512


def quiet_tensorflow() -> None:
    """Import TensorFlow and find its devices without the words that its C++ parts say before logging is set up.

    They go to the file descriptor, past Python, and speak of missing CUDA drivers as of errors. What else was said
    meanwhile is passed on.
    """
    if "tensorflow" in sys.modules:
        return
    # The only way TensorFlow takes these. oneDNN's choice of kernels would let equal runs differ.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # noqa: TID251
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # noqa: TID251
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            os.write(2, b"".join(line for line in said if not _START_UP_WORDS.match(line)))


_START_UP_WORDS: Final = re.compile(
    rb"WARNING: All log messages before absl|[IWE]0000 .*(cuda|cuInit|cpu_feature_guard)|\s*$"
)


def build(
    network: Network, reshape: Reshape, training: Training, shape: tuple[int, int], classes: int, moments: Moments
) -> keras.Model:
    """Build the Keras model for sequences of shape (T, F) with raw values, ending in a softmax over the classes."""
    quiet_tensorflow()
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(training.seed)
    every_step = reshape.layout == "frames"
    layers: list[Any] = [keras.layers.Input(shape)]
    if training.scaling != "none":
        layers.append(keras.layers.Rescaling(moments.scale, moments.offset))
    for depth, layer in enumerate(network.layers):
        last = depth == len(network.layers) - 1
        lstm: Any = keras.layers.LSTM(layer.units, return_sequences=every_step or not last or network.pooling == "mean")
        layers.append(keras.layers.Bidirectional(lstm) if layer.bidirectional else lstm)
        if not last and network.dropout_between:
            layers.append(keras.layers.Dropout(network.dropout_between))
    if network.pooling == "mean" and not every_step:
        layers.append(keras.layers.GlobalAveragePooling1D())
    if network.dropout_head:
        layers.append(keras.layers.Dropout(network.dropout_head))
    layers.append(keras.layers.Dense(classes, activation="softmax"))
    return keras.Sequential(layers)


class Moments:
    """How raw values are scaled: scaled = raw * scale + offset."""

    def __init__(self, scale: float, offset: float) -> None:
        self.scale, self.offset = scale, offset

    @classmethod
    def of(cls, x: NDArray[Any], scaling: str) -> Moments:
        """From the training sequences: nothing, the type's range, or mean and standard deviation.

        Whole numbers are summed exactly, in chunks, so that the result depends on no order.
        """
        if scaling == "none":
            return cls(1.0, 0.0)
        if scaling == "unit":
            return cls(1.0 / float(np.iinfo(x.dtype).max) if x.dtype.kind in "iu" else 1.0, 0.0)
        wide = np.int64 if x.dtype.kind in "iu" else np.float64
        total = square = 0
        for start in range(0, len(x), ANSWER_BATCH):
            chunk = x[start : start + ANSWER_BATCH].astype(wide)
            total += chunk.sum().item()
            square += (chunk * chunk).sum().item()
        mean = total / x.size
        deviation = max(square / x.size - mean * mean, 0.0) ** 0.5 or 1.0
        return cls(1.0 / deviation, -mean / deviation)


def forward(model: keras.Model, x: tf.Tensor, dropout_seed: tf.Tensor | None) -> tf.Tensor:
    """The logits (before the softmax) of raw sequences (B, T, F), for use inside a compiled function.

    The same arithmetic as calling the model, with each layer's inputs projected by one matrix product before the loop
    over the steps. With a seed (2,) int32 the dropout layers drop, each with its own stream; without, they pass on.
    """
    import keras
    import tensorflow as tf

    x = tf.cast(x, tf.float32)
    for position, layer in enumerate(model.layers[:-1]):
        if isinstance(layer, keras.layers.LSTM):
            x = _lstm(layer, x, backwards=False)
        elif isinstance(layer, keras.layers.Bidirectional):
            x = _both_directions(layer, x)
        elif isinstance(layer, keras.layers.Dropout):
            if dropout_seed is not None:
                x = tf.nn.experimental.stateless_dropout(x, layer.rate, dropout_seed + tf.constant([0, position]))
        else:
            x = layer(x)
    dense = model.layers[-1]
    return tf.linalg.matmul(x, dense.kernel.value) + dense.bias.value


def _both_directions(layer: keras.layers.Bidirectional, x: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.concat(
        [_lstm(layer.forward_layer, x, backwards=False), _lstm(layer.backward_layer, x, backwards=True)], axis=-1
    )


def _lstm(layer: keras.layers.LSTM, x: tf.Tensor, *, backwards: bool) -> tf.Tensor:
    """One LSTM layer (Hochreiter and Schmidhuber 1997, with Gers' forget gate) in Keras' gate order i, f, g, o.

    Args:
        layer: Holds W (F, 4h), U (h, 4h) and b (4h,).
        x: (B, T, F) float32.
        backwards: Read the steps from the last to the first.

    Returns:
        (B, T, h) in the order of the steps, or the last state read, (B, h).
    """
    import tensorflow as tf

    w, u, b = layer.cell.kernel.value, layer.cell.recurrent_kernel.value, layer.cell.bias.value
    steps, h_size = x.shape[1], layer.units
    x = tf.transpose(x, [1, 0, 2])
    x = tf.reverse(x, [0]) if backwards else x
    projected = tf.tensordot(x, w, 1) + b
    zero = tf.zeros([tf.shape(x)[1], h_size])
    # A carried array that nothing writes has no gradient, so the states are only carried where they are wanted.
    states = (tf.TensorArray(tf.float32, steps, element_shape=[None, h_size]),) if layer.return_sequences else ()

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *states: tf.TensorArray) -> tuple[Any, ...]:
        i, f, g, o = tf.split(projected[t] + tf.linalg.matmul(h, u), 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return t + 1, h, c, *(array.write(t, h) for array in states)

    _, h, _, *states = tf.while_loop(
        lambda t, *_: t < steps, step, (0, zero, zero, *states), parallel_iterations=1, maximum_iterations=steps
    )
    if not states:
        return h
    hs = states[0].stack()
    return tf.transpose(tf.reverse(hs, [0]) if backwards else hs, [1, 0, 2])


class Answerer:
    """Answers sequences in batches of one compiled shape; memory does not grow with their number."""

    def __init__(self, model: keras.Model, batch: int = ANSWER_BATCH) -> None:
        import tensorflow as tf

        self.batch = batch
        self._answer = tf.function(lambda x: tf.nn.softmax(forward(model, x, None)), jit_compile=True)

    def answers(self, x: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities (b, C) or (b, T, C) of consecutive batches of x (N, T, F), all rows in order."""
        for start in range(0, len(x), self.batch):
            piece = np.asarray(x[start : start + self.batch])
            native = piece.astype(piece.dtype.newbyteorder("="), copy=False)
            padding = [(0, self.batch - len(native))] + [(0, 0)] * (native.ndim - 1)
            yield self._answer(np.pad(native, padding)).numpy()[: len(native)]


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over the layers' names and configurations and all weights: path, type, shape and little-endian bytes."""
    digest = hashlib.sha256()
    for layer in model.layers:
        digest.update(type(layer).__name__.encode())
    for weight in model.weights:
        value = np.ascontiguousarray(weight.numpy())
        name = "/".join(weight.path.split("/")[-2:])  # Keras numbers the outer names by what was built before
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def load(path: Path) -> keras.Model:
    """Load a .keras file, refusing any code inside it."""
    quiet_tensorflow()
    import keras

    model: keras.Model = keras.saving.load_model(path, compile=False, safe_mode=True)
    return model
