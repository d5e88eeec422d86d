"""Prediction: a published model answers every image of an IDX file. Same checks on its input, same transform."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from flows.runs import damaged_files, find_run, print_json
from schemas.configuration import RunConfiguration
from schemas.errors import DataError, StorageError
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, RECEIPT_FILE
from schemas.receipt import Receipt
from tasks.idx import open_idx
from tasks.published import manifest_digest
from tasks.store import writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from tasks.idx import IdxReader


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


def write_answers(folder: Path, images: Path, target: Path, answered_by: Mapping[str, str] | None = None) -> int:
    """Answer all images of an IDX file with a run's model, which the file then names; returns the rows written.

    Raises:
        DataError: the images have another shape or type than the model was trained on, or their number is no multiple
            of T under layout frames.
    """
    from tasks.evaluate import PredictionWriter, rows_written
    from tasks.network import Answerer, load

    configuration = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
    receipt.verify_signature()
    with open_idx(images, expect="images") as reader:
        require_same_form(reader, receipt, configuration)
        answerer = Answerer(load(folder / MODEL_FILE))
        writer = PredictionWriter(target, receipt.labels, answered_by)
        with writer:
            for x in sequences_of(reader, configuration, receipt):
                for probabilities in answerer.answers(x):
                    writer.write(None, probabilities.reshape(-1, receipt.labels.classes))
        items = reader.header.items
    if rows_written(target) != items:
        raise DataError(
            f"{rows_written(target):,} answers for {items:,} images", "one each", "Report this", str(images)
        )
    return items


def require_same_form(reader: IdxReader, receipt: Receipt, configuration: RunConfiguration) -> None:
    """Raise DataError unless the images are of the form that the model was trained on."""
    header = reader.header
    if (header.item_shape, header.dtype.str) != (receipt.image_shape, receipt.image_dtype):
        raise DataError(
            f"images of shape {header.item_shape} and type {header.dtype.str}",
            f"shape {receipt.image_shape} and type {receipt.image_dtype}, as the model was trained on",
            "Give images of that form, or choose another run with --run",
            reader.name,
        )
    reshape = configuration.reshape
    if reshape.layout == "frames" and header.items % reshape.timesteps:
        raise DataError(
            f"{header.items:,} images, which is no multiple of T = {reshape.timesteps}",
            "a multiple of T, since this model reads T images as one sequence",
            "Add or remove images",
            reader.name,
        )


def sequences_of(reader: IdxReader, configuration: RunConfiguration, receipt: Receipt) -> Iterator[NDArray[Any]]:
    """The images in batches of sequences (n, T, F)."""
    from tasks.network import ANSWER_BATCH
    from tasks.scan import scan_order

    order = scan_order(configuration.reshape, receipt.image_shape)
    steps = configuration.reshape.timesteps
    features = configuration.reshape.features(order.size)
    for batch in reader.batches(ANSWER_BATCH * (steps if configuration.reshape.layout == "frames" else 1)):
        yield np.ascontiguousarray(batch.reshape(len(batch), -1)[:, order]).reshape(-1, steps, features)
