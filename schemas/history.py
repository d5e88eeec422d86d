"""The history of a training: one record an epoch. Here: its form; not here: how it is shown."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from schemas.handles import Frozen


class Epoch(Frozen):
    """One epoch as the optimiser and, where there is one, the validation split saw it.

    A loss that diverged is no number; JSON has no word for it, so it is written as text.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    epoch: int = Field(ge=1)
    loss: float
    accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float = Field(description="At the epoch's last step.")
    seen: int = Field(description="Sequences that the optimiser counted in this epoch.")
    seconds: float


class History(Frozen):
    """All epochs, which one's weights were kept, what trained, and how it began."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    epochs: tuple[Epoch, ...]
    kept: int = Field(description="The epoch whose weights the model has.")
    parameters: int
    seconds_to_first_step: float = Field(description="Imports, tracing and compiling, before the first step ended.")
    engine: str = Field(description="The path that trained: devices, compiled or not.")
    started_from: str | None = Field(
        default=None, description="Digest of the weights that a warm start began with; None: weights drawn by the seed."
    )
    resumed: tuple[str, ...] = Field(
        default=(), description="Where training was taken up from a checkpoint after interruptions, in order."
    )
