"""The history of a training: what diverged is written, and read as it was."""

from __future__ import annotations

import math

from schemas.history import Epoch, History


def test_a_loss_that_is_no_number_is_read_as_it_was_written() -> None:
    """Early stopping may go back to an epoch before: the run is worth publishing."""
    values = {"learning_rate": 0.1, "seen": 9, "seconds": 1.0, "accuracy": 0.1}
    losses = ((0.5, 0.6), (math.inf, math.nan))
    epochs = tuple(
        Epoch(epoch=n, loss=loss, validation_loss=held_out, **values) for n, (loss, held_out) in enumerate(losses, 1)
    )
    history = History(epochs=epochs, kept=1, parameters=3, seconds_to_first_step=1.0, engine="none")
    read = History.model_validate_json(history.model_dump_json()).epochs
    assert (read[0].loss, read[0].validation_loss, read[1].loss) == (0.5, 0.6, math.inf)
    assert read[1].validation_loss is not None
    assert math.isnan(read[1].validation_loss)
