"""A point of the study: the sealed training sequences of one scan, read in T steps, trained once and looked at.

No test image is looked at: the study compares settings, so it measures on training images held out. Not here: the
mathematics of what is looked at (cells), what all points say together (page).
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from prefect import task

from schemas.configuration import Reshape
from schemas.handles import Sequences
from schemas.ledger import CountsBrokenError
from schemas.study import GRADIENTS, LOOKED_AT, Point, PointCounts, PointResult, recipe_of
from tasks.arrays import open_arrays
from tasks.mirror import Mirror
from tasks.receipts import demand_seal
from tasks.stage import Key, Progress, once, progress_of
from tasks.store import Store
from tasks.study import cells
from tasks.train import require_fit, seen_in_every_epoch
from tasks.train.checkpoint import Checkpoints
from tasks.train.standing import Continuity

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from schemas.history import History

STAGE: Final = "study"
HELD_OUT_SEED: Final = 784


def key_of(sequences: Sequences, point: Point) -> Key[PointResult]:
    """What a point's numbers depend on; not the machine, for they are measurements and each says where it was made."""
    network, training = recipe_of(point)
    return Key(
        step=f"point {point.label}",
        stage=STAGE,
        form=PointResult,
        module=__name__,
        inputs={
            "sequences": sequences.x.digest,
            "targets": sequences.targets.digest,
            "classes": str(sequences.labels.classes),
        },
        settings={
            "point": point.model_dump(mode="json"),
            "network": network.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
        },
        libraries=("tensorflow", "keras", "numpy"),
    )


@task(
    name="point",
    description="Trains one point of the study on sealed sequences, counts its samples, and measures accuracy on "
    "training images held out, gates and gradients. Looks at no test image.",
    task_run_name="point {point.label}",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def measure_point(artifacts: Path, sequences: Sequences, point: Point) -> PointResult:
    """Measure one point, or take what was measured before; an interrupted training goes on from its checkpoint."""
    store = Store(artifacts)
    key = key_of(sequences, point)
    checkpoints = Checkpoints(store.partial(f"study-{key.digest}"), key.digest)
    progress = progress_of(key.step)
    continuity = Continuity(checkpoints)
    return once(store, key, lambda: measured(store, sequences, point, progress, continuity), then=checkpoints.remove)


def measured(
    store: Store, sequences: Sequences, point: Point, progress: Progress, continuity: Continuity
) -> PointResult:
    """Train and look.

    Raises:
        DataError: the sequences are not the ones that reshape sealed.
        CountsBrokenError: samples were lost on the way.
    """
    began = time.monotonic()
    receipt = demand_seal(store, sequences)
    x, y = open_arrays(store, sequences)
    x = x.reshape(len(x), point.timesteps, point.features)
    require_fit(x, y, Reshape(timesteps=point.timesteps, scan=point.scan))
    fitted, held_out = drawn(len(x), point)
    learned_from = x[fitted], y[fitted]
    model = untrained(point, learned_from[0], receipt.labels.classes)
    before = cells.weights_of(model)
    history = learned(model, point, learned_from, began, progress, continuity)
    hits, answered = cells.hits_after_each_step(cells.weights_of(model), x[held_out], y[held_out])
    counts = PointCounts(
        sequences=len(x),
        fitted=len(learned_from[0]),
        held_out=len(held_out),
        left_out=len(np.setdiff1d(np.arange(len(x)), np.concatenate([fitted, held_out]))),
        seen=seen_in_every_epoch(history, len(fitted)),
        answered=answered,
    )
    require_counts(point, counts)
    return PointResult(
        point=point,
        counts=counts,
        parameters=model.count_params(),
        lstm_parameters=before.w.size + before.u.size + before.b.size,
        accuracy=float(hits[-1]) / answered,
        floor=float(np.bincount(y[held_out]).max()) / len(held_out),
        training_accuracy=history.epochs[-1].accuracy,
        loss=history.epochs[-1].loss,
        hits_after=tuple(map(int, hits)),
        **looked_at(before, *learned_from, point),
        seconds_an_epoch=_median_epoch(history),
        seconds=time.monotonic() - began,
        engine=history.engine,
        machine=f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors",
    )


def untrained(point: Point, x: NDArray[np.generic], classes: int) -> keras.Model:
    """The network of a point before it has learned anything, scaled by the images it is going to learn from."""
    from tasks.network import Moments, build

    network, training = recipe_of(point)
    reshape, shape = Reshape(timesteps=point.timesteps, scan=point.scan), (point.timesteps, point.features)
    return build(network, reshape, training, shape, classes, Moments.of(x, training.scaling))


def learned(
    model: keras.Model,
    point: Point,
    learned_from: tuple[NDArray[np.generic], NDArray[np.int32]],
    began: float,
    progress: Progress,
    continuity: Continuity,
) -> History:
    """Train the model in place on all images given, by one thread: other points are at work beside this one."""
    from tasks.train.engine import Examples, fit

    (x, y), (_, training) = learned_from, recipe_of(point)
    examples = Examples(x, y, np.arange(len(x)), np.arange(0), model.output_shape[-1])
    return fit(model, examples, training, 1, began, progress, continuity)


def drawn(n: int, point: Point) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to fit and rows held out, ascending: held out are the same for every point, fitted are drawn by its seed."""
    order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(n)
    rest = np.sort(order[point.held_out :])
    chosen = np.random.Generator(np.random.PCG64([point.seed, HELD_OUT_SEED])).permutation(rest)
    return np.sort(chosen[: point.images]), np.sort(order[: point.held_out])


def require_counts(point: Point, counts: PointCounts) -> None:
    """Raise CountsBrokenError unless every sequence is accounted for and each that should be seen was seen."""
    for found, expected, what in (
        (counts.fitted, point.images, "fitted = images of the point"),
        (counts.held_out, point.held_out, "held out = images held out"),
        (counts.fitted + counts.held_out + counts.left_out, counts.sequences, "fitted + held out + left = sequences"),
        (counts.seen, counts.fitted, "seen in an epoch = fitted"),
        (counts.answered, counts.held_out, "answered = held out"),
    ):
        if found != expected:
            raise CountsBrokenError(
                f"point {point.label}: {found:,} against {expected:,}",
                what,
                "Samples were lost or repeated in this point: run the study again",
                equation=what,
            )


def looked_at(
    before: cells.Weights, x: NDArray[np.generic], y: NDArray[np.int32], point: Point
) -> dict[str, float | None]:
    """What is measured on real images before anything is learned."""
    _, training = recipe_of(point)
    few, true = x[:GRADIENTS], y[:GRADIENTS]
    *_, last = cells.steps(before, few)
    chrono = cells.with_chrono_bias(before, point.timesteps, point.seed)
    ratio, ratio_chrono = (
        cells.first_over_last_quarter(cells.input_gradient_norms(each, few, true, training))
        for each in (before, chrono)
    )
    return {
        "saturated": cells.saturated_share(before, x[:LOOKED_AT]),
        "gradient_ratio": ratio,
        "gradient_ratio_chrono": ratio_chrono,
        "output_gradient": float(np.linalg.norm(cells.output_gradient(before, last.h, true, training), axis=1).mean()),
        "blank_tail": cells.blank_tail(x),
    }


def _median_epoch(history: History) -> float:
    times = [epoch.seconds for epoch in history.epochs]
    return statistics.median(times[1:] or times)
