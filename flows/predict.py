"""Prediction: a published model answers every image of an IDX file. Same checks on its input, same transform."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.console import Console

from flows.runs import damaged_files, find_run, print_json
from schemas.errors import StorageError
from tasks.predict import write_answers
from tasks.published import manifest_digest
from tasks.store import writing


def predict_file(artifacts: Path, images: Path, output: Path, run: str, *, as_json: bool) -> None:
    """Write index, predicted and probabilities of every image; rows out equal images in, or nothing is written."""
    folder, manifest = find_run(artifacts, run)
    damaged = damaged_files(folder, manifest)
    if damaged:
        raise StorageError(
            f"the run's files are damaged: {', '.join(damaged)}", "files as published", "Use another run", str(folder)
        )
    with writing(output), tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".predict-") as staging:
        target = Path(staging) / output.name
        answered_by = {"run": folder.name, "dataset": manifest.dataset, "weights": manifest.weights}
        rows = write_answers(folder, images, target, answered_by | {"manifest": manifest_digest(folder)})
        os.replace(target, output)  # noqa: PTH105 - the same call, named for what it does
    if as_json:
        print_json({"run": folder.name, "rows": rows, "output": str(output)})
    else:
        Console().print(f"{rows:,} images answered by {folder.name}: {output}", highlight=False, soft_wrap=True)
