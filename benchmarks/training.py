"""Seconds of an epoch of 60,000 samples: the engine beside Keras, PyTorch and JAX, and beside TensorFlow's matmul.

Every arm is a process that lives through the benchmark, has the samples in memory, and trains one epoch on request.
Rounds go arm after arm, never two at once; the first one warms up and its time, compiling in it, is told apart. Where
an epoch takes minutes a share of it is measured, and seconds are scaled; the report says so. Apart: the time to the
first step in a fresh process, beside the bare import of TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.digits import ROWS, digits
from benchmarks.learners import flop
from benchmarks.measure import FOLDER, Options, interleaved, report
from benchmarks.workers import ALONE, Worker, WorkerError, python_with
from schemas.configuration import LstmLayer, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

PEERS = Path(__file__).with_name("training_peers.py")
MATMUL_ARM = Path(__file__).with_name("matmul.py")
OWN = [sys.executable, "-m", "benchmarks.training_own"]
BASE = "stepwise"
MATMUL = "TensorFlow matmul"
FIRST_STEPS = 3
BARE_IMPORT = """
import json, sys, time
import numpy
for _ in sys.stdin:
    start = time.perf_counter()
    import tensorflow
    print(json.dumps({"to first step": time.perf_counter() - start}), flush=True)
"""

PACKAGES = {
    "pytorch": ("torch==2.13.0", "numpy==2.4.6"),
    "jax": ("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6"),
}
# Arms by name: whose environment they run in (None: the project's own), and what the peers' file calls them.
ARMS: dict[str, tuple[str | None, str]] = {
    "Keras fit": (None, "keras"),
    "Keras fit, tuned": (None, "keras-tuned"),
    "PyTorch nn.LSTM": ("pytorch", "pytorch"),
    "JAX lax.scan": ("jax", "jax"),
    "JAX lax.scan, 2 devices": ("jax", "jax-devices"),
}
POOLED = {"TF_CPU_ALLOCATOR_USE_BFC": "1"}  # the engine's own choice, which is anybody's who looks for it
MATMULS: dict[str, dict[str, str]] = {MATMUL: {}, f"{MATMUL}, oneDNN off": {"TF_ENABLE_ONEDNN_OPTS": "0"}}


@dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        name: For people and files.
        steps: T.
        features: F.
        units: H, of one LSTM layer.
        batch: Sequences in a step of the optimiser.
        optimizer: Of the configuration's names.
        loss: The same.
        clip_norm: Bound on the global norm of the gradient; 0 for none.
        learning_rate: Constant.
        scaled: Pixels over 255, or raw as in the question.
        samples: Measured of 60,000; seconds are scaled to those.
        aim: What the project wants here.
    """

    name: str
    steps: int
    features: int
    units: int
    batch: int
    optimizer: str
    loss: str
    clip_norm: float
    scaled: bool
    aim: str
    learning_rate: float = 1e-3
    samples: int = ROWS

    @property
    def flop(self) -> int:
        """Of 60,000 samples, forwards and twice backwards."""
        return ROWS * flop(Network(layers=(LstmLayer(units=self.units),)), self.steps, self.features)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            name="16x49",
            steps=16,
            features=49,
            units=40,
            batch=50,
            optimizer="rmsprop",
            loss="mean-squared-error",
            clip_norm=0.0,
            scaled=False,
            aim="Keras fit at least 4.5, PyTorch 3, JAX 1.5",
        ),
        Problem(
            name="28x28",
            steps=28,
            features=28,
            units=128,
            batch=128,
            optimizer="adam",
            loss="cross-entropy",
            clip_norm=1.0,
            scaled=True,
            aim="Keras fit at least 2, PyTorch 1.2, JAX 1.5; at least 65 % of the matmul's rate",
        ),
        Problem(
            name="784x1",
            steps=784,
            features=1,
            units=128,
            batch=100,
            optimizer="adam",
            loss="cross-entropy",
            clip_norm=0.0,
            scaled=True,
            samples=3_000,
            aim="Keras fit at least 2",
        ),
    )
}


def main(options: Options) -> None:
    """Measure each problem, or the one that was asked for."""
    FOLDER.mkdir(exist_ok=True)
    images, labels = digits()
    for problem in PROBLEMS.values():
        if options.problem not in (None, problem.name):
            continue
        if options.samples:
            problem = dataclasses.replace(problem, samples=min(options.samples, problem.samples))  # noqa: PLW2901
        with tempfile.TemporaryDirectory(dir=FOLDER) as name:
            folder = sequences(problem, images, labels, Path(name))
            with contextlib.ExitStack() as stack:
                arms, absent = _started(problem, folder, stack)
                compared(problem, arms, options.repeat, absent=absent)
            first_steps(problem, folder, min(options.repeat, FIRST_STEPS))


def sequences(problem: Problem, images: NDArray[Any], labels: NDArray[Any], folder: Path) -> Path:
    """The samples that are measured, as every arm reads them: x.npy (N, T, F) uint8 and y.npy (N,) int32."""
    x = images[: problem.samples].reshape(-1, problem.steps, problem.features)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", labels[: problem.samples].astype(np.int32))
    return folder


def _started(
    problem: Problem, folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, Callable[[], dict[str, Any]]], dict[str, str]]:
    """The arms' processes by name, and why there are none of others."""
    given = [json.dumps(dataclasses.asdict(problem)), folder]
    own = stack.enter_context(Worker(f"training-{problem.name}-stepwise", [*OWN, "epochs", *given]))
    arms, absent = {BASE: own.ask}, {}
    for name, (environment, arm) in ARMS.items():
        try:
            python = python_with(environment, PACKAGES[environment]) if environment else Path(sys.executable)
        except WorkerError as error:
            absent[name] = str(error)
            continue
        changes = POOLED if arm == "keras-tuned" else {}
        worker = Worker(f"training-{problem.name}-{arm}", [python, *ALONE, PEERS, arm, *given], changes)
        arms[name] = stack.enter_context(worker).ask
    for number, (name, changes) in enumerate(MATMULS.items()):
        worker = Worker(f"matmul-{number}", [sys.executable, *ALONE, MATMUL_ARM, "rate"], changes)
        arms[name] = stack.enter_context(worker).ask
    return arms, absent


def compared(
    problem: Problem,
    arms: Mapping[str, Callable[[], dict[str, Any]]],
    repeat: int,
    *,
    absent: dict[str, str] | None = None,
) -> dict[str, list[float]]:
    """Ask all arms in rounds, then report; returns the seconds of 60,000 samples by arm, without the first round's."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    absent = dict(absent or {})

    def asked(name: str) -> float:
        if name in absent:
            return 0.0
        try:
            answer = arms[name]()
        except WorkerError as error:
            absent[name] = str(error)
            return 0.0
        answers[name].append(answer)
        print(f"  {problem.name}, {name}: {_told(answer)}", flush=True)
        return float(answer.get("seconds", 0.0)) * ROWS / problem.samples

    rounds = interleaved({name: partial(asked, name) for name in arms}, repeat)
    rates = {name: [answer["gflops"] for answer in answers[name]] for name in arms if name.startswith(MATMUL)}
    times = {name: seconds for name, seconds in rounds.items() if name not in absent and name not in rates}
    report(
        f"training-{problem.name}",
        times,
        BASE,
        aim=problem.aim,
        problem=dataclasses.asdict(problem),
        measured=_share_told(problem),
        first_epoch_with_compiling={name: round(answers[name][0]["seconds"], 2) for name in times},
        losses={name: [round(answer["loss"], 4) for answer in answers[name]] for name in times},
        chosen={name: answers[name][0]["chosen"] for name in times if answers[name][0].get("chosen")},
        **_shares(problem, times, rates),
        packages=[package for packages in PACKAGES.values() for package in packages],
        absent=absent,
    )
    return times


def _told(answer: dict[str, Any]) -> str:
    if "gflops" in answer:
        return f"{answer['gflops']:.1f} GFLOP/s"
    return f"{answer['seconds']:.2f} s, loss {answer['loss']:.4f}"


def _share_told(problem: Problem) -> str:
    if problem.samples == ROWS:
        return f"whole epochs of {ROWS:,} samples"
    batches = -(-problem.samples // problem.batch)
    return f"{batches} batches, {problem.samples:,} samples; seconds scaled to {ROWS:,} by {ROWS / problem.samples:g}"


def _shares(problem: Problem, times: dict[str, list[float]], rates: dict[str, list[float]]) -> dict[str, Any]:
    """What part of the matrix product's rate each arm reaches: of the better of its two median rates."""
    if not any(rates.values()):
        return {}
    medians = {name: statistics.median(values) for name, values in rates.items() if values}
    best = max(medians.values())
    reached = {name: problem.flop / statistics.median(seconds) / 1e9 for name, seconds in times.items()}
    return {
        "matmul_gflops": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "gflop": round(problem.flop / 1e9, 1),
        "floor_seconds": round(problem.flop / 1e9 / best, 2),
        "share_of_matmul": {name: f"{value / best:.0%}" for name, value in reached.items()},
    }


def first_steps(problem: Problem, folder: Path, repeat: int) -> None:
    """Time to the first step in fresh processes, beside the bare import of TensorFlow, interleaved."""
    given = [json.dumps(dataclasses.asdict(problem)), folder]
    commands: dict[str, list[object]] = {
        "import tensorflow": [sys.executable, "-c", BARE_IMPORT],
        BASE: [*OWN, "first-step", *given],
    }
    answers: list[dict[str, float]] = []

    def fresh(name: str) -> float:
        with Worker(f"first-step-{name.partition(' ')[0]}", commands[name]) as worker:
            answer: dict[str, float] = worker.ask()
        if name == BASE:
            answers.append(answer)
        return answer["to first step"]

    times = interleaved({name: partial(fresh, name) for name in commands}, repeat)
    parts = {part: round(statistics.median(each[part] for each in answers[1:]), 2) for part in answers[0]}
    report(
        f"first-step-{problem.name}",
        times,
        "import tensorflow",
        aim="below 1.3",
        parts=parts,
        counted="from before TensorFlow's import; numpy's in both and the stage's, Prefect in them, come before",
    )
