"""One stage on generated files in a fresh process, for the benchmark of growing work: its seconds and its peak memory.

`python -m benchmarks.scale_stages STAGE FOLDER` does the stage once for a line of its input. FOLDER holds `data` (IDX
files), `artifacts` (a store) and what earlier stages have left in `state`. Seconds are of the stage's own work, as
the tasks call it, without imports. Not here: which sizes, and how they compare (scale).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel

from schemas.catalog import dataset_of_folder
from schemas.configuration import LstmLayer, Network, Reshape, RunConfiguration, Training
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, RECEIPT_FILE
from schemas.handles import ROLES, SPLITS, Handle, Sequences, SourceFile, Table, TrainedModel
from tasks.receipts import open_receipt
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

Output = TypeVar("Output", bound=BaseModel)

CONFIGURATION: Final = RunConfiguration(
    reshape=Reshape(timesteps=16),
    network=Network(layers=(LstmLayer(units=16),), dropout_head=0.0),
    training=Training(epochs=2, batch_size=512, schedule="constant", learning_rate=1e-3, validation_share=0.0),
)
TEST_IMAGES: Final = "t10k-images-idx3-ubyte"
TRAIN_IMAGES: Final = "train-images-idx3-ubyte"


def silent(*_: object) -> None:
    """Progress that nobody watches."""


class Place:
    """The folder of one size: its data, its store, and what the stages before have made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.state = folder, folder / "data", folder / "state"
        self.store = Store(folder / "artifacts")
        self.state.mkdir(exist_ok=True)

    def keep(self, name: str, value: BaseModel) -> None:
        """Leave a stage's output to the next."""
        (self.state / f"{name}.json").write_text(value.model_dump_json(), encoding="utf-8")

    def made(self, form: type[Output], name: str) -> Output:
        """The output that an earlier stage has left."""
        return form.model_validate_json((self.state / f"{name}.json").read_bytes())


def download(place: Place) -> float:
    """Copy the four files into the store and digest them, as for any folder of data."""
    from tasks.download import fetch

    dataset, began = dataset_of_folder(place.data), time.perf_counter()
    for split in SPLITS:
        for role in ROLES:
            place.keep(f"{split}-{role}", fetch(dataset, split, role, place.store, silent))
    return time.perf_counter() - began


def parse(place: Place) -> float:
    """The small test split to warm up; the training split is timed."""
    from tasks.parse import to_table

    seconds = 0.0
    for split in reversed(SPLITS):
        images, labels = (place.made(SourceFile, f"{split}-{role}") for role in ROLES)
        began = time.perf_counter()
        table = to_table(place.store, split, images, labels, None, silent)
        seconds = time.perf_counter() - began
        place.keep(f"{split}-table", table)
    return seconds


def validate(place: Place) -> float:
    """Both tables, the training split being the one that grows."""
    from tasks.validate import validated

    train, test = (place.made(Table, f"{split}-table") for split in SPLITS)
    dataset, began = dataset_of_folder(place.data), time.perf_counter()
    receipt = validated(place.store, dataset, (train, test), silent)
    seconds = time.perf_counter() - began
    place.keep("receipt", receipt)
    return seconds


def reshape(place: Place) -> float:
    """The training split, the witness's proof included."""
    from tasks.reshape import sealed

    table, receipt = place.made(Table, "train-table"), place.made(Handle, "receipt")
    began = time.perf_counter()
    sequences = sealed(place.store, table, receipt, CONFIGURATION.reshape, silent)
    seconds = time.perf_counter() - began
    place.keep("sequences", sequences)
    return seconds


def epoch(place: Place) -> float:
    """The second of two epochs of a small network: nothing is compiled in it."""
    from tasks.train import Recipe, history_of, trained
    from tasks.train.checkpoint import Checkpoints
    from tasks.train.standing import Continuity

    recipe = Recipe(CONFIGURATION.reshape, CONFIGURATION.network, CONFIGURATION.training)
    sequences, processors = place.made(Sequences, "sequences"), len(os.sched_getaffinity(0))
    continuity = Continuity(Checkpoints(place.store.partial("scale"), "scale"))
    model = trained(place.store, sequences, recipe, processors, silent, continuity)
    place.keep("model", model)
    history = history_of(place.store, model)
    return history.epochs[-1].seconds


def predict(place: Place) -> float:
    """All training images, as `stepwise predict` answers them; the small test split to warm up."""
    from tasks.predict import write_answers

    run = as_published(place)
    write_answers(run, place.data / TEST_IMAGES, place.folder / "answers.parquet")
    began = time.perf_counter()
    write_answers(run, place.data / TRAIN_IMAGES, place.folder / "answers.parquet")
    return time.perf_counter() - began


def as_published(place: Place) -> Path:
    """A folder with those files of a published run that prediction reads."""
    run = place.folder / "run"
    run.mkdir(exist_ok=True)
    receipt = open_receipt(place.store, place.made(Handle, "receipt"))
    (run / CONFIGURATION_FILE).write_text(CONFIGURATION.model_dump_json(), encoding="utf-8")
    (run / RECEIPT_FILE).write_text(receipt.model_dump_json(), encoding="utf-8")
    model = place.store.open(place.made(TrainedModel, "model").model, MODEL_FILE)
    (run / MODEL_FILE).write_bytes(model.read_bytes())
    return run


STAGES: Final[dict[str, Callable[[Place], float]]] = {
    "download": download,
    "parse": parse,
    "validate": validate,
    "reshape": reshape,
    "epoch": epoch,
    "predict": predict,
}


def peak_mebibytes() -> float:
    """The most memory that this process has had resident, pages of mapped files included.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


def measured(stage: str, folder: Path) -> dict[str, Any]:
    """Do one stage."""
    return {"seconds": STAGES[stage](Place(folder)), "peak MiB": peak_mebibytes()}


def main() -> None:
    """Answer each line; whatever the stage prints goes to standard error."""
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = measured(sys.argv[1], Path(sys.argv[2]))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
