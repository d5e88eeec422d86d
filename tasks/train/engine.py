"""The training engine: the one place that knows how learning is made fast. Not here: splits, files, receipts.

A batch is cut into equal replicas; each is one XLA program for its loss and gradient, and TensorFlow runs them side by
side, one a core. One more program adds the gradients and updates the weights. The loop over the batches is a graph too,
so Python is entered once a segment: then progress moves.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.history import Epoch, History
from tasks.network import Answerer, forward
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

    from schemas.configuration import Training
    from tasks.stage import Progress

SEGMENT_SECONDS: Final = 1.0
WARM_UP: Final = 0.3


@dataclass(frozen=True)
class Examples:
    """What the engine learns from.

    Attributes:
        x: (N, T, F) raw values, may be memory-mapped.
        y: (N,) or (N, T) int32 class indices.
        fitted: Rows that the optimiser may see.
        validation: Rows held out.
        classes: C.
    """

    x: NDArray[Any]
    y: NDArray[np.int32]
    fitted: NDArray[np.int64]
    validation: NDArray[np.int64]
    classes: int


def fit(
    model: keras.Model, examples: Examples, training: Training, replicas: int, began: float, progress: Progress
) -> History:
    """Train the model in place.

    Args:
        model: As tasks.network builds it.
        examples: The data; held in memory once, in its own type.
        training: The recipe.
        replicas: Parts that a batch is cut into, one a core.
        began: time.monotonic() when the stage began, for the time to the first step.
        progress: Told after every segment.

    Returns:
        One record an epoch. With early stopping the weights are the best epoch's.
    """
    learner = _Learner(model, examples, training, replicas)
    epochs: list[Epoch] = []
    best, best_weights, first_step = math.inf, None, 0.0
    for number in range(1, training.epochs + 1):
        epoch_began = time.monotonic()
        sums = np.zeros(3)
        for done, part in learner.epoch(number):
            first_step = first_step or time.monotonic() - began
            sums += part
            progress((number - 1) * learner.steps + done, training.epochs * learner.steps, _note(number, sums))
        loss, accuracy = _validate(model, examples, training)
        epochs.append(
            Epoch(
                epoch=number,
                loss=sums[0] / sums[2],
                accuracy=sums[1] / sums[2],
                validation_loss=loss,
                validation_accuracy=accuracy,
                learning_rate=learner.rate(number * learner.steps - 1),
                seen=round(sums[2]) // learner.labels_each,
                seconds=time.monotonic() - epoch_began,
            )
        )
        log.info(told(epochs[-1], training.epochs))
        if training.early_stopping and loss is not None:
            if loss < best:
                best, best_weights = loss, model.get_weights()
            elif number - _best_epoch(epochs) >= training.early_stopping.patience:
                break
    if best_weights is not None:
        model.set_weights(best_weights)
    return History(
        epochs=tuple(epochs),
        kept=_best_epoch(epochs) if best_weights is not None else len(epochs),
        parameters=model.count_params(),
        seconds_to_first_step=first_step,
        engine=f"TensorFlow XLA on the CPU, {replicas} replica{'s' if replicas > 1 else ''} a batch",
    )


class _Learner:
    """The compiled programs of one training, and the order of the samples."""

    def __init__(self, model: keras.Model, examples: Examples, training: Training, replicas: int) -> None:
        import tensorflow as tf

        self.model, self.training = model, training
        self.fitted, self.replicas = examples.fitted, replicas
        self.part = math.ceil(training.batch_size / replicas)
        self.steps = math.ceil(len(examples.fitted) / training.batch_size)
        self.labels_each = int(np.prod(examples.y.shape[1:]))
        self.classes = examples.classes
        native = np.asarray(examples.x).astype(examples.x.dtype.newbyteorder("="), copy=False)
        self._x, self._y = tf.constant(native), tf.constant(np.asarray(examples.y).astype(np.int32))
        self._optimizer = _optimizer(training, self.rate_at)
        self._optimizer.build(model.trainable_variables)
        self._gradient = tf.function(self._replica_gradient, jit_compile=True)
        self._update = tf.function(self._apply, jit_compile=True)
        self._segment = tf.function(self._run_segment)
        self._segment_steps = 8

    def epoch(self, number: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Run one epoch in segments; yields the steps done and the segment's sums of loss, hits and labels."""
        import tensorflow as tf

        rows, weights = self._order(number)
        start = 0
        while start < self.steps:
            stop = min(start + self._segment_steps, self.steps)
            began = time.monotonic()
            sums = self._segment(
                tf.constant(rows), tf.constant(weights), tf.constant(start), tf.constant(stop), tf.constant(number)
            ).numpy()
            seconds = time.monotonic() - began
            yield stop, sums
            if start or number > 1:  # the first segment's time is that of compiling
                self._segment_steps = max(1, round((stop - start) * SEGMENT_SECONDS / max(seconds, 1e-3)))
            start = stop

    def rate(self, step: int) -> float:
        """The learning rate at a step, as a number."""
        return float(self.rate_at(np.float32(step)))

    def rate_at(self, step: Any) -> Any:  # noqa: ANN401 - a tensor inside the program, a number outside
        """One-cycle (Smith and Topin 2018, cosine form): warm up over the first part, then anneal to almost 0."""
        import tensorflow as tf

        peak = self.training.learning_rate
        if self.training.schedule == "constant":
            return tf.constant(peak, tf.float32)
        share = tf.cast(step, tf.float32) / float(self.training.epochs * self.steps)
        rise = 0.04 + 0.96 * (1 - tf.cos(math.pi * share / WARM_UP)) / 2
        fall = 1e-4 + (1 - 1e-4) * (1 + tf.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2
        return peak * tf.where(share < WARM_UP, rise, fall)

    def _order(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows (steps, replicas, part) in this epoch's order; weight 0 for what only fills the last batch."""
        generator = np.random.Generator(np.random.PCG64([self.training.seed, number]))
        order = generator.permutation(self.fitted)
        batch, padded = self.training.batch_size, self.part * self.replicas
        rows = np.zeros((self.steps, padded), np.int32)
        weights = np.zeros((self.steps, padded), np.float32)
        flat = np.zeros(self.steps * batch, np.int32)
        flat[: len(order)] = order
        rows[:, :batch] = flat.reshape(self.steps, batch)
        weights[:, :batch] = (np.arange(self.steps * batch) < len(order)).reshape(self.steps, batch)
        shape = (self.steps, self.replicas, self.part)
        return rows.reshape(shape), weights.reshape(shape)

    def _run_segment(
        self, rows: tf.Tensor, weights: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, number: tf.Tensor
    ) -> tf.Tensor:
        import tensorflow as tf

        def step(t: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            parts = [
                self._gradient(
                    self._x, self._y, rows[t, k], weights[t, k], tf.stack([number * 1_000_003 + t, 1000 * (k + 1)])
                )
                for k in range(self.replicas)
            ]
            totals = tf.add_n([part[0] for part in parts])
            self._update([part[1] for part in parts], totals[2])
            return t + 1, sums + tf.cast(totals, tf.float64)

        zero = tf.zeros([3], tf.float64)
        return tf.while_loop(lambda t, _: t < stop, step, (start, zero), parallel_iterations=1)[1]

    def _replica_gradient(
        self, x: tf.Tensor, y: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Sums of loss, hits and labels over one part of a batch, and the gradient of the summed loss."""
        import tensorflow as tf

        variables = [variable.value for variable in self.model.trainable_variables]
        true = tf.gather(y, rows)
        weight = tf.broadcast_to(tf.reshape(weights, [-1] + [1] * (len(true.shape) - 1)), tf.shape(true))
        with tf.GradientTape() as tape:
            logits = forward(self.model, tf.gather(x, rows), seed)
            loss = tf.reduce_sum(weight * loss_of(self.training, logits, true, self.classes))
        gradient = tape.gradient(loss, variables)
        hits = tf.cast(tf.argmax(logits, -1, output_type=tf.int32) == true, tf.float32)
        return tf.stack([loss, tf.reduce_sum(weight * hits), tf.reduce_sum(weight)]), gradient

    def _apply(self, gradients: list[list[tf.Tensor]], labels: tf.Tensor) -> None:
        import tensorflow as tf

        mean = [tf.add_n(list(same)) / labels for same in zip(*gradients, strict=True)]
        if self.training.clip_norm:
            mean, _ = tf.clip_by_global_norm(mean, self.training.clip_norm)
        self._optimizer.apply(mean, self.model.trainable_variables)


def loss_of(training: Training, logits: tf.Tensor, true: tf.Tensor, classes: int) -> tf.Tensor:
    """The configured loss of every label, as Keras has it: cross-entropy in nats, or the mean square over classes."""
    import tensorflow as tf

    smoothing = training.label_smoothing
    wanted = tf.one_hot(true, classes) * (1 - smoothing) + smoothing / classes
    if training.loss == "mean-squared-error":
        return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - wanted), axis=-1)
    return -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), axis=-1)


def _optimizer(training: Training, rate: Any) -> keras.Optimizer:  # noqa: ANN401 - a method as schedule
    import keras

    class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:  # noqa: ANN401
            return rate(step)

        def get_config(self) -> dict[str, Any]:
            return {}

    make = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
        "adamw": lambda learning_rate: keras.optimizers.AdamW(learning_rate, weight_decay=training.weight_decay),
    }[training.optimizer]
    return make(learning_rate=Rate())


def _validate(model: keras.Model, examples: Examples, training: Training) -> tuple[float | None, float | None]:
    """Loss (without smoothing) and accuracy on the rows held out; None where there are none."""
    if not len(examples.validation):
        return None, None
    import tensorflow as tf

    plain = training.model_copy(update={"label_smoothing": 0.0})
    true = examples.y[examples.validation]
    probabilities = np.concatenate(list(Answerer(model).answers(examples.x[examples.validation])))
    logits = np.log(np.maximum(probabilities, 1e-12))
    loss = loss_of(plain, tf.constant(logits), tf.constant(true), examples.classes).numpy()
    return float(loss.mean()), float((probabilities.argmax(-1) == true).mean())


def _best_epoch(epochs: list[Epoch]) -> int:
    losses = [epoch.validation_loss if epoch.validation_loss is not None else math.inf for epoch in epochs]
    return 1 + int(np.argmin(losses))


def told(epoch: Epoch, of: int) -> str:
    """An epoch in one line."""
    held_out = "" if epoch.validation_accuracy is None else f", held out {epoch.validation_accuracy:.2%}"
    return (
        f"epoch {epoch.epoch} of {of}: loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.2%}{held_out}, "
        f"{epoch.seconds:.1f} s"
    )


def _note(number: int, sums: NDArray[np.float64]) -> str:
    return f"epoch {number}: loss {sums[0] / sums[2]:.4f}, accuracy {sums[1] / sums[2]:.4f}"
