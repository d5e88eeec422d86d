"""Whether a published model is given what it learned to read: its own questions, read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from schemas.configuration import Reshape
from tasks.model_input import READS_OTHERWISE, objection_to_input

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = np.arange(3 * 4 * 6, dtype=">i2").reshape(3, 4, 6)
BY_COLUMNS = IMAGES.transpose(0, 2, 1)


def published(run: Path, images: np.ndarray, sequences: np.ndarray) -> Path:
    (run / "trial").mkdir()
    np.save(run / "trial" / "images.npy", images, allow_pickle=False)
    np.save(run / "trial" / "sequences.npy", sequences, allow_pickle=False)
    return run


@pytest.mark.parametrize(
    ("reshape", "images", "sequences"),
    [
        (Reshape(), IMAGES, IMAGES),
        (Reshape(scan="columns", timesteps=6), IMAGES, BY_COLUMNS),
        (Reshape(layout="frames", timesteps=3), IMAGES, IMAGES.reshape(1, 3, 24)),
    ],
)
def test_what_it_read_is_what_it_would_read(
    tmp_path: Path, reshape: Reshape, images: np.ndarray, sequences: np.ndarray
) -> None:
    assert objection_to_input(published(tmp_path, images, sequences), reshape) == ""


@pytest.mark.parametrize("item", [(4, 6), (1, 4, 6), (24,)])
def test_rows_where_columns_are_read_today_are_told(tmp_path: Path, item: tuple[int, ...]) -> None:
    """As earlier versions read images without rows, and those of (1, rows, columns)."""
    images = IMAGES.reshape(3, *item)
    run = published(tmp_path, images, images.reshape(3, 4, 6))
    assert objection_to_input(run, Reshape(scan="columns", timesteps=4)) == READS_OTHERWISE


def test_a_run_that_does_not_know_what_it_was_asked_is_taken_at_its_word(tmp_path: Path) -> None:
    assert objection_to_input(tmp_path, Reshape()) == ""
