"""A folder of somebody's own images, few and of another size than MNIST's: the default as it is learns them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from flow_support import run_command

from schemas.files import HISTORY_FILE, METRICS_FILE
from schemas.history import History
from schemas.metrics import Metrics
from tasks.download.glyphs import images, labels
from tasks.idx import write_idx

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

TRAINING, TEST = 1500, 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_default_learns_few_small_images(tmp_path: Path) -> None:
    """A row a step, (N, 12, 14), 128,000 images seen, and better than what knows nothing of sequences."""
    data = tmp_path / "digits"
    data.mkdir()
    for name, split, n in (("train", "train", TRAINING), ("t10k", "test", TEST)):
        write_idx(data / f"{name}-images-idx3-ubyte", halved(images(split)[:n])[:, 1:13])
        write_idx(data / f"{name}-labels-idx1-ubyte", labels(split)[:n])

    ended = run_command(tmp_path, "run", "--data", data, "--artifacts", tmp_path / "artifacts", "--json")

    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "artifacts" / "runs").iterdir()
    answer = json.loads(ended.stdout)
    assert answer["folder"] == str(folder)
    receipt = json.loads((folder / "receipt.json").read_bytes())
    assert [seal["shape"] for seal in receipt["seals"]] == [[TRAINING, 12, 14], [TEST, 12, 14]]
    history = History.model_validate_json((folder / HISTORY_FILE).read_bytes())
    assert len(history.epochs) == 90, "of 1,425 images each"
    metrics = Metrics.model_validate_json((folder / METRICS_FILE).read_bytes())
    assert metrics.correct > max(floor.correct for floor in metrics.floors)


def halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images of 28 × 28 as 14 × 14: the mean of each four pixels."""
    return images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).astype("u1")
