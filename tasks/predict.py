"""Predict: a published model answers every image of an IDX file. Not here: which model (flows/champion)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.configuration import RunConfiguration
from schemas.errors import DataError, StorageError
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, RECEIPT_FILE
from schemas.receipt import Receipt
from tasks.arrays import unfinite_rows, unfinite_value
from tasks.idx import form_of, open_idx
from tasks.model_input import objection_to_input
from tasks.predictions import PredictionWriter, rows_written
from tasks.scan import as_sequences, scan_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from tasks.idx import IdxReader


def write_answers(folder: Path, images: Path, target: Path, answered_by: Mapping[str, str] | None = None) -> int:
    """Answer all images of an IDX file with a run's model, which the file then names; returns the rows written.

    Raises:
        DataError: the images have another shape or type than the model was trained on, or their number is no multiple
            of T under layout frames; or one of them has a pixel that is infinite or no number, or has no answer.
        StorageError: the model learned to read images in another order than this version gives them.
    """
    from tasks.network import Answerer, load

    configuration = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
    receipt.verify_signature()
    reshape = configuration.reshape
    require_same_input(folder, reshape)
    order, shape = scan_order(reshape, receipt.image_shape), reshape.sequence_shape(receipt.image_shape)
    with open_idx(images, expect="images") as reader:
        require_same_form(reader, receipt, reshape)
        answerer = Answerer(load(folder / MODEL_FILE))
        with PredictionWriter(target, receipt.labels, answered_by) as writer:
            for batch in reader.batches(answerer.batch * reshape.images_per_sequence):
                _require_finite(batch, writer.rows, reader.name)
                for probabilities in answerer.answers(as_sequences(batch, order, shape)):
                    answers = probabilities.reshape(-1, receipt.labels.classes)
                    _require_answers(answers, writer.rows, reader.name)
                    writer.write(None, answers)
        items = reader.header.items
    if rows_written(target) != items:
        raise DataError(
            f"{rows_written(target):,} answers for {items:,} images", "one each", "Report this", str(images)
        )
    return items


def _require_finite(images: NDArray[Any], before: int, name: str) -> None:
    """Raise DataError where an image has a pixel that no model is trained on; it would be answered all the same."""
    for row in unfinite_rows(images)[:1]:
        found = f"image {before + row:,} has {unfinite_value(images[row])}"
        raise _refusal(found, "finite numbers, as the model was trained on", name)


def _require_answers(answers: NDArray[np.float32], before: int, name: str) -> None:
    """Raise DataError where an answer is no number."""
    for row in unfinite_rows(answers)[:1]:
        found = f"image {before + row:,} is answered by no number: its pixels are too large for the model"
        raise _refusal(found, "pixels of the size that the model was trained on", name)


def _refusal(found: str, expected: str, name: str) -> DataError:
    return DataError(found, expected, "Mend the image or leave it out; nothing was written", name)


def require_same_form(reader: IdxReader, receipt: Receipt, reshape: Reshape) -> None:
    """Raise DataError unless the images are of the form that the model was trained on."""
    header = reader.header
    if (header.item_shape, header.dtype.str) != (receipt.image_shape, receipt.image_dtype):
        raise DataError(
            f"images of {form_of(header.item_shape, header.dtype)}",
            f"{form_of(receipt.image_shape, receipt.image_dtype)}, as the model was trained on",
            "Give images of that form, or choose another run with --run",
            reader.name,
        )
    if header.items % reshape.images_per_sequence:
        raise DataError(
            f"{header.items:,} images, which is no multiple of T = {reshape.images_per_sequence}",
            "a multiple of T, since this model reads T images as one sequence",
            "Add or remove images",
            reader.name,
        )


def require_same_input(folder: Path, reshape: Reshape) -> None:
    """Raise StorageError where the model of a run must not be asked with what this version makes of images."""
    if found := objection_to_input(folder, reshape):
        raise StorageError(
            f"the model of {folder.name} cannot be asked: {found}",
            "the sequences that the run was asked, of the images it was asked",
            "Train it again (stepwise rerun with its name) and promote that run by hand, or choose one with --run",
            str(folder),
        )
