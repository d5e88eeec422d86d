"""A run that drift stops: before training, and with the comparison where people look."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from flow_support import run_command

from tasks.download.glyphs import images, labels
from tasks.idx import write_idx

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

pytestmark = pytest.mark.slow


def write_split(folder: Path, split: str, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> None:
    write_idx(folder / f"{split}-images-idx3-ubyte", x)
    write_idx(folder / f"{split}-labels-idx1-ubyte", y)


def artifacts_shown(home: Path) -> dict[str, str]:
    """The markdown that Prefect keeps, by key; the newest of each."""
    with contextlib.closing(sqlite3.connect(f"file:{home / '.prefect' / 'prefect.db'}?mode=ro", uri=True)) as database:
        kept = database.execute("select key, data from artifact where key is not null order by created")
        return {key: json.loads(data) for key, data in kept}


def test_drift_that_stops_a_run_is_shown_and_nothing_is_trained(tmp_path: Path) -> None:
    data, artifacts = tmp_path / "digits", tmp_path / "artifacts"
    data.mkdir()
    x, y = images("train")[:3000], labels("train")[:3000].astype("u1")
    write_split(data, "train", x, y)
    write_split(data, "t10k", images("test")[:500], labels("test")[:500].astype("u1"))
    options = ("--preset", "smoke", "--data", data, "--artifacts", artifacts, "--set", "drift.stop=0.25", "--json")
    first = run_command(tmp_path, "run", *options)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Nothing to compare" in artifacts_shown(tmp_path)["drift"]

    write_split(data, "train", x // 2, y)
    stopped = run_command(tmp_path, "run", *options)
    error = json.loads(stopped.stdout)["error"]
    assert (stopped.returncode, error["stage"]) == (3, "drift")
    assert error["found"].startswith("the training data have drifted from the champion's (")
    shown = artifacts_shown(tmp_path)
    assert shown["drift"].startswith("# Drifted: pixels")
    assert "| stop |" in shown["drift"]
    assert "the training data have drifted" in shown["dossier"]
    assert len(list((artifacts / "runs").iterdir())) == 1
