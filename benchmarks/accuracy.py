"""How good the presets are: trained whole on real data, several seeds each; not a speed.

`python -m benchmarks accuracy --preset best --held-out` measures on training images held out, a sixth of them, and
never evaluates a test image: choices are made with it. Without `--held-out` each seed is a whole run of the command and
its test images are looked at. Either way every training is a line more in docs/accuracy.csv, whatever it says; what is
there of a run before is taken and is no line. `--seeds 0` trains nothing and tells what the lines say.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import math
import shutil
import statistics
import subprocess
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_type_hints

from benchmarks.commands import STEPWISE, costed, environment_in
from benchmarks.measure import FOLDER
from benchmarks.workers import ROOT
from flows.dag import processors
from schemas.catalog import load_catalog
from schemas.files import HISTORY_FILE, METRICS_FILE, RUNS
from schemas.handles import ROLES, SPLITS
from schemas.history import History
from schemas.presets import configured
from tasks.proportions import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Options
    from schemas.configuration import RunConfiguration
    from schemas.handles import Sequences
    from tasks.store import Store

RECORD: Final = ROOT / "docs" / "accuracy.csv"
HELD_OUT: Final = 1 / 6  # 10,000 of MNIST's images, as many as it tests with


@dataclass(frozen=True)
class Measured:
    """One training: a line of the record.

    Attributes:
        when: The day.
        revision: The commit that was trained with, marked where files differed from it.
        measured_on: "held out" or "test images".
        dataset: Its name.
        preset: Its name.
        settings: Over the preset.
        recipe: Short digest of what is trained and how, but for the seed: presets change.
        seed: Of this training.
        epochs: Trained.
        parameters: Of the network.
        seconds: Of all epochs.
        images: Labels that were asked for.
        correct: Of them.
        anew: Whether the model was evaluated now, not found as an earlier run left it; no column.
    """

    when: str
    revision: str
    measured_on: str
    dataset: str
    preset: str
    settings: str
    recipe: str
    seed: int
    epochs: int
    parameters: int
    seconds: int
    images: int
    correct: int
    anew: bool = True

    @property
    def kind(self) -> tuple[str, ...]:
        """What was trained and measured, whatever the seed."""
        return self.measured_on, self.dataset, self.preset, self.settings, self.recipe

    @property
    def accuracy(self) -> float:
        """Share of the images that were answered right."""
        return self.correct / self.images


def main(options: Options) -> None:
    """Train the preset with each seed; a line each, then what they say together."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if not seeds:
        print("\naccuracy: docs/accuracy.csv", *map(told, recorded()), sep="\n")
        return
    home = FOLDER / "accuracy"
    home.mkdir(parents=True, exist_ok=True)
    measure = partial(held_out if options.held_out else tested, options, home)
    print(f"\naccuracy: preset {options.preset}, {options.dataset}, {' '.join(options.settings) or 'as it is'}")
    print(told(trained_with(seeds, measure)))


def trained_with(seeds: Sequence[int], measure: Callable[[int], Measured]) -> list[Measured]:
    """One training a seed, each recorded as soon as it is there."""
    found = []
    for seed in seeds:
        measured = measure(seed)
        if measured.anew:
            record(measured)
        print(f"  seed {seed}: {measured.accuracy:.2%} of {measured.images:,}, epochs {measured.seconds} s", flush=True)
        found.append(measured)
    return found


def tested(options: Options, home: Path, seed: int) -> Measured:
    """A run of the command as anybody gives it, in a folder that keeps what it made."""
    blank = blank_line(options, seed, "test images")
    settings = (*options.settings, f"training.seed={seed}")
    command = [*STEPWISE, "run", "--preset", options.preset, "--dataset", options.dataset, "--json"]
    command += ["--artifacts", str(home / "artifacts"), *(part for each in settings for part in ("--set", each))]
    before = set((home / "artifacts" / RUNS).glob("*"))
    folder = Path(json.loads(costed(command, environment_in(home)).answer)["folder"])
    metrics = json.loads((folder / METRICS_FILE).read_bytes())
    history = History.model_validate_json((folder / HISTORY_FILE).read_bytes())
    answered = metrics["samples"], metrics["correct"]
    steps = json.loads((folder / "timings.json").read_bytes())
    reused = any(step["reused"] for step in steps if step["step"] == "evaluate")
    return replace(filled(blank, history, answered), anew=folder not in before and not reused)


def held_out(options: Options, home: Path, seed: int) -> Measured:
    """A training through the stages, a sixth of the training images held out; it ends before evaluation."""
    from tasks.store import Store
    from tasks.train import Recipe, history_of, trained
    from tasks.train.standing import Continuity

    blank, configuration = blank_line(options, seed, "held out"), configuration_of(options, seed)
    store = Store(home / "artifacts")
    sequences = sealed_sequences(store, configuration)
    recipe = Recipe(configuration.reshape, configuration.network, configuration.training)
    model = trained(store, sequences, recipe, processors(), _silent, Continuity())
    history = history_of(store, model)
    accuracy = history.epochs[history.kept - 1].validation_accuracy
    if accuracy is None:
        raise RuntimeError(f"a share of {HELD_OUT:.2f} of {sequences.targets.shape[0]} sequences held nothing out")
    images = model.counts["validation"] * math.prod(sequences.targets.shape[1:])
    return filled(blank, history, (images, round(accuracy * images)))


def configuration_of(options: Options, seed: int) -> RunConfiguration:
    """The preset with its settings and a seed, and a sixth held out where that is measured."""
    given = [*options.settings, f"training.seed={seed}"]
    given += [f"training.validation_share={HELD_OUT}"] if options.held_out else []
    return configured(options.preset, settings=given, dataset=options.dataset)


def sealed_sequences(store: Store, configuration: RunConfiguration) -> Sequences:
    """The training split through every stage before training, as a run has it."""
    from tasks.download import fetch
    from tasks.parse import to_table
    from tasks.reshape import sealed
    from tasks.validate import validated

    dataset = load_catalog().dataset(configuration.dataset)
    tables = []
    for split in SPLITS:
        images, labels = (fetch(dataset, split, role, store, _silent) for role in ROLES)
        column = dataset.splits[split].labels.label_column
        tables.append(to_table(store, split, images, labels, column, _silent))
    receipt = validated(store, dataset, (tables[0], tables[1]), _silent)
    return sealed(store, tables[0], receipt, configuration.reshape, _silent)


def record(measured: Measured) -> None:
    """One more line; the results above it are never touched."""
    new = not RECORD.exists()
    with RECORD.open("a", encoding="utf-8", newline="") as file:
        columns = [field.name for field in fields(Measured) if field.name != "anew"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(measured))


def recorded() -> list[list[Measured]]:
    """The lines of the record, those together that differ in nothing but seed, day and revision; of a seed the last."""
    if not RECORD.exists():
        return []
    kinds = get_type_hints(Measured)
    groups: dict[tuple[str, ...], dict[int, Measured]] = {}
    with RECORD.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            measured = Measured(**{name: kinds[name](value) for name, value in line.items()})
            groups.setdefault(measured.kind, {})[measured.seed] = measured
    return [list(group.values()) for group in groups.values()]


def told(found: Sequence[Measured]) -> str:
    """The mean of all seeds, their spread, and the interval of one of them by the number of its images."""
    shares = [measured.accuracy for measured in found]
    mean, images = statistics.fmean(shares), found[0].images
    low, high = wilson(round(mean * images), images)
    spread = f" (standard deviation {statistics.stdev(shares):.2%})" if len(shares) > 1 else ""
    return (
        f"  {', '.join(filter(None, found[0].kind))}\n"
        f"  mean of {len(shares)}: {mean:.2%}, from {min(shares):.2%} to {max(shares):.2%}{spread}; "
        f"95 % interval of one by its {images:,} images: {low:.2%} to {high:.2%}"
    )


def blank_line(options: Options, seed: int, measured_on: str) -> Measured:
    """What is known before a training: hours later the files may be others."""
    configuration, train = configuration_of(options, 0), load_catalog().dataset(options.dataset).splits["train"]
    if train.images.shape and train.rows:
        configuration = configuration.resolved(train.images.shape, train.rows)
    recipe = configuration.model_dump_json(include={"reshape", "network", "training"})
    return Measured(
        when=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        revision=_revision(),
        measured_on=measured_on,
        dataset=options.dataset,
        preset=options.preset,
        settings=" ".join(options.settings),
        recipe=hashlib.sha256(recipe.encode()).hexdigest()[:8],
        seed=seed,
        epochs=0,
        parameters=0,
        seconds=0,
        images=0,
        correct=0,
    )


def filled(blank: Measured, history: History, answered: tuple[int, int]) -> Measured:
    """The line of a training that is done, given how many images were asked for and how many were right."""
    return replace(
        blank,
        epochs=len(history.epochs),
        parameters=history.parameters,
        seconds=round(sum(epoch.seconds for epoch in history.epochs)),
        images=answered[0],
        correct=answered[1],
    )


def _revision() -> str:
    """The commit that is trained with, marked where files differ from it; empty outside of a repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _silent(*_: object) -> None:
    """Progress that nobody watches."""
