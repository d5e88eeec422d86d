"""TensorFlow's bare matrix products, the floor under training and answering; imports nothing of this project.

`matmul.py rate` answers each line of its input with the GFLOP/s of float32 products on all cores, the best of several
sizes. `matmul.py answering PROBLEM` answers with the seconds a thousand sequences take where only the matrix products
of an LSTM's forward pass are done, and no gates: inputs of all steps in one product, one product a step, the head.
PROBLEM is a JSON object with steps, features, units and classes.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (512, 1024, 2048, 3072)
BATCHES = (512, 1024, 2048, 4096)
FLOP_A_TURN = 2e10  # a tenth of a second and more
TURNS = 3
SEQUENCES = 16_384


def rate(sizes: tuple[int, ...] = SIZES, flop: float = FLOP_A_TURN) -> Callable[[], dict[str, Any]]:
    """The rate of square products."""
    import tensorflow as tf

    product = tf.function(tf.linalg.matmul)
    pairs = {n: (tf.random.normal((n, n)), tf.random.normal((n, n))) for n in sizes}

    def of(n: int) -> float:
        times = math.ceil(flop / (2 * n**3))

        def turn() -> None:
            for _ in range(times):
                result = product(*pairs[n])
            result.numpy()

        return 2 * n**3 * times / _least(turn) / 1e9

    def measured() -> dict[str, Any]:
        rates = {str(n): of(n) for n in sizes}
        return {"gflops": max(rates.values()), "by size": rates}

    return measured


def answering(
    problem: dict[str, int], batches: tuple[int, ...] = BATCHES, sequences: int = SEQUENCES
) -> Callable[[], dict[str, Any]]:
    """The products of a forward pass, in batches of several sizes; the best counts."""
    import tensorflow as tf

    steps, features, units, classes = (problem[name] for name in ("steps", "features", "units", "classes"))
    w, u = tf.random.normal((features, 4 * units)), tf.random.normal((units, 4 * units)) / (2 * units**0.5)
    head = tf.random.normal((units, classes))

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def work(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        def step(h: tf.Tensor) -> tf.Tensor:
            return tf.linalg.matmul(h, u)[:, :units]  # one gate of four is passed on

        def batch(total: tf.Tensor) -> tf.Tensor:
            projected = tf.linalg.matmul(tf.reshape(x, (-1, features)), w)
            h = tf.ones((tf.shape(x)[0], units))
            h = tf.while_loop(lambda _, t: t < steps, lambda h, t: (step(h), t + 1), (h, 0), parallel_iterations=1)[0]
            return total + tf.linalg.matmul(h, head)[0, 0] + projected[0, 0]

        return tf.while_loop(
            lambda _, n: n < times, lambda total, n: (batch(total), n + 1), (0.0, 0), parallel_iterations=1
        )[0]

    inputs = {size: tf.random.normal((size, steps, features)) for size in batches}

    def of(size: int) -> float:
        times = max(1, sequences // size)
        return _least(lambda: work(inputs[size], tf.constant(times)).numpy()) / (times * size) * 1000

    def measured() -> dict[str, Any]:
        seconds = {str(size): of(size) for size in batches}
        return {"seconds a thousand": min(seconds.values()), "by batch": seconds}

    return measured


def _least(turn: Callable[[], object]) -> float:
    turn()
    best = math.inf
    for _ in range(TURNS):
        start = time.perf_counter()
        turn()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Answer each line; whatever TensorFlow prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        work = rate() if sys.argv[1] == "rate" else answering(json.loads(sys.argv[2]))
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


if __name__ == "__main__":
    main()
