"""A training that is interrupted, wherever, goes on and ends with the bytes of one that was left alone."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from samples import both, signed, silent

from schemas.configuration import EarlyStopping, LstmLayer, Network, Reshape, Training
from schemas.errors import BudgetSpentError, ConfigurationError
from schemas.handles import Handle, Sequences, TrainedModel
from tasks import train as package
from tasks.network import Moments, build, weights_digest
from tasks.reshape import sealed
from tasks.store import Store
from tasks.train import checkpoint, history_of, learner
from tasks.train.checkpoint import Checkpoints, State
from tasks.train.engine import Continuity, Examples, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.configuration import Layout
    from schemas.history import History
    from tasks.stage import Progress

    Undisturbed = Callable[[str], "Result"]

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
KEY = "c" * 64
N, T, F, CLASSES = 44, 5, 6, 4
VALIDATION = 6  # 38 are fitted: the last batch of 8 is not full


@dataclass(frozen=True)
class Case:
    """A network and a recipe."""

    network: Network
    training: Training
    layout: Layout = "pixels"
    replicas: int = 2


def recipe(**values: Any) -> Training:  # noqa: ANN401
    return Training.model_validate({"epochs": 2, "batch_size": 8, "learning_rate": 0.01, **values})


CASES = {
    "adamw, one cycle, dropout": Case(
        Network(layers=(LstmLayer(units=6), LstmLayer(units=5)), dropout_between=0.3, dropout_head=0.2),
        recipe(optimizer="adamw", schedule="one-cycle", label_smoothing=0.1, weight_dropout=0.3),
    ),
    "adam, early stopping, both directions": Case(
        Network(layers=(LstmLayer(units=5, bidirectional=True),), pooling="mean"),
        recipe(
            epochs=9, optimizer="adam", learning_rate=0.3, schedule="constant", early_stopping=EarlyStopping(patience=1)
        ),
    ),
    "rmsprop, frames": Case(
        Network(layers=(LstmLayer(units=6),)),
        recipe(optimizer="rmsprop", loss="mean-squared-error", clip_norm=0.0),
        layout="frames",
    ),
    "sgd, one replica": Case(Network(layers=(LstmLayer(units=6),)), recipe(optimizer="sgd"), replicas=1),
}
# Of `make soak` alone: the first is interrupted in other ways below, the others are rare.
SOAKED = ("adamw, one cycle, dropout", "rmsprop, frames", "sgd, one replica")


class KilledError(Exception):
    """Whatever may end a training from outside."""


class Dying(Checkpoints):
    """Checkpoints whose process dies right after each one was written."""

    def save(self, state: State) -> None:
        super().save(state)
        raise KilledError


@dataclass(frozen=True)
class Result:
    """What a training came to: all that must be equal, and where it was taken up."""

    weights: str
    history: dict[str, Any]
    resumed: tuple[str, ...]


def result(model: object, history: History) -> Result:
    return Result(weights_digest(model), timeless(history), history.resumed)  # type: ignore[arg-type]


def timeless(history: History) -> dict[str, Any]:
    """A history without what is measured by the clock and without its interruptions."""
    epochs = [epoch.model_dump(exclude={"seconds"}) for epoch in history.epochs]
    return {**history.model_dump(exclude={"epochs", "seconds_to_first_step", "resumed"}), "epochs": epochs}


def learned(case: Case, continuity: Continuity = Continuity(), progress: Progress = silent) -> Result:  # noqa: B008
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (N, T, F), dtype=np.uint8)
    y = rng.integers(0, CLASSES, (N, T) if case.layout == "frames" else N).astype(np.int32)
    reshape = Reshape(layout=case.layout, timesteps=T)
    model = build(case.network, reshape, case.training, (T, F), CLASSES, Moments(1 / 255, -0.5))
    data = Examples(x, y, np.arange(VALIDATION, N), np.arange(VALIDATION), CLASSES)
    return result(model, fit(model, data, case.training, case.replicas, time.monotonic(), progress, continuity))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if (r.name, r.levelno) == ("stepwise", logging.WARNING)]


@pytest.fixture(scope="module")
def undisturbed() -> Undisturbed:
    """Each case's result with nothing kept and nothing in its way, an epoch in one segment."""
    known: dict[str, Result] = {}

    def of(name: str) -> Result:
        if name not in known:
            with pytest.MonkeyPatch.context() as usual:
                usual.setattr(learner, "FIRST_SEGMENT_STEPS", 8)
                known[name] = learned(CASES[name])
        return known[name]

    return of


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every segment, and segments of at most three steps."""
    monkeypatch.setattr(checkpoint, "COST_SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(learner, "FIRST_SEGMENT_STEPS", 3)
    monkeypatch.setattr(learner, "SEGMENT_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] if name in SOAKED else []) for name in CASES]
)
def test_dying_after_every_checkpoint_changes_nothing(
    name: str, tmp_path: Path, undisturbed: Undisturbed, eager: None
) -> None:
    """Every border of a segment, of an epoch and the end itself is once the place where it goes on."""
    deaths, end = 0, None
    while end is None:
        try:
            end = learned(CASES[name], Continuity(Dying(tmp_path / "train", KEY)))
        except KilledError:
            deaths += 1
    expected = undisturbed(name)
    assert (end.weights, end.history) == (expected.weights, expected.history)
    epochs, of = len(end.history["epochs"]), CASES[name].training.epochs
    borders = [border for epoch in range(1, epochs + 1) for border in ((epoch, 3), (epoch + 1, 0))]
    assert end.resumed == tuple(f"epoch {e} of {of}, step {s} of 5" if e <= of else "the end" for e, s in borders)
    assert deaths == len(borders)


@pytest.mark.slow
def test_stopping_anywhere_between_changes_nothing(
    tmp_path: Path,
    undisturbed: Undisturbed,
    eager: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Interrupted by the keyboard after segments of odd lengths, with the newest checkpoint damaged once."""
    name = "adamw, one cycle, dropout"
    caplog.set_level(logging.INFO, "stepwise")
    for first, stop_after in ((2, 3), (1, 2), (4, 1)):
        monkeypatch.setattr(learner, "FIRST_SEGMENT_STEPS", first)
        calls = iter(range(1, 100))

        def interrupt(*_: object, calls: Iterator[int] = calls, stop_after: int = stop_after) -> None:
            if next(calls) == stop_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            learned(CASES[name], Continuity(Checkpoints(tmp_path / "train", KEY)), interrupt)
    newest = max((tmp_path / "train").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    end = learned(CASES[name], Continuity(Checkpoints(tmp_path / "train", KEY)))
    expected = undisturbed(name)
    assert (end.weights, end.history) == (expected.weights, expected.history)
    (warning,) = warnings_of(caplog)
    assert warning == (
        "a checkpoint of training is refused: its bytes are not those that were written; "
        f"the one before it is tried ({newest})"
    )
    assert end.resumed[:2] == ("epoch 1 of 2, step 4 of 5", "epoch 2 of 2, step 0 of 5")
    assert f"training goes on from {end.resumed[-1]}" in caplog.text


@pytest.mark.slow
def test_a_budget_that_is_spent_stops_at_a_checkpoint_and_says_so(
    tmp_path: Path, undisturbed: Undisturbed, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sgd, one replica"
    checkpoints = Checkpoints(tmp_path / "train", KEY)
    with pytest.raises(BudgetSpentError) as caught:
        learned(CASES[name], Continuity(checkpoints, deadline=time.monotonic()))
    assert str(caught.value) == (
        "training stopped by its budget of wall time after epoch 1 of 2, step 3 of 5. "
        "Expected: the end of epoch 2 within the budget. Rerun: it goes on from there."
    )
    assert caught.value.exit_code == 1
    monkeypatch.setattr(learner, "FIRST_SEGMENT_STEPS", 8)
    with pytest.raises(BudgetSpentError, match=r"after epoch 2 of 2, step 0 of 5\. .* nothing was kept"):
        learned(CASES[name], Continuity(None, deadline=time.monotonic()))
    end = learned(CASES[name], Continuity(checkpoints, deadline=time.monotonic() + 600))
    expected = undisturbed(name)
    assert (end.weights, end.history) == (expected.weights, expected.history)
    assert end.resumed == ("epoch 1 of 2, step 3 of 5",)


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(
    tmp_path: Path,
    undisturbed: Undisturbed,
    eager: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even under the same key; and a folder that cannot be written does not stop a training."""
    with pytest.raises(KilledError):
        learned(CASES["rmsprop, frames"], Continuity(Dying(tmp_path / "train", KEY)))
    name = "sgd, one replica"
    checkpoints = Checkpoints(tmp_path / "train", KEY)
    (path,) = checkpoints.folder.iterdir()
    checkpoints.save = lambda _: Checkpoints(path / "none", KEY).save(_)  # type: ignore[method-assign]
    end = learned(CASES[name], Continuity(checkpoints))
    expected = undisturbed(name)
    assert (end.weights, end.history, end.resumed) == (expected.weights, expected.history, ())
    refusal, failure = warnings_of(caplog)
    assert refusal.startswith(
        "a checkpoint of training is refused: it holds other variables than this network and optimiser (optimizer/"
    )
    assert refusal.endswith(f"training begins anew ({path})")
    assert failure.startswith("no checkpoint of training could be kept, it goes on without: ")
    assert "cannot write: Not a directory" in failure


# --- the task


def shaped(root: Path, n: int) -> Sequences:
    """Sealed sequences (n, 4, 6) in a store."""
    tables = both(Store(root), n=n, item=(4, 6))
    return sealed(Store(root), tables[0], signed(Store(root), tables), Reshape(timesteps=4), silent)


@pytest.mark.slow
def test_the_task_keeps_its_checkpoints_until_its_model_is_kept(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by its budget, then dead between its last checkpoint and the commit of its model."""
    sequences = shaped(tmp_path / "begun", 60)

    def train(root: str, budget_minutes: float | None = None) -> TrainedModel:
        if not (tmp_path / root).exists():
            shutil.copytree(tmp_path / "begun", tmp_path / root)
        network, training = Network(layers=(LstmLayer(units=5),)), recipe(epochs=2, batch_size=16)
        whole = package.Recipe(Reshape(timesteps=4), network, training)
        return package.train.fn(tmp_path / root, sequences, whole, 2, package.Terms(budget_minutes=budget_minutes))

    def partial(root: str) -> list[list[str]]:
        return [sorted(file.name for file in kept.iterdir()) for kept in (tmp_path / root / "store/partial").iterdir()]

    alone = train("undisturbed")
    with pytest.raises(BudgetSpentError):
        train("disturbed", 1e-9)
    assert partial("disturbed") == [["00000001.checkpoint"]]
    with monkeypatch.context() as dying:
        dying.setattr(package, "_kept", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            train("disturbed")
    assert len(partial("disturbed")[0]) == 2
    model = train("disturbed")
    assert model.model.digest == alone.model.digest
    assert model.counts == alone.counts
    histories = [kept_history(tmp_path / root, each) for root, each in (("undisturbed", alone), ("disturbed", model))]
    assert timeless(histories[0]) == timeless(histories[1])
    assert histories[0].resumed == ()
    assert histories[1].resumed == ("epoch 1 of 2, step 3 of 4", "the end")
    assert partial("undisturbed") == partial("disturbed") == []


@pytest.mark.slow
def test_a_warm_start_takes_the_weights_and_nothing_else(tmp_path: Path, eager: None) -> None:
    sequences = shaped(tmp_path, 60)

    def train(units: int, start: Handle | None = None) -> TrainedModel:
        network, training = Network(layers=(LstmLayer(units=units),)), recipe(epochs=1, batch_size=16)
        whole = package.Recipe(Reshape(timesteps=4), network, training)
        return package.train.fn(tmp_path, sequences, whole, 2, package.Terms(start))

    cold = train(5)
    warm = train(5, cold.model)
    assert warm.model.digest not in {cold.model.digest, train(5, warm.model).model.digest}
    histories = [kept_history(tmp_path, each) for each in (cold, warm)]
    assert [history.started_from for history in histories] == [None, cold.model.digest]
    assert histories[1].epochs[0].loss < histories[0].epochs[0].loss
    with pytest.raises(ConfigurationError, match=r"weights of shapes .* to begin with") as caught:
        train(6, cold.model)
    assert caught.value.remedy == "Start cold"


@pytest.mark.slow
def test_weights_that_were_taken_because_they_were_there_and_do_not_fit_are_left_and_that_is_said(
    tmp_path: Path, eager: None, caplog: pytest.LogCaptureFixture
) -> None:
    sequences, elsewhere = shaped(tmp_path / "one", 40), shaped(tmp_path / "other", 40)
    whole = package.Recipe(Reshape(timesteps=4), Network(layers=(LstmLayer(units=5),)), recipe(epochs=1, batch_size=16))
    cold = package.train.fn(tmp_path / "one", sequences, whole, 2)
    terms = package.Terms(cold.model, only_for=(4, 6, 9))
    again = package.train.fn(tmp_path / "other", elsewhere, whole, 2, terms)
    assert again.model.digest == cold.model.digest
    assert kept_history(tmp_path / "other", again).started_from is None
    [said] = [message for message in caplog.messages if message.startswith("warm start: ")]
    assert said == (
        f"warm start: {cold.model.place} learned sequences of T, F = 4, 6 in 9 classes, and these are of 4, 6 in 10; "
        "training starts cold"
    )


# --- real deaths

KILLS = int(os.environ.get("STEPWISE_KILLS", "1"))
CHILD = """
import json, sys
from pathlib import Path
from schemas.configuration import LstmLayer, Network, Reshape, Training
from schemas.handles import Sequences
from tasks import train as package
from tasks.stage import Advanced, listening
from tasks.train import checkpoint, learner
learner.SEGMENT_SECONDS, checkpoint.LEAST_SECONDS, checkpoint.COST_SHARE = 0.05, 0.1, 0.5
network = Network(layers=(LstmLayer(units=16),), dropout_head=0.2)
training = Training(epochs=6, batch_size=4, learning_rate=0.01)
recipe = package.Recipe(Reshape(timesteps=4), network, training)
def tell(event):
    if isinstance(event, Advanced) and event.total:
        print("at", event.done, event.total, flush=True)
with listening(tell):
    sequences = Sequences.model_validate_json(sys.argv[2])
    model = package.train.fn(Path(sys.argv[1]), sequences, recipe, 2)
print("done", model.model_dump_json(), flush=True)
"""


@dataclass(frozen=True)
class Moment:
    """When a process is killed: so many seconds after it has said that it did these steps, or after its start."""

    seconds: float
    steps: int | None = None


@dataclass
class Life:
    """One process of a training: the steps that it said it did, when it did the first ones, and its model."""

    steps: int = 0
    first: float = 0.0
    model: TrainedModel | None = None


def live(root: Path, sequences: Sequences, moment: Moment | None = None) -> Life:
    """Run a process of a training, to its end or until it is killed."""
    path, born = f"{HERE.parent.parent}:{HERE}", time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), sequences.model_dump_json()],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2", "HOME": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    life = Life()
    death = threading.Timer(moment.seconds if moment else 3600, process.kill)
    waits = bool(moment and moment.steps is not None)
    if not waits:
        death.start()
    assert process.stdout is not None
    for line in process.stdout:
        word, _, rest = line.partition(" ")
        if word == "done":
            life.model = TrainedModel.model_validate_json(rest)
        elif word == "at":
            life.steps, life.first = int(rest.split()[0]), life.first or time.monotonic() - born
            if waits and moment and life.steps >= (moment.steps or 0):
                waits = False
                death.start()
    said = process.communicate(timeout=60)[1]
    death.cancel()
    assert life.model or process.returncode == -signal.SIGKILL, said
    return life


def drawn_moment(chance: random.Random, alone: Life, steps: int) -> Moment:
    """Mostly between two reports of progress ahead of what was done, sometimes while the process starts."""
    if chance.random() < 0.2:
        return Moment(round(chance.uniform(0, alone.first), 3))
    return Moment(round(chance.uniform(0, 0.2), 3), chance.randint(steps, alone.steps))


def kept_history(root: Path, model: TrainedModel) -> History:
    return history_of(Store(root), model)


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * KILLS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL, mostly while it learns, sometimes while it starts, compiles or keeps its model."""
    seed = int(os.environ.get("STEPWISE_KILLS_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)  # noqa: S311
    log.info("STEPWISE_KILLS=%d STEPWISE_KILLS_SEED=%d", KILLS, seed)
    begun = tmp_path / "begun"
    sequences = shaped(begun, 1800)
    shutil.copytree(begun, tmp_path / "undisturbed")
    alone = live(tmp_path / "undisturbed", sequences)
    assert alone.model is not None
    assert kept_history(tmp_path / "undisturbed", alone.model).resumed == ()
    log.info("undisturbed: %d steps, the first after %.1f s", alone.steps, alone.first)
    kills = trainings = 0
    while kills < KILLS:
        trainings += 1
        root = tmp_path / f"training {trainings}"
        shutil.copytree(begun, root)
        life, steps = Life(), 0
        while life.model is None:
            moment = drawn_moment(chance, alone, steps) if kills < KILLS else None
            life = live(root, sequences, moment)
            kills, steps = kills + (life.model is None), max(steps, life.steps)
            log.info("training %d: %s, step %d, %s", trainings, moment, life.steps, "done" if life.model else "killed")
        history = kept_history(root, life.model)
        log.info("training %d: %s, weights %s", trainings, history.resumed, life.model.model.digest)
        assert life.model.model.digest == alone.model.model.digest
        assert timeless(history) == timeless(kept_history(tmp_path / "undisturbed", alone.model))
        assert not list((root / "store" / "partial").iterdir()), "the checkpoints are gone"
