"""The trial of a run's model in a fresh process, as seen by the process that publishes or promotes it.

When a run is published, it begins before there is anything to try: its imports take as long as the model's export,
which goes on beside them. What was asked stays in the run, so that it can be asked again at any time. Not here: what is
compared (trial_process).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.configuration import RunConfiguration
from schemas.errors import StorageError
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, SAVED_MODEL, TRIAL, TRIAL_IMAGES_FILE, TRIAL_SEQUENCES_FILE
from schemas.tables import FILE_NAME
from tasks.arrays import open_arrays
from tasks.model_input import objection_to_input
from tasks.table import TableReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.handles import Sequences, Table
    from tasks.store import Store

CHECKED_IMAGES: Final = 32
TRIAL_SECONDS: Final = 300
TOLERANCE: Final = 1e-4  # one model in two graphs, compiled differently: float32 rounding over T steps
TOLERANCE_ELSEWHERE: Final = 1e-2  # by other libraries or on another processor; a GPU's TF32 has ten bits for 23
ROOT: Final = Path(__file__).resolve().parents[1]
FORMS: Final = (MODEL_FILE, SAVED_MODEL)
WITHOUT_PROGRAMS: Final = (MODEL_FILE,)
"""The form that Keras reads and runs nothing of its own; a SavedModel is a program."""


class UnansweredError(StorageError):
    """A trial that did not end in time: of the model nothing is known."""


class Trial:
    """A fresh interpreter that waits, then answers the questions in a folder with the forms of the model there."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder, self._process = folder, process

    def ask(self, store: Store, table: Table, sequences: Sequences) -> None:
        """Have it answer the first test images, while whoever calls goes on."""
        x, targets = open_arrays(store, sequences)
        each = x.shape[1] if targets.ndim == 2 else 1
        count = min(len(x), -(-CHECKED_IMAGES // each))
        questions = self._folder / TRIAL
        questions.mkdir()
        np.save(questions / TRIAL_SEQUENCES_FILE, np.asarray(x[:count]), allow_pickle=False)
        np.save(questions / TRIAL_IMAGES_FILE, _first_images(store, table, count * each), allow_pickle=False)
        self.begin()

    def begin(self) -> None:
        """Have it answer what is in the folder already."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it died; the verdict says of what
                self._process.stdin.write("begin\n")
                self._process.stdin.flush()

    def verdict(self) -> None:
        """Wait for it.

        Raises:
            UnansweredError: there is no answer in time.
            StorageError: an answer differs from the written prediction, or the process died.
        """
        if reason := self._reason():
            raise StorageError(
                f"the model does not answer in a fresh process as it did when it was evaluated: {reason}",
                "equal answers from the saved forms of the model",
                "Nothing was published. Rerun; if it happens again, the installation of TensorFlow is not sound",
                str(self._folder),
            )

    def _reason(self) -> str:
        """What the process says against the model, or what became of the process; empty where all is well."""
        try:
            said, complaints = self._process.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise UnansweredError(
                f"the model gave no answer in a fresh process within {TRIAL_SECONDS} s",
                f"answers to {CHECKED_IMAGES} images, which take seconds",
                "Nothing was published or promoted, and nothing speaks against the model. See what else keeps this "
                "machine busy, then give the command again",
                str(self._folder),
            ) from late
        if not self._process.returncode:
            return ""
        last_words = complaints.splitlines()[-1:] or [f"exit code {self._process.returncode}"]
        return "; ".join(said.splitlines() or last_words)


@contextlib.contextmanager
def in_a_fresh_process(folder: Path, tolerance: float = TOLERANCE, forms: tuple[str, ...] = FORMS) -> Iterator[Trial]:
    """A trial of the run in a folder, whose verdict is awaited at the end."""
    command = [sys.executable, "-m", "tasks.trial_process", str(folder), str(tolerance), *forms]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            trial = Trial(folder, process)
            yield trial
            trial.verdict()
        except BaseException:
            process.kill()
            raise


def was_asked(folder: Path) -> bool:
    """Whether a published run kept what its model was asked: those of earlier versions did not."""
    return (folder / TRIAL).is_dir()


def objection_to(folder: Path, forms: tuple[str, ...] = FORMS) -> str:
    """Why a published model is not to be relied on today: it would read or answer otherwise than it did; else empty.

    Empty too where `was_asked` is not so: then it is not known how it answered.

    Args:
        folder: The run.
        forms: Which of the model's files are loaded.

    Raises:
        UnansweredError: it does not answer in time.
    """
    if not was_asked(folder):
        return ""
    configuration = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    if found := objection_to_input(folder, configuration.reshape):
        return found
    try:
        with in_a_fresh_process(folder, TOLERANCE_ELSEWHERE, forms) as trial:
            trial.begin()
    except UnansweredError:
        raise
    except StorageError as error:
        return error.found
    return ""


def _first_images(store: Store, table: Table, count: int) -> NDArray[Any]:
    """The first images (count, *item) of a table in their own type."""
    batch = next(TableReader(store.open(table.table, FILE_NAME)).batches(count))
    return batch.pixels.view(np.dtype(table.table.dtype)).reshape(-1, *table.table.shape[1:])
