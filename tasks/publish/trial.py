"""The trial of a run's model in a fresh process, as seen by the process that publishes it.

It begins before there is anything to try: its imports take as long as the model's export, which goes on beside them.
Not here: what is compared (fresh).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.errors import StorageError
from schemas.tables import FILE_NAME
from tasks.arrays import open_arrays
from tasks.fresh import QUESTIONS
from tasks.table import TableReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.handles import Sequences, Table
    from tasks.store import Store

CHECKED_IMAGES: Final = 32
TRIAL_SECONDS: Final = 300
ROOT: Final = Path(__file__).resolve().parents[2]


class Trial:
    """A fresh interpreter that waits for questions, then answers them with both forms of the model in a folder."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder, self._process = folder, process

    def begin(self, store: Store, table: Table, sequences: Sequences) -> None:
        """Have it answer the first test images, while whoever calls goes on."""
        x, targets = open_arrays(store, sequences)
        each = x.shape[1] if targets.ndim == 2 else 1
        count = min(len(x), -(-CHECKED_IMAGES // each))
        questions = self._folder / QUESTIONS
        questions.mkdir()
        np.save(questions / "sequences.npy", np.asarray(x[:count]), allow_pickle=False)
        np.save(questions / "images.npy", _first_images(store, table, count * each), allow_pickle=False)
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it died; the verdict says of what
                self._process.stdin.write("begin\n")
                self._process.stdin.flush()

    def verdict(self) -> None:
        """Wait for it.

        Raises:
            StorageError: an answer differs from the written prediction, or there is none.
        """
        said, complaints = self._process.communicate(timeout=TRIAL_SECONDS)
        shutil.rmtree(self._folder / QUESTIONS)
        if self._process.returncode:
            reason = "; ".join(said.splitlines() or complaints.splitlines()[-1:])
            raise StorageError(
                f"the model does not answer in a fresh process as it did when it was evaluated: {reason}",
                "equal answers from both saved forms of the model",
                "Nothing was published. Rerun; if it happens again, the installation of TensorFlow is not sound",
                str(self._folder),
            )


@contextlib.contextmanager
def in_a_fresh_process(folder: Path) -> Iterator[Trial]:
    """A trial of the run in a folder, whose verdict is awaited at the end."""
    command = [sys.executable, "-m", "tasks.fresh", str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            trial = Trial(folder, process)
            yield trial
            trial.verdict()
        except BaseException:
            process.kill()
            raise


def _first_images(store: Store, table: Table, count: int) -> NDArray[Any]:
    """The first images (count, *item) of a table in their own type."""
    batch = next(TableReader(store.open(table.table, FILE_NAME)).batches(count))
    return batch.pixels.view(np.dtype(table.table.dtype)).reshape(-1, *table.table.shape[1:])
