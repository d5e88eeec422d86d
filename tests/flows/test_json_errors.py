"""A failure as a program reads it: with `--json`, one JSON value on standard output beside the paragraph for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from flow_support import run_command

from flows.command import stage_of
from schemas.errors import ConfigurationError, DataError
from schemas.ledger import CountsBrokenError
from tasks.idx import write_idx
from tasks.parse import write_table

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = ["found", "expected", "remedy", "file", "stage", "exit_code"]


def write_digits(folder: Path, train_labels: list[int]) -> None:
    """A folder of IDX files, 4×4 pixels, with ten test samples."""
    folder.mkdir()
    for split, labels in (("train", train_labels), ("t10k", list(range(10)))):
        write_idx(folder / f"{split}-images-idx3-ubyte", np.zeros((len(labels), 4, 4), np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte", np.array(labels, np.uint8))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "found", "remedy"),
    [
        (["run", "--preset", "rowz"], 2, "there is no preset 'rowz'", "Did you mean 'rows'?"),
        (["runs", "--jsn"], 2, "No such option: --jsn", "See `stepwise --help`"),
        (["inspect", "nowhere"], 3, "there is no such file", "Check the name, or download the file"),
    ],
)
def test_a_program_reads_what_a_person_reads(
    arguments: list[str], exit_code: int, found: str, remedy: str, tmp_path: Path
) -> None:
    answer = run_command(tmp_path, *arguments, "--json")
    assert answer.returncode == exit_code
    error = json.loads(answer.stdout)["error"]
    assert list(error) == FIELDS
    assert error["found"].startswith(found)
    assert (error["remedy"], error["exit_code"], error["stage"]) == (remedy, exit_code, None)
    assert error["file"] == ("nowhere" if "nowhere" in arguments else None)
    assert found in answer.stderr


def test_what_nobody_foresaw_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import flows.runs\nflows.runs.manifests = lambda _: 1 / 0\n")
    answer = run_command(tmp_path, "runs", "--artifacts", tmp_path, "--json", PYTHONPATH=str(tmp_path))
    error = json.loads(answer.stdout)["error"]
    assert error["found"] == "ZeroDivisionError: division by zero"
    assert error["remedy"] == "Run `stepwise --debug …` for a traceback"
    assert answer.returncode == error["exit_code"] == 1
    assert run_command(tmp_path, "runs", "--artifacts", tmp_path, PYTHONPATH=str(tmp_path)).stdout == ""
    debugged = run_command(tmp_path, "--debug", "runs", "--artifacts", tmp_path, "--json", PYTHONPATH=str(tmp_path))
    assert json.loads(debugged.stdout) == {"error": error}
    assert "Traceback" in debugged.stderr


def test_a_path_that_the_system_refuses_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 300)
    answer = run_command(tmp_path, "run", "--data", path, "--json")
    error = json.loads(answer.stdout)["error"]
    assert (error["found"], error["file"], error["exit_code"]) == ("file name too long", str(path), 1)
    assert error["remedy"].startswith("Check the path and who may use it; ")


def test_a_folder_and_a_dataset_are_not_both_used(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", list(range(10)))
    answer = run_command(tmp_path, "run", "--data", tmp_path / "digits", "--dataset", "mnist", "--json")
    assert json.loads(answer.stdout)["error"]["found"] == (
        f"--dataset mnist and --data {tmp_path / 'digits'} were both given"
    )


def test_records_that_cannot_be_kept_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / ".prefect").write_text("no folder")
    answer = run_command(tmp_path, "run", "--preset", "smoke", "--artifacts", tmp_path / "artifacts", "--json")
    error = json.loads(answer.stdout)["error"]
    assert error["found"] == "Prefect's records cannot be kept here: File exists"
    assert (error["file"], error["exit_code"]) == (str(tmp_path / ".prefect"), 5)
    assert "PREFECT_HOME" in error["remedy"]


def test_the_stage_is_that_whose_code_failed(tmp_path: Path) -> None:
    write_idx(tmp_path / "images", np.zeros((5, 4, 4), np.uint8))
    write_idx(tmp_path / "labels", np.zeros(4, np.uint8))
    with pytest.raises(CountsBrokenError) as caught:
        write_table(tmp_path / "images", tmp_path / "labels", tmp_path / "out.parquet")
    assert stage_of(caught.value) == "parse"
    assert stage_of(ConfigurationError("a", "b", "c")) is None


@pytest.mark.slow
def test_a_run_that_fails_names_stage_file_and_first_rows(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", [0, 1, 77, 2, 3])
    place = ("--preset", "smoke", "--artifacts", tmp_path / "artifacts", "--json")
    bad = run_command(tmp_path, "run", "--data", tmp_path / "digits", "--set", "reshape.timesteps=4", *place)
    error = json.loads(bad.stdout)["error"]
    assert (bad.returncode, error["exit_code"], error["stage"]) == (DataError.exit_code, 3, "validate")
    assert "across this gap: 1 row, the first: row 2 has label 77" in error["found"]
    assert error["file"] == "train-labels-idx1-ubyte"
