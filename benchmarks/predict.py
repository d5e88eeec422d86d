"""`stepwise predict` of a million images, beside the bare matrix products of the model that answers them.

A run of the default network is made first, with one epoch; how well it answers is of no matter here. The command is
measured as a person runs it, from its start to the file. Beside it: the same for a few images, which is what starting,
importing and compiling cost, and a loop of TensorFlow that does the forward pass's products and nothing else.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands import STEPWISE, Cost, costed, environment_in
from benchmarks.digits import CLASSES, digits, write_repeated
from benchmarks.measure import FOLDER, Options, interleaved, report
from benchmarks.workers import ALONE, Worker
from schemas.configuration import RunConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IMAGES = 1_000_000
FEW = 1_000
ROUNDS = 3
MATMUL = Path(__file__).with_name("matmul.py")
BASE = "stepwise predict"
PREPARED = ("--set", "training.epochs=1", "--set", "training.schedule=constant")


def main(options: Options) -> None:
    """Make a run, then measure."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        home = Path(name)
        environment = environment_in(home)
        artifacts = ("--artifacts", home / "artifacts")
        costed([*STEPWISE, "run", "--preset", options.preset, *PREPARED, *artifacts], environment)

        def predicted(images: Path) -> Cost:
            command = [*STEPWISE, "predict", images, "-o", home / "answers.parquet", *artifacts]
            return costed(command, environment)

        command = [sys.executable, *ALONE, MATMUL, "answering", json.dumps(problem_of(_configuration(home)))]
        with Worker("predict-matmul", command) as worker:
            compared(
                home,
                digits()[0],
                options.samples or IMAGES,
                predicted,
                lambda: float(worker.ask()["seconds a thousand"]),
                min(options.repeat, ROUNDS),
            )


def _configuration(home: Path) -> RunConfiguration:
    (file,) = (home / "artifacts").glob("runs/*/configuration.json")
    return RunConfiguration.model_validate_json(file.read_bytes())


def problem_of(configuration: RunConfiguration, item: tuple[int, int] = (28, 28)) -> dict[str, int]:
    """The sizes of a network's matrix products; it has one layer that reads in one direction."""
    (layer,) = configuration.network.layers
    steps, features = configuration.reshape.sequence_shape(item)
    return {"steps": steps, "features": features, "units": layer.units, "classes": CLASSES}


def compared(
    folder: Path,
    samples: NDArray[Any],
    count: int,
    predicted: Callable[[Path], Cost],
    seconds_a_thousand: Callable[[], float],
    rounds: int,
) -> dict[str, list[float]]:
    """Ask all arms in rounds, then report; returns their seconds."""
    many, few = (write_repeated(folder / f"{rows}-images", samples, rows) for rows in (count, FEW))
    peaks: dict[str, list[float]] = {"many": [], "few": []}

    def command(images: Path, size: str) -> float:
        cost = predicted(images)
        peaks[size].append(round(cost.peak_mebibytes))
        return cost.seconds

    arms = {
        BASE: lambda: command(many, "many"),
        f"the same, {FEW:,} images": lambda: command(few, "few"),
        "bare matrix products": lambda: seconds_a_thousand() * count / 1000,
    }
    times = interleaved(arms, rounds)
    whole, start, bare = (statistics.median(seconds) for seconds in times.values())
    report(
        "predict",
        times,
        BASE,
        aim="the speed of the matrix products, memory flat",
        images=count,
        images_a_second=round(count / whole),
        images_a_second_without_starting=round((count - FEW) / max(whole - start, 1e-9)),
        images_a_second_by_products=round(count / bare),
        share_of_products=f"{bare / whole:.0%}, without starting {bare / max(whole - start, 1e-9):.0%}",
        peak_mebibytes=peaks,
    )
    return times
