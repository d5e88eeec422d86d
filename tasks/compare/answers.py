"""How models answered the test samples: as written, or, by a champion of other samples, answered now.

Not here: which of two models is better.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import ValidationError

from schemas.configuration import RunConfiguration
from schemas.errors import DataError
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, PREDICTIONS_FILE, RECEIPT_FILE, RUNS
from schemas.receipt import Receipt
from tasks.compare.incomparable import Incomparable
from tasks.idx import form_of
from tasks.measures import Tally
from tasks.model_input import objection_to_input, sequences_of
from tasks.predictions import answers_in_batches
from tasks.published import damages

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from schemas.champion import Champion
    from schemas.configuration import Reshape
    from schemas.handles import Evaluation, Labels, Table
    from schemas.metrics import Calibration, Metrics
    from tasks.store import Store


BINS: Final = 15  # of both calibrations that are compared


@dataclass(frozen=True)
class Answers:
    """One model's answers to the samples 0 to N - 1 of a split, labels being the dataset's own.

    Attributes:
        labels: (N,) int32, what is right.
        predicted: (N,) int32, what was answered.
    """

    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,): which answers are right."""
        right: NDArray[np.bool_] = self.labels == self.predicted
        return right

    def of(self, rows: NDArray[np.bool_]) -> Answers:
        """Those to some rows, (N,)."""
        return Answers(self.labels[rows], self.predicted[rows])

    def require_same_samples(self, other: Answers) -> None:
        """Make sure that both are about the same samples.

        Raises:
            Incomparable: they are of different number.
            DataError: a sample has another label with one than with the other: rows have been moved.
        """
        if len(self.labels) != len(other.labels):
            raise Incomparable(f"it answered {len(self.labels):,} test images, the champion {len(other.labels):,}")
        moved = np.flatnonzero(self.labels != other.labels)
        if moved.size:
            row = int(moved[0])
            raise DataError(
                f"{moved.size:,} of {len(self.labels):,} test images have another label in the champion's answers; the "
                f"first is image {row}: {self.labels[row]} here, {other.labels[row]} there",
                "equal labels in the same order, since both answered the same table",
                "Nothing was compared: rows have been moved. Report this",
                PREDICTIONS_FILE,
            )


@dataclass(frozen=True)
class Opponent:
    """The champion as it answers the test samples at hand.

    Attributes:
        answers: To all of them.
        calibration: Of those to the rows that are compared, in `BINS` bins.
        rescored: Whether it answered them just now.
    """

    answers: Answers
    calibration: Calibration
    rescored: bool


def answers_in(store: Store, evaluation: Evaluation) -> Answers:
    """The answers of an evaluation."""
    return written_answers(store.open(evaluation.evaluation, PREDICTIONS_FILE))


def written_answers(path: Path) -> Answers:
    """The answers in a file of predictions.

    Raises:
        DataError: its rows are not the samples 0 to N - 1 in order.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["index", "label", "predicted"])
    index = table["index"].to_numpy()
    if not np.array_equal(index, np.arange(len(index))):
        raise DataError(
            "the rows of these predictions are not in the order of the test images",
            f"the indices 0 to {len(index) - 1}",
            "Rerun the evaluation: --task evaluate",
            str(path),
        )
    return Answers(table["label"].to_numpy(), table["predicted"].to_numpy())


def metrics_of(predictions: Path, labels: Labels, rows: NDArray[np.bool_]) -> Metrics:
    """The measures of written answers to some rows, (N,); calibration is in `BINS` bins however many a report shows.

    Raises:
        DataError: there are no such rows.
    """
    tally = Tally(labels.names, first=labels.first, bins=BINS)
    for index, true, p in answers_in_batches(predictions, labels.first):
        wanted = rows[index]
        tally.add(index[wanted], true[wanted], p[wanted])
    return tally.metrics()


def require_same_classes(store: Store, champion: Champion, receipt: Receipt) -> None:
    """Raise Incomparable where a champion's receipt can be read and knows images or classes of another form."""
    path = store.root / RUNS / champion.run / RECEIPT_FILE
    with contextlib.suppress(OSError, ValidationError):
        _require_same_form(Receipt.model_validate_json(path.read_bytes()), receipt)


def answers_of_champion(
    store: Store, champion: Champion, receipt: Receipt, table: Table, new: Answers, rows: NDArray[np.bool_]
) -> Opponent:
    """How the champion answers the samples of a test table.

    Args:
        store: Where both are.
        champion: Who is asked.
        receipt: Of the new model's data.
        table: The test split.
        new: The new model's answers.
        rows: (N,) on which of them the two are compared.

    Raises:
        DataError: a sample has another label with one than with the other: rows have been moved.
        Incomparable: its files are damaged, it was trained for images or classes of another form, it answers another
            number of samples, or it can answer nobody any more, whatever it once answered.
    """
    place = f"{RUNS}/{champion.run}"
    damaged = damages(store, place, champion.manifest)
    if damaged:
        raise Incomparable(f"the champion's run {champion.run} is not as it was published: {'; '.join(damaged)}")
    folder = store.root / place
    try:
        then = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
        configuration = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    except ValidationError as error:
        raise Incomparable(f"the champion's run {champion.run} is of a version that this one cannot read") from error
    _require_same_form(then, receipt)
    if found := objection_to_input(folder, configuration.reshape):
        raise Incomparable(f"the champion cannot be asked: {found}")
    if then.table_digest("test") == table.table.digest:
        path = folder / PREDICTIONS_FILE
        answers = written_answers(path)
        new.require_same_samples(answers)
        return Opponent(answers, metrics_of(path, receipt.labels, rows).calibration, rescored=False)
    return _rescored(store, folder, configuration.reshape, receipt.labels, table, new, rows)


def _require_same_form(then: Receipt, now: Receipt) -> None:
    """Raise Incomparable unless images and classes are those that the champion knows."""
    if (then.image_shape, then.image_dtype) != (now.image_shape, now.image_dtype):
        there, here = (form_of(each.image_shape, each.image_dtype) for each in (then, now))
        raise Incomparable(f"the images are others than the champion's: {here}, there {there}")
    if _classes(then) != _classes(now):
        raise Incomparable(f"the classes are others than the champion's: {_classes(now)}, there {_classes(then)}")


def _classes(receipt: Receipt) -> str:
    """Number, first label and names: those at the same place under another name are other classes."""
    labels = receipt.labels
    return f"{labels.classes} from {labels.first} ({', '.join(labels.names)})"


def _rescored(
    store: Store, folder: Path, reshape: Reshape, labels: Labels, table: Table, new: Answers, rows: NDArray[np.bool_]
) -> Opponent:
    """Have the champion answer every sample of a table."""
    from tasks.network import Answerer

    group, samples = reshape.images_per_sequence, table.table.rows
    if samples % group:
        raise Incomparable(f"the champion reads {group} images at a time, and there are {samples:,} test images")
    if len(new.labels) != samples:
        raise Incomparable(f"it answered {len(new.labels):,} test images, and the champion would answer {samples:,}")
    tally = Tally(labels.names, bins=BINS)
    answerer = Answerer(_loaded(folder / MODEL_FILE))
    true: list[NDArray[np.int32]] = []
    predicted: list[NDArray[np.int32]] = []
    start = 0
    for x, of_batch in sequences_of(store, table, reshape, answerer.batch):
        p = np.concatenate([part.reshape(-1, labels.classes) for part in answerer.answers(x)])
        if not np.isfinite(p).all():
            raise Incomparable("the champion answers some of the test images by no number")
        index = np.arange(start, start := start + len(p))
        wanted = rows[index]
        tally.add(index[wanted], (of_batch - labels.first)[wanted], p[wanted])
        true.append(of_batch)
        predicted.append((p.argmax(1) + labels.first).astype(np.int32))
    answers = Answers(np.concatenate(true), np.concatenate(predicted))
    new.require_same_samples(answers)
    return Opponent(answers, tally.metrics().calibration, rescored=True)


def _loaded(path: Path) -> keras.Model:
    """The champion's model; its bytes are those that were published, but libraries may be others by now."""
    from tasks.network import load

    try:
        return load(path)
    except Exception as error:  # Keras promises no kind
        raise Incomparable(f"the champion's model can no longer be loaded: {error}") from error
