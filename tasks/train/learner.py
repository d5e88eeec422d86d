"""The learner: the one place that knows how learning is made fast. Not here: epochs and their records (engine).

A batch is cut into equal replicas; each is one XLA program for its loss and gradient, and TensorFlow runs them side by
side, one a core. One more program adds the gradients and updates the weights. The loop over the batches is a graph too,
so Python is entered once a segment: then progress moves, and what was learned can be kept.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tasks.network import forward, noise_shapes, on_gpu, recurrent_dropped, recurrent_shapes
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

    from schemas.configuration import Training
    from tasks.train.augmentation import Augmenter

FIRST_SEGMENT_STEPS = 1  # to compile, and once more to see how long one takes
SEGMENT_SECONDS = 1.0
ALIGNMENT: Final = 64  # bytes; TensorFlow's own, EIGEN_MAX_ALIGN_BYTES
AUGMENTER_PLACE: Final = 999  # among the seeds of a replica, beyond its dropout layers
WEIGHTS_PLACE: Final = 500  # of the first U whose weights are dropped


@dataclass(frozen=True)
class Examples:
    """What is learned from.

    Attributes:
        x: (N, T, F) raw values; mapped ones of the machine's own order of bytes are left where they are.
        y: (N,) or (N, T) int32 class indices.
        fitted: Rows that the optimiser may see.
        validation: Rows held out.
        classes: C.
        augmenter: What moves the images that are fitted; None: they are seen as they are.
    """

    x: NDArray[Any]
    y: NDArray[np.int32]
    fitted: NDArray[np.int64]
    validation: NDArray[np.int64]
    classes: int
    augmenter: Augmenter | None = None


class Learner:
    """The compiled programs of one training, the order of the samples, and all variables that learning changes."""

    def __init__(self, model: keras.Model, examples: Examples, training: Training, replicas: int) -> None:
        import tensorflow as tf

        self.model, self.training = model, training
        self.on_gpu = on_gpu()
        self.fitted, self.replicas = examples.fitted, 1 if self.on_gpu else replicas
        self.part = math.ceil(training.batch_size / self.replicas)
        self.steps = math.ceil(len(examples.fitted) / training.batch_size)
        self.epochs = training.epochs_over(len(examples.fitted))
        self.labels_each = int(np.prod(examples.y.shape[1:]))
        self.classes, self.augmenter = examples.classes, examples.augmenter
        self._x, self._y = in_place(examples.x), tf.constant(np.asarray(examples.y).astype(np.int32))
        self._optimizer = _optimizer(training, self.rate_at)
        self._optimizer.build(model.trainable_variables)
        self._gradient = tf.function(self._replica_gradient, jit_compile=not self.on_gpu, autograph=False)
        self._update = tf.function(self._apply, jit_compile=not self.on_gpu, autograph=False)
        self._segment = tf.function(self._run_segment, autograph=False)
        # 30 bits of the seed above the 32 that count epochs and steps
        self._drawn_from = (int(np.random.SeedSequence(training.seed).generate_state(1)[0]) >> 2) << 32
        self._segment_steps, self._compiled = FIRST_SEGMENT_STEPS, False
        self._best: list[NDArray[Any]] = []

    def epoch(
        self, number: int, start: int, sums: tuple[float, float, float]
    ) -> Iterator[tuple[int, tuple[float, float, float]]]:
        """Run an epoch, or what is left of it, in segments.

        The sums are carried through the steps one by one, so that no result depends on where segments end.

        Args:
            number: The epoch, from 1.
            start: Steps of it that are done.
            sums: Loss, hits and labels of those steps.

        Yields:
            The steps done and their sums, after every segment.
        """
        import tensorflow as tf

        order = [tf.constant(part) for part in self._order(number)]
        while start < self.steps:
            stop = min(start + self._segment_steps, self.steps)
            began = time.monotonic()
            bounds = (tf.constant(bound) for bound in (start, stop, number))
            loss, hits, labels = self._segment(*order, *bounds, tf.constant(sums, tf.float64)).numpy()
            sums = float(loss), float(hits), float(labels)
            seconds = time.monotonic() - began
            if self._compiled:  # the first segment's time is that of compiling
                self._segment_steps = max(1, round((stop - start) * SEGMENT_SECONDS / max(seconds, 1e-3)))
            self._compiled = True
            start = stop
            yield stop, sums

    def told(self) -> str:
        """What computes the steps, in words."""
        if self.on_gpu:
            return "TensorFlow on the GPU, the layers by Keras, which takes cuDNN's"
        return f"TensorFlow XLA on the CPU, {self.replicas} replica{'s' if self.replicas > 1 else ''} a batch"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that learning has changed: weights, the optimiser's variables, the weights kept as the best."""
        own = {name: variable.numpy() for name, variable in self._variables().items()}
        return own | {f"best/{position}": weight for position, weight in enumerate(self._best)}

    def objection(self, arrays: dict[str, NDArray[Any]]) -> str:
        """Why these arrays are not this learner's; empty where they are."""
        wanted = {name: (tuple(each.shape), each.dtype) for name, each in self._variables().items()}
        best = {f"best/{position}": (tuple(each.shape), each.dtype) for position, each in enumerate(self.model.weights)}
        found = {name: (value.shape, value.dtype.name) for name, value in arrays.items()}
        if found in (wanted, wanted | best):
            return ""
        odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != (wanted | best).get(name))
        return f"it holds other variables than this network and optimiser ({', '.join(odd[:3]) or 'best'})"

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave, to which there is no objection."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        names = (f"best/{position}" for position in range(len(self.model.weights)))
        self._best = [arrays[name] for name in names if name in arrays]

    def keep_weights(self) -> None:
        """Keep the weights as they are now: the best so far."""
        self._best = self.model.get_weights()

    def return_to_kept(self) -> bool:
        """Go back to the weights that were kept, if any were."""
        if self._best:
            self.model.set_weights(self._best)
        return bool(self._best)

    def _variables(self) -> dict[str, keras.Variable]:
        """All variables by name; the optimiser's own name, which Keras numbers, is left out."""
        weights = {f"model/{variable.path}": variable for variable in self.model.weights}
        slots = {f"optimizer/{variable.path.partition('/')[2]}": variable for variable in self._optimizer.variables}
        return weights | slots

    def rate(self, step: int) -> float:
        """The learning rate at a step, as a number."""
        return float(self.rate_at(np.float32(step)))

    def rate_at(self, step: Any) -> Any:  # noqa: ANN401 - a tensor inside the program, a number outside
        """One-cycle (Smith and Topin 2018, cosine form): warm up over the first part, then anneal to almost 0."""
        import tensorflow as tf

        peak = self.training.learning_rate
        if self.training.schedule == "constant":
            return tf.constant(peak, tf.float32)
        last = max(1, self.epochs * self.steps - 1)
        share, up = tf.cast(step, tf.float32) / float(last), self.training.warm_up
        rise = 0.04 + 0.96 * (1 - tf.cos(math.pi * share / up)) / 2
        fall = 1e-4 + (1 - 1e-4) * (1 + tf.cos(math.pi * (share - up) / (1 - up))) / 2
        return peak * tf.where(share < up, rise, fall)

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
        self,
        rows: tf.Tensor,
        weights: tf.Tensor,
        start: tf.Tensor,
        stop: tf.Tensor,
        number: tf.Tensor,
        sums: tf.Tensor,
    ) -> tf.Tensor:
        import tensorflow as tf

        def step(t: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seeds = [self._seed(number, t, k) for k in range(self.replicas)]
            order = (rows, weights)  # whole: what a small program takes out of them costs less than an operation here
            data, dropped = (self._x, self._y), self._noise_of_weights(seeds[0])
            parts = [
                self._gradient(data, order, t, tf.constant(k), self._moves(seed), self._noise(seed), dropped)
                for k, seed in enumerate(seeds)
            ]
            return t + 1, self._update([part[1] for part in parts], [part[0] for part in parts], sums)

        return tf.while_loop(lambda t, _: t < stop, step, (start, sums), parallel_iterations=1)[1]

    def _seed(self, number: tf.Tensor, t: tf.Tensor, replica: int) -> tf.Tensor:
        """What all draws of one part of a batch begin with: the seed of the training, epoch and step; the replica."""
        import tensorflow as tf

        step = tf.cast(number, tf.int64) * 1_000_003 + tf.cast(t, tf.int64)
        return tf.stack([self._drawn_from + step, tf.constant(1000 * (replica + 1), tf.int64)])

    def _moves(self, seed: tf.Tensor) -> tf.Tensor | None:
        """What the augmenter takes for one part of a batch."""
        import tensorflow as tf

        if self.augmenter is None:
            return None
        shape = self.augmenter.draws_shape(self.part, *self._x.shape[1:])
        return tf.random.stateless_uniform(shape, seed + tf.constant([0, AUGMENTER_PLACE], tf.int64))

    def _noise(self, seed: tf.Tensor) -> list[tf.Tensor]:
        """What each dropout layer takes; drawn outside the compiled program, whose own generator is far slower."""
        return uniform(noise_shapes(self.model, self.part), seed)

    def _noise_of_weights(self, seed: tf.Tensor) -> list[tf.Tensor]:
        """What each U takes where weights are dropped: once a batch, so that its parts learn in one network."""
        return uniform(recurrent_shapes(self.model) if self.training.weight_dropout else [], seed, WEIGHTS_PLACE)

    def _replica_gradient(
        self,
        data: tuple[tf.Tensor, tf.Tensor],
        order: tuple[tf.Tensor, tf.Tensor],
        t: tf.Tensor,
        replica: tf.Tensor,
        moves: tf.Tensor | None,
        noise: list[tf.Tensor],
        dropped: list[tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Sums of loss, hits and labels over one part of batch t, and the gradient of the summed loss."""
        import tensorflow as tf

        x, y = data
        # gather: of a slice XLA wants to know the place, and compiles for each
        rows, weights = (tf.gather(tf.gather(each, t), replica) for each in order)
        variables = [variable.value for variable in self.model.trainable_variables]
        true = tf.gather(y, rows)
        weight = tf.broadcast_to(tf.reshape(weights, [-1] + [1] * (len(true.shape) - 1)), tf.shape(true))
        sequences = tf.gather(x, rows)
        if self.augmenter is not None:
            sequences = self.augmenter.moved(sequences, moves)
        with tf.GradientTape() as tape:
            with recurrent_dropped(self.model, self.training.weight_dropout, dropped):
                logits = forward(self.model, sequences, noise, by_keras=self.on_gpu)
            loss = tf.reduce_sum(weight * loss_of(self.training, logits, true, self.classes))
        gradient = tape.gradient(loss, variables)
        hits = tf.cast(tf.argmax(logits, -1, output_type=tf.int32) == true, tf.float32)
        return tf.stack([loss, tf.reduce_sum(weight * hits), tf.reduce_sum(weight)]), gradient

    def _apply(self, gradients: list[list[tf.Tensor]], totals: list[tf.Tensor], sums: tf.Tensor) -> tf.Tensor:
        """Update the weights by the replicas' gradients; returns the sums with theirs in them."""
        import tensorflow as tf

        total = tf.add_n(totals)
        labels = total[2]
        mean = [tf.add_n(list(same)) / labels for same in zip(*gradients, strict=True)]
        if self.training.clip_norm:
            mean, _ = tf.clip_by_global_norm(mean, self.training.clip_norm)
        self._optimizer.apply(mean, self.model.trainable_variables)
        return sums + tf.cast(total, tf.float64)


def uniform(shapes: Sequence[tuple[int, ...]], seed: tf.Tensor, first_place: int = 0) -> list[tf.Tensor]:
    """Draws over [0, 1) of these shapes, each by its place among all that one part of a batch takes."""
    import tensorflow as tf

    return [
        tf.random.stateless_uniform(shape, seed + tf.constant([0, place], tf.int64))
        for place, shape in enumerate(shapes, first_place)
    ]


class _Lent:
    """Memory that NumPy takes to be writable, for DLPack lends no other; TensorFlow never writes into a tensor."""

    def __init__(self, lender: NDArray[Any]) -> None:
        self.lender = lender  # whose map has to last as long as what is made of it
        self.__array_interface__ = {**lender.__array_interface__, "data": (lender.ctypes.data, False)}


def in_place(x: NDArray[Any]) -> tf.Tensor:
    """An array as a tensor that reads its memory, so that mapped sequences stay on disk until they are gathered.

    A copy where TensorFlow cannot: for a GPU, in another order of bytes, not contiguous or not aligned.
    """
    import tensorflow as tf

    native = np.asarray(x).astype(x.dtype.newbyteorder("="), copy=False)
    if native.flags.c_contiguous and native.ctypes.data % ALIGNMENT == 0 and not on_gpu():
        tensor: tf.Tensor = tf.experimental.dlpack.from_dlpack(np.asarray(_Lent(native)).__dlpack__())
        return tensor
    log.debug("sequences of type %s are copied into memory: %.0f MB", x.dtype.str, native.nbytes / 1e6)
    return tf.constant(native)


def loss_of(training: Training, logits: tf.Tensor, true: tf.Tensor, classes: int) -> tf.Tensor:
    """The configured loss of every label, as Keras has it: cross-entropy in nats, or the mean square over classes.

    Args:
        training: Which loss, and how much the targets are smoothed.
        logits: (…, C) float32.
        true: (…) integer class indices.
        classes: C.

    Returns:
        (…) float32.
    """
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
