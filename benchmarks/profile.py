"""Where the time of a training step goes: what XLA's operations take, by kind, beside the floor by arithmetic.

The floor is the step's floating-point operations at the rate that TensorFlow's bare product of matrices reaches in the
same minute. Seconds are those of a thousand steps. What operations take is added up over the threads and told a
replica; the replicas run side by side.
"""

from __future__ import annotations

import collections
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.learners import CLASSES, flop, learner_of
from benchmarks.measure import report
from benchmarks.training import MATMUL_ARM
from benchmarks.workers import ALONE, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Options
    from schemas.configuration import RunConfiguration
    from tasks.train.learner import Learner

STEPS = 20
IMAGE = (28, 28)
OTHERS = 6  # kinds of operations without a name here that are told
WHOLE = "a step"
KINDS = {
    "products of matrices": r"MatMul|dot",
    "gates and states": r".*(tanh|divide|subtract_multiply|multiply_add|bitcast_multiply|wrapped_multiply)",
    "keeping and reading states": r".*dynamic-(update-)?slice",
    "adding gradients": r"wrapped_add|.*add_fusion",
    "copies, fills, transpositions": r"copy|wrapped_(broadcast|slice|transpose|copy)|concat|.*(transpose|concatenate)",
}
OUTER = re.compile(
    r"while|call|ThunkExecutor|ParallelFor|Cpu|Eager|TFE|BlockUntil|__inference|_run_segment|tf\."
    r"|.*:|Tfrt|ExecutorState|.*Op$"
)


def main(options: Options) -> None:
    """Profile segments of a preset's training on random images."""
    from schemas.presets import configured

    configuration, rates = configured(options.preset), _matmul_rates(options.repeat)
    learner, seconds = _learner(configuration), []
    segment = _segment(learner)
    segment()
    for _ in range(options.repeat):
        start = time.perf_counter()
        segment()
        seconds.append((time.perf_counter() - start) / STEPS)
    spent = {kind: took / learner.replicas for kind, took in _profiled(segment).items()}
    _tell(configuration, spent, seconds, rates)


def _matmul_rates(repeat: int) -> list[float]:
    """GFLOP/s with the kernels that training uses, those without oneDNN."""
    command = [sys.executable, *ALONE, MATMUL_ARM, "rate"]
    with Worker("profile-matmul", command, {"TF_ENABLE_ONEDNN_OPTS": "0"}) as worker:
        return [worker.ask()["gflops"] for _ in range(repeat)]


def _learner(configuration: RunConfiguration) -> Learner:
    shape, batch = configuration.reshape.sequence_shape(IMAGE), configuration.training.batch_size
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (STEPS * batch, *shape), dtype=np.uint8)
    y = random.integers(0, CLASSES, len(x)).astype(np.int32)
    return learner_of(configuration.network, configuration.training, x, y)


def _segment(learner: Learner) -> Callable[[], object]:
    numbers = iter(range(1, 10**9))
    return lambda: collections.deque(learner.epoch(next(numbers), 0, (0.0, 0.0, 0.0)), maxlen=0)


def _profiled(segment: Callable[[], object]) -> dict[str, float]:
    """Seconds a step that each kind of operation took, over all threads."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        segment()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    spent: dict[str, float] = collections.defaultdict(float)
    for name, seconds in _events(space):
        kind = next((kind for kind, pattern in KINDS.items() if re.match(pattern, name)), f"other: {name}")
        spent[kind] += seconds / STEPS
    return spent


def _events(space: Any) -> Iterator[tuple[str, float]]:  # noqa: ANN401
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if not OUTER.match(name):
                    yield name, event.duration_ps / 1e12


def _tell(configuration: RunConfiguration, spent: dict[str, float], seconds: list[float], rates: list[float]) -> None:
    shape, batch = configuration.reshape.sequence_shape(IMAGE), configuration.training.batch_size
    gflop = batch * flop(configuration.network, *shape) / 1e9
    others = sorted((kind for kind in spent if kind not in KINDS), key=lambda kind: -spent[kind])[:OTHERS]
    times = {
        WHOLE: seconds,
        "floor: its arithmetic": [gflop / rate for rate in rates],
        **{kind: [spent.get(kind, 0.0)] for kind in (*KINDS, *others)},
    }
    report(
        f"profile-{configuration.preset}",
        {name: [1000 * each for each in values] for name, values in times.items()},
        WHOLE,
        unit="seconds of a thousand steps; operations of one profiled segment, a replica",
        gflops=round(gflop / statistics.median(seconds), 1),
        matmul_gflops=[round(rate, 1) for rate in rates],
    )
