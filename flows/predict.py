"""Prediction: a published model answers every image of an IDX file. Same checks on its input, same transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from flows.output_file import written_whole
from flows.runs import damaged_files, find_run, print_json
from schemas.errors import StorageError
from tasks.predict import write_answers
from tasks.published import manifest_digest
from tasks.wording import counted

if TYPE_CHECKING:
    from pathlib import Path


def predict_file(artifacts: Path, images: Path, output: Path, run: str, *, as_json: bool) -> None:
    """Write index, predicted and probabilities of every image; rows out equal images in, or nothing is written."""
    folder, manifest = find_run(artifacts, run)
    damaged = damaged_files(folder, manifest)
    if damaged:
        raise StorageError(
            f"the run's files are damaged: {', '.join(damaged)}", "files as published", "Use another run", str(folder)
        )
    with written_whole(output, images) as target:
        answered_by = {"run": folder.name, "dataset": manifest.dataset, "weights": manifest.weights}
        rows = write_answers(folder, images, target, answered_by | {"manifest": manifest_digest(folder)})
    if as_json:
        print_json({"run": folder.name, "rows": rows, "output": str(output)})
    else:
        Console().print(
            f"{counted(rows, 'image')} answered by {folder.name}: {output}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
