"""Where a training stands: what it goes on from after an interruption, and when it has to stop.

Here: what a checkpoint means. Not here: its bytes (checkpoint), the variables themselves (learner).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from schemas.errors import BudgetSpentError, StorageError
from schemas.handles import Frozen
from schemas.history import Epoch
from tasks.stage import log
from tasks.train.checkpoint import Pace, State

if TYPE_CHECKING:
    from schemas.configuration import Training
    from tasks.train.checkpoint import Checkpoints
    from tasks.train.learner import Learner


class Standing(Frozen):
    """Between two steps: with the arrays of the learner, all that decides how a training goes on.

    The order of the samples, dropout and the schedule follow from the seed, the epoch and the step.
    """

    epoch: int = Field(default=1, ge=1, description="The epoch that is being learned.")
    step: int = Field(default=0, ge=0, description="Steps of it that are done.")
    sums: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="Its loss, hits and labels so far.")
    seconds: float = Field(default=0.0, description="What it took so far.")
    epochs: tuple[Epoch, ...] = Field(default=(), description="The finished ones.")
    resumed: tuple[str, ...] = Field(default=(), description="Where it was taken up after interruptions.")

    @property
    def best_epoch(self) -> int:
        """The first epoch of the least loss held out."""
        return 1 + int(np.argmin(self._losses()))

    @property
    def improved(self) -> bool:
        """Whether the epoch that was finished last is the best so far."""
        losses = self._losses()
        return losses[-1] < min(losses[:-1], default=math.inf)

    def ended(self, training: Training, epochs: int) -> bool:
        """Whether there is nothing more to learn: all epochs are done, or the loss held out no longer improves."""
        if self.epoch > epochs:
            return True
        if training.early_stopping is None or not self.epochs or self.epochs[-1].validation_loss is None:
            return False
        return len(self.epochs) - self.best_epoch >= training.early_stopping.patience

    def place(self, epochs: int, steps: int) -> str:
        """Where it stands, for people."""
        return f"epoch {self.epoch} of {epochs}, step {self.step} of {steps}" if self.epoch <= epochs else "the end"

    def _losses(self) -> list[float]:
        """The losses held out; what is none or no number is infinite."""
        losses = (epoch.validation_loss for epoch in self.epochs)
        return [math.inf if loss is None or math.isnan(loss) else loss for loss in losses]


@dataclass(frozen=True)
class Continuity:
    """What a training is kept by while it runs.

    Attributes:
        checkpoints: Where its state is kept; None: nowhere.
        deadline: time.monotonic() after which it stops and says so; None: never.
    """

    checkpoints: Checkpoints | None = None
    deadline: float | None = None


class Keeper:
    """Keeps a learner's state as it goes, gives it back after an interruption, and stops it when its time is up."""

    def __init__(self, learner: Learner, training: Training, continuity: Continuity) -> None:
        self._learner, self._training = learner, training
        self._checkpoints, self._deadline = continuity.checkpoints, continuity.deadline
        self._pace = Pace(time.monotonic())
        self._failed = False

    def resumed(self) -> Standing:
        """Where the newest good checkpoint stood, with the learner brought there; else the beginning."""
        state = self._checkpoints.newest(self._objection) if self._checkpoints else None
        if state is None:
            return Standing()
        self._learner.restore(state.arrays)
        standing = Standing.model_validate(state.facts)
        place = self._place(standing)
        log.info("training goes on from %s", place)
        return standing.model_copy(update={"resumed": (*standing.resumed, place)})

    def visit(self, standing: Standing) -> None:
        """Between two segments: keep the state if that is due, and stop if the time is up.

        Raises:
            BudgetSpentError: the deadline has passed, more is to be learned, and the state is kept.
        """
        ended = standing.ended(self._training, self._learner.epochs)
        if self._deadline is not None and time.monotonic() > self._deadline and not ended:
            self._save(standing)
            raise self._spent(standing)
        if self._pace.due(time.monotonic()):
            try:
                self._save(standing)
            except (OSError, StorageError) as error:
                if not self._failed:
                    log.warning("no checkpoint of training could be kept, it goes on without: %s", error)
                self._failed = True

    def told(self) -> str:
        """What keeping cost, in one line."""
        return f"{self._pace.count} checkpoints in {self._pace.spent:.3f} s"

    def _save(self, standing: Standing) -> None:
        if self._checkpoints is None:
            return
        began = time.monotonic()
        try:
            self._checkpoints.save(State(self._learner.arrays(), standing.model_dump()))
        finally:
            self._pace.paid(began, time.monotonic())

    def _objection(self, state: State) -> str:
        try:
            Standing.model_validate(state.facts)
        except ValidationError:
            return "it does not say where training stood"
        return self._learner.objection(state.arrays)

    def _place(self, standing: Standing) -> str:
        return standing.place(self._learner.epochs, self._learner.steps)

    def _spent(self, standing: Standing) -> BudgetSpentError:
        kept = self._checkpoints is not None
        return BudgetSpentError(
            f"training stopped by its budget of wall time after {self._place(standing)}",
            f"the end of epoch {self._learner.epochs} within the budget",
            "Rerun: it goes on from there" if kept else "Rerun with more time: nothing was kept",
        )
