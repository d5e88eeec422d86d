"""Predicting: images that no answer is worth anything for are refused, with their place, before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from samples import both, receipt_of

from schemas.configuration import Network, Reshape, RunConfiguration, Training
from schemas.errors import DataError
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, RECEIPT_FILE
from tasks.idx import write_idx
from tasks.network import Moments, build
from tasks.predict import write_answers
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Network.model_validate({"layers": [{"units": 3}]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What predicting reads of a published run whose images are of float32."""
    folder = tmp_path_factory.mktemp("run")
    store, reshape = Store(folder / "store"), Reshape(timesteps=4)
    (folder / RECEIPT_FILE).write_text(receipt_of(store, both(store, dtype="f4")).model_dump_json())
    (folder / CONFIGURATION_FILE).write_text(RunConfiguration(reshape=reshape, network=SMALL).model_dump_json())
    build(SMALL, reshape, Training(), (4, 6), 10, Moments(10.0, 0.0)).save(folder / MODEL_FILE)
    return folder


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "image 5 has nan at pixel 9"),
        (-np.inf, "image 5 has -inf at pixel 9"),
        (np.finfo(np.float32).max, "image 5 is answered by no number: its pixels are too large for the model"),
    ],
)
def test_an_image_that_has_no_answer_is_refused_and_named(value: float, said: str, run: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(11, 4, 6)).astype(np.float32)
    write_idx(tmp_path / "images", images)
    assert write_answers(run, tmp_path / "images", tmp_path / "answers.parquet") == 11
    images[5, 1, 3:] = value
    write_idx(tmp_path / "images", images)
    with pytest.raises(
        DataError, match=f"images: {said}\\. Expected: .* Mend the image or leave it out; nothing was written"
    ):
        write_answers(run, tmp_path / "images", tmp_path / "answers.parquet")
