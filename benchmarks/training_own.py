"""The project's own arms of the training benchmark: the engine's epochs, and its time to the first step.

`python -m benchmarks.training_own epochs PROBLEM FOLDER` answers as the peers do (benchmarks/training_peers.py);
`… first-step PROBLEM FOLDER` measures once, in this fresh process, and answers with the parts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.learners import learner_of
from schemas.configuration import LstmLayer, Network, Training

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def training_of(problem: dict[str, Any]) -> Training:
    """The recipe of a problem in the project's own terms; nothing held out, nothing smoothed."""
    return Training(
        epochs=1000,  # no schedule looks at their number
        batch_size=problem["batch"],
        optimizer=problem["optimizer"],
        learning_rate=problem["learning_rate"],
        schedule="constant",
        loss=problem["loss"],
        label_smoothing=0.0,
        weight_decay=0.0,
        clip_norm=problem["clip_norm"],
        scaling="unit" if problem["scaled"] else "none",
        validation_share=0.0,
    )


def network_of(problem: dict[str, Any]) -> Network:
    """The network of a problem: one layer, no dropout."""
    return Network(layers=(LstmLayer(units=problem["units"]),), dropout_head=0.0)


def epochs(problem: dict[str, Any], x: NDArray[np.uint8], y: NDArray[np.int32]) -> Callable[[], dict[str, Any]]:
    """One epoch after another, each answered with its seconds and its mean loss."""
    learner, number = learner_of(network_of(problem), training_of(problem), x, y), 0

    def epoch() -> dict[str, Any]:
        nonlocal number
        number += 1
        start = time.perf_counter()
        *_, (_, (loss, _, labels)) = learner.epoch(number, 0, (0.0, 0.0, 0.0))
        return {"seconds": time.perf_counter() - start, "loss": loss / labels}

    return epoch


def first_step(problem: dict[str, Any], x: NDArray[np.uint8], y: NDArray[np.int32]) -> dict[str, float]:
    """Seconds from before TensorFlow's import to the end of the first step, by parts.

    The stage's own imports, with Prefect's in them, are a part of their own: a flow has made them before it trains.
    """
    times = [time.perf_counter()]
    import tasks.train  # noqa: F401 - for its time

    times.append(time.perf_counter())
    from tasks.network import quiet_tensorflow

    quiet_tensorflow()
    times.append(time.perf_counter())
    batch = problem["batch"]
    learner = learner_of(network_of(problem), training_of(problem), x[:batch], y[:batch])
    times.append(time.perf_counter())
    list(learner.epoch(1, 0, (0.0, 0.0, 0.0)))
    times.append(time.perf_counter())
    names = ("stage and Prefect", "TensorFlow", "Keras and the model", "tracing, compiling, one step")
    parts = {name: after - before for name, (before, after) in zip(names, pairwise(times), strict=True)}
    return {**parts, "to first step": times[-1] - times[1]}


def main() -> None:
    """Answer each line; whatever TensorFlow prints goes to standard error."""
    what, problem, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    x, y = (np.load(folder / file, allow_pickle=False) for file in ("x.npy", "y.npy"))
    with contextlib.redirect_stdout(sys.stderr):
        work = epochs(problem, x, y) if what == "epochs" else lambda: first_step(problem, x, y)
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = work()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
