"""Evaluate: the one touch of the test set: every sequence answered, measured, and its answer written down.

Here: the stage. Not here: the measures (metrics, slices, suspects), what simple models reach (floors), how a network
answers (tasks/network).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task

from schemas.configuration import Evaluating
from schemas.files import METRICS_FILE, MODEL_FILE, PREDICTIONS_FILE
from schemas.handles import Evaluation, Sequences, Station, TrainedModel
from schemas.metrics import LossName, Metrics
from tasks.arrays import open_arrays
from tasks.evaluate.floors import Samples, floors_of
from tasks.evaluate.slices import Slices
from tasks.evaluate.suspects import SelfConfidence, suspects_among
from tasks.measures import Tally
from tasks.mirror import Mirror
from tasks.predictions import PredictionWriter, answers_in_batches, rows_written
from tasks.receipts import demand_seal
from tasks.stage import Key, Progress, once, progress_of
from tasks.store import Store

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from schemas.handles import Labels
    from schemas.metrics import Floor


def key_of(
    sequences: Sequences,
    trained: TrainedModel,
    settings: Evaluating,
    loss: LossName,
    training: Sequences | None = None,
) -> Key[Evaluation]:
    """What the measures depend on: the weights, the sequences of both splits, what is reported."""
    floors = (
        {
            "training sequences": training.x.digest,
            "their shape in training": " × ".join(map(str, training.x.shape)),
            "training targets": training.targets.digest,
        }
        if training
        else {}
    )
    return Key(
        step="evaluate",
        stage="evaluate",
        form=Evaluation,
        module=__name__,
        inputs={
            "weights": trained.model.digest,
            "sequences": sequences.x.digest,
            "their shape": " × ".join(map(str, sequences.x.shape)),
            "targets": sequences.targets.digest,
            **floors,
        },
        settings={
            "labels": sequences.labels.model_dump(mode="json"),
            "evaluation": settings.model_dump(mode="json"),
            "training": {"loss": loss},
        },
        libraries=("tensorflow", "keras", "numpy", "pyarrow"),
    )


@task(
    name="evaluate",
    description="Lets the trained model answer every test sequence once and measures the answers: accuracy with its "
    "interval, classes, slices, confusion, calibration, worst mistakes, labels that may be wrong; beside what simple "
    "models reach. Writes every prediction, which closes the ledger.",
    task_run_name="evaluate",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def evaluate(
    artifacts: Path,
    sequences: Sequences,
    trained: TrainedModel,
    settings: Evaluating,
    loss: LossName,
    training: Sequences | None = None,
    anew: str | None = None,
) -> Evaluation:
    """Evaluate the model on the sealed test sequences, or reuse the evaluation of the same model and sequences.

    Args:
        artifacts: Where outputs are.
        sequences: The test sequences.
        trained: The model.
        settings: What is reported.
        loss: The loss that the configuration trains with.
        training: The training sequences, for what simple models reach; None: that is left out.
        anew: A demand to evaluate again.
    """
    store = Store(artifacts)
    key = key_of(sequences, trained, settings, loss, training)
    progress = progress_of(key.step)
    return once(store, key, lambda: evaluated(store, sequences, trained, settings, loss, progress, training), anew)


def evaluated(
    store: Store,
    sequences: Sequences,
    trained: TrainedModel,
    settings: Evaluating,
    loss: LossName,
    progress: Progress,
    training: Sequences | None = None,
) -> Evaluation:
    """Answer, measure and write.

    Raises:
        DataError: the sequences are not the ones that reshape sealed.
        CountsBrokenError: not every image was answered, or not every answer was written.
    """
    receipt = demand_seal(store, sequences)
    x, y = open_arrays(store, sequences)
    from tasks.network import load

    model = load(store.open(trained.model, MODEL_FILE))
    labels = receipt.labels
    answers = _Answers(labels, x, y, settings, loss)
    with store.staging() as folder:
        predictions = PredictionWriter(folder / PREDICTIONS_FILE, labels)
        with predictions:
            answers.take(model, predictions, progress)
        metrics = answers.metrics(folder / PREDICTIONS_FILE)
        if training:
            metrics = metrics.model_copy(update={"floors": _floors(store, training, Samples(x, y), labels.classes)})
        (folder / METRICS_FILE).write_text(metrics.model_dump_json(indent=1), encoding="utf-8")
        counts: dict[Station, int] = {
            "evaluated": metrics.samples,
            "predictions written": rows_written(folder / PREDICTIONS_FILE),
        }
        receipt.ledger.entered("test", "evaluate", counts).verify()
        return _kept(store, folder, predictions.digest, metrics, counts)


class _Answers:
    """The model's answers to all sequences, measured as they come."""

    def __init__(
        self, labels: Labels, x: NDArray[Any], y: NDArray[np.int32], settings: Evaluating, loss: LossName
    ) -> None:
        self._labels, self._x, self._y, self._most = labels, x, y, settings.worst_mistakes
        self._tally = Tally(
            labels.names, first=labels.first, bins=settings.calibration_bins, worst=self._most, loss=loss
        )
        self._slices = Slices(x, every_step=y.ndim == 2)
        self._confidence = SelfConfidence(labels.classes)

    def take(self, model: keras.Model, predictions: PredictionWriter, progress: Progress) -> None:
        """Let the model answer every sequence once; write and measure the answers."""
        from tasks.network import Answerer

        start = 0
        for answers in Answerer(model).answers(self._x):
            piece = slice(start, start + len(answers))
            true, probabilities = np.asarray(self._y[piece]).reshape(-1), answers.reshape(-1, self._labels.classes)
            start += len(answers)
            index = predictions.write(true, probabilities)
            self._tally.add(index, true, probabilities)
            self._confidence.add(true, probabilities)
            self._slices.add(index, self._x[piece], probabilities.argmax(axis=1) == true)
            progress(start, len(self._x), "sequences")

    def metrics(self, written: Path) -> Metrics:
        """All measures; the labels that may be wrong are looked for in what was written."""
        first, thresholds = self._labels.first, self._confidence.thresholds()
        suspects = suspects_among(answers_in_batches(written, first), thresholds, first=first, most=self._most)
        return self._tally.metrics().model_copy(update={"slices": self._slices.slicings(), "suspects": suspects})


def _floors(store: Store, training: Sequences, test: Samples, classes: int) -> tuple[Floor, ...]:
    demand_seal(store, training)
    return floors_of(Samples(*open_arrays(store, training)), test, classes)


def _kept(store: Store, folder: Path, predictions: str, metrics: Metrics, counts: dict[Station, int]) -> Evaluation:
    digest = hashlib.sha256(predictions.encode() + metrics.model_dump_json().encode()).hexdigest()
    rows = counts["predictions written"]
    handle = store.commit(folder, kind="evaluation", digest=digest, rows=rows, shape=(rows,), dtype="<f4")
    return Evaluation(evaluation=handle, counts=counts, accuracy=metrics.accuracy, interval=metrics.interval)
