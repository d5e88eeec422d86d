"""A disk that is full when a run comes to a stage: a clear error, nothing half-published, and right again with room."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from full_disk import MOMENTS, ROOM, on_a_full_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SAMPLE = "publish"  # in `make test`; the others in `make soak`
OTHERS = [pytest.param(stage, marks=pytest.mark.soak) for stage in ROOM if stage != SAMPLE]


@pytest.mark.parametrize("stage", [SAMPLE, *OTHERS])
def test_a_full_disk_is_told_and_room_is_all_that_is_needed(smoke_run: SmokeRun, tmp_path: Path, stage: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(smoke_run.home / ".prefect", home / ".prefect", symlinks=True)
    found = on_a_full_disk(stage, home, smoke_run.artifacts, tmp_path / "disk")
    full, again = found["full"], found["with room"]
    [told] = [line for line in full["said"].splitlines() if line.startswith("stepwise: ")]
    print(f"{stage}: {told}")  # noqa: T201
    assert full["code"] == 5, full["said"]
    assert "No space left on device" in told
    assert f"{tmp_path}/disk/" in told, "the folder is named"
    assert full["runs"] == full["staged"] == []
    assert again["code"] == 0, again["said"]
    assert again["staged"] == []
    assert len(again["runs"]) == 1
    assert again["weights"] == [json.loads((smoke_run.folder / "manifest.json").read_bytes())["weights"]]
    assert "running" not in again["outcomes"]


@pytest.mark.parametrize("moment", [pytest.param(moment, marks=pytest.mark.soak) for moment in MOMENTS])
def test_a_disk_that_fills_within_a_stage(smoke_run: SmokeRun, tmp_path: Path, moment: str) -> None:
    """Checkpoints stop, training goes on; an output that cannot be kept is told; the last checkpoint counts."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(smoke_run.home / ".prefect", home / ".prefect", symlinks=True)
    found = on_a_full_disk(moment, home, smoke_run.artifacts, tmp_path / "disk")
    full, again = found["full"], found["with room"]
    print(f"{moment}: {full['said']}\n{again['said']}")  # noqa: T201
    [told] = [line for line in full["said"].splitlines() if line.startswith("stepwise: ")]
    assert full["code"] == 5, full["said"]
    assert "No space left on device" in told
    assert f"{tmp_path}/disk/artifacts/store/staging/" in told, "the folder of the stage's output is named"
    assert full["runs"] == full["staged"] == []
    assert again["code"] == 0, again["said"]
    assert again["staged"] == []
    assert "running" not in again["outcomes"]
    manifest = json.loads((smoke_run.folder / "manifest.json").read_bytes())
    assert again["weights"] == found.get("undisturbed", {"weights": [manifest["weights"]]})["weights"]
    if moment == "first checkpoint":
        assert "no checkpoint of training could be kept, it goes on without" in full["said"]
        assert "training goes on from epoch " in again["said"]
