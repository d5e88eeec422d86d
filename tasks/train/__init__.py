"""Train: sealed sequences to a Keras model and its history. Not here: how learning is made fast (engine)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from prefect import task

from schemas.errors import ConfigurationError, DataError
from schemas.files import HISTORY_FILE, MODEL_FILE
from schemas.handles import Handle, Sequences, TrainedModel
from schemas.history import History
from tasks.arrays import open_arrays
from tasks.documents import keep_document, open_document
from tasks.mirror import Mirror
from tasks.receipts import demand_seal
from tasks.stage import Key, Progress, log, once, progress_of
from tasks.store import INITIAL_WEIGHTS, Store
from tasks.train.augmentation import Augmenter
from tasks.train.checkpoint import Checkpoints
from tasks.train.machine import replicas_on, traits
from tasks.train.standing import Continuity

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from schemas.configuration import Network, Reshape, Training
    from schemas.handles import Station

_SCAN: Final = ("scan", "scan_seed")


@dataclass(frozen=True)
class Recipe:
    """The parts of the configuration that training reads; of `reshape` the layout, and where images move the scan."""

    reshape: Reshape
    network: Network
    training: Training


@dataclass(frozen=True)
class Terms:
    """What training begins with and when it has to stop.

    Attributes:
        start: The model whose weights it begins with; None: weights drawn by the seed.
        budget_minutes: Wall time after which it stops at a checkpoint and says so; None: never.
        only_for: T, F and classes of the data that `start` learned, where nobody asked for that very model: training on
            others begins cold. None: weights that do not fit are an error.
    """

    start: Handle | None = None
    budget_minutes: float | None = None
    only_for: tuple[int, int, int] | None = None

    def start_for(self, sequences: Sequences) -> Handle | None:
        """The model whose weights a training on these sequences begins with; None: weights drawn by the seed."""
        return self.start if self.only_for in {None, _dimensions(sequences)} else None


def _dimensions(sequences: Sequences) -> tuple[int, int, int]:
    """T, F and classes: with the settings they decide the shapes of the weights."""
    _, steps, features = sequences.x.shape
    return steps, features, sequences.labels.classes


def key_of(
    sequences: Sequences,
    recipe: Recipe,
    processors: int,
    terms: Terms = Terms(),
) -> Key[TrainedModel]:
    """What the weights depend on: the sequences, the recipe, what they begin with, and the machine, to the byte."""
    moved, start = recipe.training.augmentation, terms.start_for(sequences)
    return Key(
        step="train",
        stage="train",
        form=TrainedModel,
        module=__name__,
        inputs={
            "sequences": sequences.x.digest,
            "their shape": " × ".join(map(str, sequences.x.shape)),
            "classes": str(sequences.labels.classes),
            **({"image": " × ".join(map(str, sequences.image_shape))} if moved else {}),
            "targets": sequences.targets.digest,
            **({INITIAL_WEIGHTS: start.digest} if start else {}),
        },
        settings={
            "reshape": recipe.reshape.model_dump(mode="json", include={"layout", *(_SCAN if moved else ())}),
            "network": recipe.network.model_dump(mode="json"),
            "training": recipe.training.model_dump(mode="json"),
        },
        libraries=("tensorflow", "keras", "numpy"),
        machine=traits(processors),
    )


@task(
    name="train",
    description="Trains the LSTM on the sealed training sequences, a validation split held out, and shows loss and "
    "accuracy as they move. Never sees the test set.",
    task_run_name="train",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def train(
    artifacts: Path,
    sequences: Sequences,
    recipe: Recipe,
    processors: int,
    terms: Terms = Terms(),
    anew: str | None = None,
) -> TrainedModel:
    """Train on one split's sequences, or reuse the model of the same sequences, recipe and machine.

    An interrupted training goes on from its last checkpoint. Its checkpoints go when its model is kept and remembered.

    Args:
        artifacts: Where outputs are kept.
        sequences: The training split's.
        recipe: How they were shaped, what is trained, and how.
        processors: How many may be used.
        terms: What training begins with and when it has to stop.
        anew: A demand to train again even though the model is there.
    """
    store = Store(artifacts)
    key = key_of(sequences, recipe, processors, terms)
    progress = progress_of(key.step)
    checkpoints = Checkpoints(store.partial(f"train-{key.digest}"), key.digest)

    def make() -> TrainedModel:
        deadline = None if terms.budget_minutes is None else time.monotonic() + 60 * terms.budget_minutes
        start = _start_told(terms, sequences)
        return trained(store, sequences, recipe, processors, progress, Continuity(checkpoints, deadline), start)

    return once(store, key, make, anew, then=checkpoints.remove)


def _start_told(terms: Terms, sequences: Sequences) -> Handle | None:
    """What training begins with; where the weights that were chosen do not fit, that is said."""
    start = terms.start_for(sequences)
    if terms.start and not start:
        log.warning(
            "warm start: %s learned sequences of T, F = %d, %d in %d classes, and these are of %d, %d in %d; training "
            "starts cold",
            terms.start.place,
            *terms.only_for or (),
            *_dimensions(sequences),
        )
    return start


def trained(
    store: Store,
    sequences: Sequences,
    recipe: Recipe,
    processors: int,
    progress: Progress,
    continuity: Continuity,
    start: Handle | None = None,
) -> TrainedModel:
    """Train, check that the optimiser saw every sequence in every epoch, and keep the model.

    Raises:
        ConfigurationError: the weights to begin with are of another network.
        BudgetSpentError: the deadline has passed; training can go on from its last checkpoint.
        DataError: the sequences are not the ones that reshape sealed.
        CountsBrokenError: an epoch's count is not that of the fitted sequences.
    """
    began = time.monotonic()
    reshape, network, training = recipe.reshape, recipe.network, recipe.training
    receipt = demand_seal(store, sequences)
    x, y = open_arrays(store, sequences)
    require_fit(x, y, reshape)
    from tasks.network import Moments, build
    from tasks.train.engine import Examples, fit

    fitted, validation = held_out(len(x), training)
    moments = Moments.of(x, training.scaling)
    model = build(network, reshape, training, (x.shape[1], x.shape[2]), receipt.labels.classes, moments)
    if start:
        begin_with(model, store, start)
    augmenter = Augmenter(training.augmentation, reshape, receipt.image_shape) if training.augmentation else None
    examples = Examples(x, y, fitted, validation, receipt.labels.classes, augmenter)
    history = fit(model, examples, training, replicas_on(processors), began, progress, continuity)
    counts: dict[Station, int] = {
        "fitted": len(fitted),
        "validation": len(validation),
        "seen in an epoch": seen_in_every_epoch(history, len(fitted)),
    }
    receipt.ledger.entered("train", "train", counts).verify()
    return _kept(store, model, history.model_copy(update={"started_from": start and start.digest}), counts)


def begin_with(model: keras.Model, store: Store, start: Handle) -> None:
    """Give a model the trainable weights of a published one; its scaling stays that of the data at hand.

    Raises:
        ConfigurationError: the shapes differ: the data have other classes or images of another size.
        StorageError: the published model is missing or damaged.
    """
    from tasks.network import load

    given = load(store.open(start, MODEL_FILE)).trainable_variables
    wanted = model.trainable_variables
    shapes, own = ([tuple(weight.shape) for weight in weights] for weights in (given, wanted))
    if shapes != own:
        raise ConfigurationError(
            f"weights of shapes {shapes} to begin with", f"those of this network: {own}", "Start cold", start.place
        )
    for weight, value in zip(wanted, given, strict=True):
        weight.assign(value)


def require_fit(x: NDArray[np.generic], y: NDArray[np.int32], reshape: Reshape) -> None:
    """Raise DataError unless every sequence has its target; the last look before the optimiser."""
    wanted = (len(x), x.shape[1]) if reshape.layout == "frames" else (len(x),)
    if y.shape != wanted:
        raise DataError(
            f"targets of shape {y.shape} for sequences of shape {x.shape}",
            f"targets of shape {wanted} under layout {reshape.layout}",
            "Rerun reshape",
        )


def held_out(n: int, training: Training) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers (int64) to fit and row numbers held out, both ascending, drawn by the seed.

    Raises:
        ConfigurationError: nothing would be left to fit, or nothing held out that early stopping could watch.
    """
    size = round(n * training.validation_share)
    if training.early_stopping and not size:
        raise ConfigurationError(
            f"training.validation_share = {training.validation_share:g} holds out none of {n} sequences",
            "some, for early_stopping watches them",
            "Raise it, or train without early stopping (--set training.early_stopping=)",
        )
    if size >= n:
        raise ConfigurationError(
            f"training.validation_share = {training.validation_share:g} holds out all of {n} sequences",
            "a share that leaves some to learn from",
            "Lower it, or train on more images",
        )
    order = np.random.Generator(np.random.PCG64([training.seed, 0])).permutation(n)
    return np.sort(order[size:]), np.sort(order[:size])


def seen_in_every_epoch(history: History, fitted: int) -> int:
    """The sequences that the optimiser counted in each epoch; the first count that is not that of those fitted."""
    return next((epoch.seen for epoch in history.epochs if epoch.seen != fitted), fitted)


def _kept(store: Store, model: keras.Model, history: History, counts: dict[Station, int]) -> TrainedModel:
    from tasks.network import weights_digest

    with store.staging() as folder:
        model.save(folder / MODEL_FILE)
        handle = store.commit(
            folder,
            kind="model",
            digest=weights_digest(model),
            rows=history.parameters,
            shape=(history.parameters,),
            dtype="<f4",
        )
    kept = keep_document(store, "history", HISTORY_FILE, history, len(history.epochs))
    return TrainedModel(model=handle, history=kept, counts=counts)


def history_of(store: Store, trained: TrainedModel) -> History:
    """How a model came to be, epoch by epoch."""
    return open_document(store, trained.history, HISTORY_FILE, History)
