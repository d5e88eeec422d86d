"""A fresh process that loads the forms of a run's model and compares their answers with the written predictions.

Run as `python -m tasks.trial_process FOLDER TOLERANCE FORM...`: imports what it needs, waits for a line on its standard
input, says what differs by more than the tolerance and exits with 1, or exits with 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.files import MODEL_FILE, PREDICTIONS_FILE, SAVED_MODEL, TRIAL, TRIAL_IMAGES_FILE, TRIAL_SEQUENCES_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray


def differences(folder: Path, tolerance: float, forms: list[str]) -> list[str]:
    """What differs between the saved forms' answers and predictions.parquet; empty where nothing does."""
    import pyarrow.parquet as pq

    answering = {MODEL_FILE: _by_keras, SAVED_MODEL: _by_tensorflow}
    answers = {form: answering[form](folder) for form in forms}
    images = np.load(folder / TRIAL / TRIAL_IMAGES_FILE, allow_pickle=False)
    with pq.ParquetFile(folder / PREDICTIONS_FILE) as file:
        first = next(file.iter_batches(len(images), columns=["probabilities"]))
    written = np.array(first.column(0).to_pylist(), np.float32)
    gaps = {name: float(np.abs(answer.reshape(written.shape) - written).max()) for name, answer in answers.items()}
    return [f"{name} answers up to {gap:.2g} apart" for name, gap in gaps.items() if not gap <= tolerance]


def _by_keras(folder: Path) -> NDArray[np.float32]:
    from tasks.network import load

    sequences = np.load(folder / TRIAL / TRIAL_SEQUENCES_FILE, allow_pickle=False)
    answers: NDArray[np.float32] = load(folder / MODEL_FILE)(sequences.astype(np.float32)).numpy()
    return answers


def _by_tensorflow(folder: Path) -> NDArray[np.float32]:
    import tensorflow as tf

    images = np.load(folder / TRIAL / TRIAL_IMAGES_FILE, allow_pickle=False)
    native = images.astype(images.dtype.newbyteorder("="))
    served = tf.saved_model.load(str(folder / SAVED_MODEL)).signatures["serving_default"]
    answers: NDArray[np.float32] = served(images=tf.constant(native))["probabilities"].numpy()
    return answers


def prepare() -> None:
    """Import what the comparison needs, for seconds in which there is nothing to compare yet."""
    import pyarrow.parquet as pq  # noqa: F401

    from tasks.network import quiet_tensorflow

    quiet_tensorflow()
    import keras  # noqa: F401


def main() -> int:
    """Compare; the exit code says whether all is well."""
    prepare()
    if not sys.stdin.readline():
        return 1  # whoever publishes has ended
    _, folder, tolerance, *forms = sys.argv  # noqa: TID251 - given by its parent
    found = differences(Path(folder), float(tolerance), forms)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
