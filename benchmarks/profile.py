"""Where the time of a training step goes: what XLA's operations take, by kind, beside the floor by arithmetic."""

from __future__ import annotations

import collections
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.learners import CLASSES, flop, learner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Options
    from schemas.configuration import RunConfiguration
    from tasks.train.learner import Learner

STEPS = 20
PIXELS = 784
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

    configuration = configured(options.preset)
    learner, seconds = _learner(configuration), []
    segment = _segment(learner)
    segment()
    for _ in range(options.repeat):
        start = time.perf_counter()
        segment()
        seconds.append((time.perf_counter() - start) / STEPS)
    spent = _profiled(segment)
    _tell(configuration, learner, spent, min(seconds), float(np.median(seconds)))


def _learner(configuration: RunConfiguration) -> Learner:
    steps, batch = configuration.reshape.timesteps, configuration.training.batch_size
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (STEPS * batch, steps, PIXELS // steps), dtype=np.uint8)
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


def _tell(
    configuration: RunConfiguration,
    learner: Learner,
    spent: dict[str, float],
    least: float,
    middle: float,
) -> None:
    print(f"\nprofile of {configuration.preset}: {least * 1e3:.2f} ms a step at best, median {middle * 1e3:.2f}")
    steps = configuration.reshape.timesteps
    arithmetic = configuration.training.batch_size * flop(configuration.network, steps, PIXELS // steps)
    print(f"  {arithmetic / least / 1e9:.1f} GFLOP/s at best")
    named = {kind: spent.get(kind, 0.0) for kind in KINDS}
    for kind, seconds in named.items():
        print(f"  {kind:34}{seconds * 1e3 / learner.replicas:8.2f} ms a step and replica")
    others = sorted(((s, k) for k, s in spent.items() if k not in KINDS), reverse=True)
    for seconds, kind in others[:6]:
        print(f"  {kind:34}{seconds * 1e3 / learner.replicas:8.2f} ms")
