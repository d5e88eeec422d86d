"""The training engine: epochs, their records, early stopping. Not here: splits, files, receipts.

How a step is learned fast is the learner's; how training survives interruptions, that of standing and checkpoint.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.history import Epoch, History
from tasks.network import ANSWER_BATCH, Answerer
from tasks.stage import log
from tasks.train.learner import Examples, Learner, loss_of
from tasks.train.standing import Continuity, Keeper, Standing

if TYPE_CHECKING:
    import keras

    from schemas.configuration import Training
    from tasks.stage import Progress

__all__ = ["Continuity", "Examples", "fit"]

MOST_LINES: Final = 50  # of a log that people read; the history has every epoch


def fit(
    model: keras.Model,
    examples: Examples,
    training: Training,
    replicas: int,
    began: float,
    progress: Progress,
    continuity: Continuity = Continuity(),  # noqa: B008 - frozen
) -> History:
    """Train the model in place, from the beginning or from where an interrupted training was kept.

    Args:
        model: As tasks.network builds it.
        examples: The data, in its own type.
        training: The recipe.
        replicas: Parts that a batch is cut into, one a core.
        began: time.monotonic() when the stage began, for the time to the first step.
        progress: Told after every segment.
        continuity: Where the state is kept, and when to stop.

    Returns:
        One record an epoch. With early stopping the weights are the best epoch's.

    Raises:
        BudgetSpentError: the deadline has passed; the state is kept.
    """
    learner = Learner(model, examples, training, replicas)
    keeper = Keeper(learner, training, continuity)
    answerer = Answerer(model, min(ANSWER_BATCH, 2 * math.ceil(len(examples.validation) / 2)))
    standing = keeper.resumed()
    first_step = 0.0
    while not standing.ended(training, learner.epochs):
        epoch_began = time.monotonic() - standing.seconds
        for done, sums in learner.epoch(standing.epoch, standing.step, standing.sums):
            now = time.monotonic()
            first_step = first_step or now - began
            standing = standing.model_copy(update={"step": done, "sums": sums, "seconds": now - epoch_began})
            if done < learner.steps:
                keeper.visit(standing)
            progress((standing.epoch - 1) * learner.steps + done, learner.epochs * learner.steps, _note(standing))
        standing = _closed(standing, learner, _validate(answerer, examples, training), epoch_began)
        number = len(standing.epochs)
        told_of = number in {1, learner.epochs} or number % math.ceil(learner.epochs / MOST_LINES) == 0
        log.log(logging.INFO if told_of else logging.DEBUG, told(standing.epochs[-1], learner.epochs))
        if training.early_stopping and standing.improved:
            learner.keep_weights()
        keeper.visit(standing)
    log.debug("training kept %s", keeper.told())
    if standing.resumed:
        log.info("training was interrupted and went on from: %s", "; ".join(standing.resumed))
    returned = learner.return_to_kept()
    return History(
        epochs=standing.epochs,
        kept=standing.best_epoch if returned else len(standing.epochs),
        parameters=model.count_params(),
        seconds_to_first_step=first_step,
        engine=learner.told(),
        resumed=standing.resumed,
    )


def _closed(
    standing: Standing, learner: Learner, held_out: tuple[float | None, float | None], epoch_began: float
) -> Standing:
    """At the beginning of the next epoch, with the record of the one that ended."""
    loss, hits, labels = standing.sums
    record = Epoch(
        epoch=standing.epoch,
        loss=loss / labels,
        accuracy=hits / labels,
        validation_loss=held_out[0],
        validation_accuracy=held_out[1],
        learning_rate=learner.rate(standing.epoch * learner.steps - 1),
        seen=round(labels) // learner.labels_each,
        seconds=time.monotonic() - epoch_began,
    )
    epochs = (*standing.epochs, record)
    return Standing(epoch=standing.epoch + 1, epochs=epochs, resumed=standing.resumed)


def _validate(answerer: Answerer, examples: Examples, training: Training) -> tuple[float | None, float | None]:
    """Loss (without smoothing) and accuracy on the rows held out; None where there are none."""
    if not len(examples.validation):
        return None, None
    import tensorflow as tf

    plain = training.model_copy(update={"label_smoothing": 0.0})
    true = examples.y[examples.validation]
    batches = np.split(examples.validation, range(answerer.batch, len(examples.validation), answerer.batch))
    probabilities = np.concatenate([answer for rows in batches for answer in answerer.answers(examples.x[rows])])
    logits = np.log(np.maximum(probabilities, 1e-12))
    loss = loss_of(plain, tf.constant(logits), tf.constant(true), examples.classes).numpy()
    return float(loss.mean()), float((probabilities.argmax(-1) == true).mean())


def told(epoch: Epoch, of: int) -> str:
    """An epoch in one line."""
    held_out = "" if epoch.validation_accuracy is None else f", held out {epoch.validation_accuracy:.2%}"
    return (
        f"epoch {epoch.epoch} of {of}: loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.2%}{held_out}, "
        f"{epoch.seconds:.1f} s"
    )


def _note(standing: Standing) -> str:
    loss, hits, labels = standing.sums
    return f"epoch {standing.epoch}: loss {loss / labels:.4f}, accuracy {hits / labels:.4f}"
