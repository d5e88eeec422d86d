"""The network: building it from the configuration, running it compiled, saving, loading, digesting its weights.

A foundation: train, evaluate, publish and predict share it. The result is a plain Keras model that holds its own
scaling, so raw pixels go in wherever it is loaded. Not here: learning (tasks/train/engine).
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.errors import ConfigurationError
from tasks.arrays import rows_at_a_time
from tasks.lstm import lstm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

    from schemas.configuration import Network, Reshape, Training

ANSWER_BATCH: Final = 1024  # sequences at the most


def quiet_tensorflow() -> None:
    """Import TensorFlow and find its devices without the words that its C++ parts say before logging is set up.

    They go to the file descriptor, past Python, and speak of missing CUDA drivers as of errors. What else was said
    meanwhile is passed on. Garbage is not looked for meanwhile: an import makes next to none, and the search among its
    half a million objects, which stay as long as the process, is a third of its time.
    """
    if "tensorflow" in sys.modules:
        return
    # The only way TensorFlow takes these. oneDNN's choice of kernels would let equal runs differ. A pool keeps a step's
    # memory for the next one, where malloc gives large pieces back and the kernel has to find and clear them again.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # noqa: TID251
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # noqa: TID251
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # noqa: TID251
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        gc.disable()
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            gc.freeze()  # nor is it ever looked for among them
            gc.enable()
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
    """Build the Keras model for sequences of shape (T, F) with raw values, ending in a softmax over the classes.

    Args:
        network: The layers, and what they begin with.
        reshape: Whether there is an answer for every step (layout frames).
        training: The seed of the weights, and how values are scaled.
        shape: (T, F).
        classes: C.
        moments: Of the training sequences.

    Returns:
        A model from (B, T, F) raw values to (B, C) probabilities, float32; under layout frames to (B, T, C).
    """
    quiet_tensorflow()
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(training.seed)
    every_step = reshape.layout == "frames"
    layers: list[Any] = [keras.layers.Input(shape)]
    if training.scaling != "none":
        layers.append(keras.layers.Rescaling(moments.scale, moments.offset))
    if network.dropout_input:
        layers.append(keras.layers.Dropout(network.dropout_input))
    for depth, layer in enumerate(network.layers):
        last = depth == len(network.layers) - 1
        lstm: Any = keras.layers.LSTM(layer.units, return_sequences=every_step or not last or network.pooling != "last")
        layers.append(keras.layers.Bidirectional(lstm) if layer.bidirectional else lstm)
        if not last and network.dropout_between:
            layers.append(keras.layers.Dropout(network.dropout_between))
    if network.pooling == "mean" and not every_step:
        layers.append(keras.layers.GlobalAveragePooling1D())
    if network.pooling == "none" and not every_step:
        layers.append(keras.layers.Flatten())
    if network.dropout_head:
        layers.append(keras.layers.Dropout(network.dropout_head))
    layers.append(keras.layers.Dense(classes, activation="softmax"))
    model = keras.Sequential(layers)
    if network.memory == "chrono":
        _remember_long(model, shape[0], training.seed)
    return model


def _remember_long(model: keras.Model, steps: int, seed: int) -> None:
    """Give every LSTM layer chrono initialisation's biases, assigned, so that the saved model stays plain Keras."""
    for depth, cell in enumerate(_cells(model)):
        cell.bias.assign(chrono_bias(cell.units, steps, seed, depth))


def _cells(model: keras.Model) -> Iterator[keras.layers.LSTMCell]:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.LSTM):
            yield layer.cell
        elif isinstance(layer, keras.layers.Bidirectional):
            yield from (layer.forward_layer.cell, layer.backward_layer.cell)


def chrono_bias(units: int, steps: int, *seed: int) -> NDArray[np.float32]:
    """Biases (4h,), gates i, f, g, o, for memories of up to T steps: f the log of a draw from 1 to T - 1, i minus that.

    Chrono initialisation (Tallec and Ollivier, ICLR 2018).
    """
    draws = np.random.Generator(np.random.PCG64([*seed, steps])).uniform(1, max(steps - 1, 1), units)
    zeros = np.zeros_like(draws)
    return np.concatenate([-np.log(draws), np.log(draws), zeros, zeros]).astype(np.float32)


class Moments:
    """How raw values are scaled: scaled = raw * scale + offset."""

    def __init__(self, scale: float, offset: float) -> None:
        self.scale, self.offset = scale, offset

    @classmethod
    def _over_the_range_of(cls, dtype: np.dtype[Any]) -> Moments:
        if dtype.kind not in "iu":
            raise ConfigurationError(
                f"training.scaling = 'unit', but images of {dtype.name}, a type without a range",
                "whole numbers, or another scaling",
                "Give --set training.scaling=standard, or none",
            )
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        return cls(1.0 / (high - low), -low / (high - low))

    @classmethod
    def of(cls, x: NDArray[Any], scaling: str) -> Moments:
        """From the training sequences: nothing, the type's range, or mean and standard deviation.

        Whole numbers of one or two bytes are summed exactly, in chunks, so that the result depends on no order; others
        as float64.
        """
        if scaling == "none":
            return cls(1.0, 0.0)
        if scaling == "unit":
            return cls._over_the_range_of(x.dtype)
        wide = np.int64 if x.dtype.kind in "iu" and x.dtype.itemsize <= np.int16().itemsize else np.float64
        total = square = 0
        rows = rows_at_a_time(math.prod(x.shape[1:]), ANSWER_BATCH)
        for start in range(0, len(x), rows):
            chunk = x[start : start + rows].astype(wide)
            total += chunk.sum().item()
            square += (chunk * chunk).sum().item()
        mean = total / x.size
        deviation = max(square / x.size - mean * mean, 0.0) ** 0.5 or 1.0
        return cls(1.0 / deviation, -mean / deviation)


def on_gpu() -> bool:
    """Whether TensorFlow has a GPU. There Keras takes cuDNN's own LSTM, which the XLA compiler would keep it from."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def forward(model: keras.Model, x: tf.Tensor, noise: Sequence[tf.Tensor] = (), *, by_keras: bool = False) -> tf.Tensor:
    """The logits (before the softmax) of raw sequences (B, T, F), B known, for use inside a compiled function.

    The same arithmetic as calling the model; the LSTM layers are computed by tasks.lstm, or by Keras. Given noise,
    uniform over [0, 1) and of the shapes that `noise_shapes` tells, the dropout layers drop where it is below their
    rate; without it they pass on.

    Returns:
        (B, C) float32, or (B, T, C) where the model answers at every step.
    """
    import keras
    import tensorflow as tf

    x, left = tf.cast(x, tf.float32), list(noise)
    for layer in model.layers[:-1]:
        if isinstance(layer, keras.layers.Dropout):
            if left:
                x = tf.where(left.pop(0) < layer.rate, 0.0, x / (1 - layer.rate))
        elif isinstance(layer, keras.layers.LSTM | keras.layers.Bidirectional) and not by_keras:
            x = _recurrent(layer, x)
        else:
            x = layer(x)
    dense = model.layers[-1]
    return tf.linalg.matmul(x, dense.kernel.value) + dense.bias.value


def noise_shapes(model: keras.Model, batch: int) -> list[tuple[int, ...]]:
    """The shape of what each dropout layer takes, in their order."""
    import keras

    return [(batch, *layer.output.shape[1:]) for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


def recurrent_shapes(model: keras.Model) -> list[tuple[int, int]]:
    """The shape (h, 4h) of U of each LSTM cell, in their order; a layer that reads in both directions has two."""
    return [tuple(cell.recurrent_kernel.shape) for cell in _cells(model)]


def recurrent_dropped(model: keras.Model, rate: float, noise: Sequence[tf.Tensor]) -> keras.StatelessScope:
    """A scope in which each U is 0 where the noise is below the rate, and what is left of it so much larger.

    DropConnect (Wan et al., ICML 2013), on the recurrent weights alone (Merity et al., ICLR 2018): all steps of a batch
    are read with the same weights.

    Args:
        model: Whose LSTM layers' variables are others in the scope, for what is computed by Keras and by `forward`.
        rate: Share of the weights that are dropped.
        noise: Uniform over [0, 1), of the shapes that `recurrent_shapes` tells; empty: nothing is dropped.
    """
    import keras
    import tensorflow as tf

    kernels = [cell.recurrent_kernel for cell in _cells(model)] if noise else []
    left = [tf.where(each < rate, 0.0, u.value / (1 - rate)) for u, each in zip(kernels, noise, strict=True)]
    return keras.StatelessScope(list(zip(kernels, left, strict=True)))


def _recurrent(layer: keras.layers.LSTM | keras.layers.Bidirectional, x: tf.Tensor) -> tf.Tensor:
    """One or two directions over (B, T, F): (B, T, h) in the order of the steps, or the last state read, (B, h)."""
    import keras
    import tensorflow as tf

    x, every_step = tf.transpose(x, [1, 0, 2]), layer.return_sequences
    if isinstance(layer, keras.layers.Bidirectional):
        onwards, backwards = _states(layer.forward_layer, x), _states(layer.backward_layer, tf.reverse(x, [0]))
        states = tf.concat([onwards, tf.reverse(backwards, [0]) if every_step else backwards], -1)
    else:
        states = _states(layer, x)
    return tf.transpose(states, [1, 0, 2]) if every_step else states


def _states(layer: keras.layers.LSTM, x: tf.Tensor) -> tf.Tensor:
    """One direction over (T, B, F): (T, B, h) in the order read, or the last state, (B, h)."""
    cell = layer.cell
    weights = cell.kernel.value, cell.recurrent_kernel.value, cell.bias.value
    return lstm(x, *weights, every_step=layer.return_sequences)


class Answerer:
    """Answers sequences in batches of one compiled shape; memory grows neither with their number nor with their size.

    A batch is answered in two parts by one program, which TensorFlow runs side by side, one a core.

    Args:
        model: Whose answers these are.
        batch: Sequences in a batch at the most, an even number; long ones are fewer.
    """

    def __init__(self, model: keras.Model, batch: int = ANSWER_BATCH) -> None:
        import tensorflow as tf

        self.batch, gpu = rows_at_a_time(math.prod(model.input_shape[1:]), batch), on_gpu()
        part = tf.function(
            lambda x: tf.nn.softmax(forward(model, x, by_keras=gpu)), jit_compile=not gpu, autograph=False
        )
        self._answer = tf.function(lambda x: tf.concat([part(half) for half in tf.split(x, 2)], 0), autograph=False)

    def answers(self, x: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities (b, C) or (b, T, C) of consecutive batches of x (N, T, F), all rows in order."""
        for start in range(0, len(x), self.batch):
            piece = np.asarray(x[start : start + self.batch])
            native = piece.astype(piece.dtype.newbyteorder("="), copy=False)
            padding = [(0, self.batch - len(native))] + [(0, 0)] * (native.ndim - 1)
            yield self._answer(np.pad(native, padding)).numpy()[: len(native)]


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over kinds of layers, how values are scaled, and each weight: name, type, shape, little-endian bytes."""
    digest = hashlib.sha256()
    for layer in model.layers:
        digest.update(type(layer).__name__.encode())
        if scaling := [getattr(layer, name) for name in ("scale", "offset") if hasattr(layer, name)]:
            digest.update(repr([float(value) for value in scaling]).encode())
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
