"""The benchmarks' own code on tiny sizes, without the peers' environments: so that they run when they are needed."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import (
    accuracy,
    digits,
    matmul,
    measure,
    overhead,
    predict,
    promotion,
    scale,
    scale_stages,
    training,
    training_own,
    workers,
)
from benchmarks import training_peers as peers
from benchmarks.commands import Cost, costed
from benchmarks.run_split import Split
from schemas.champion import Demands
from schemas.configuration import RunConfiguration

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TINY = training.Problem(
    name="tiny",
    steps=4,
    features=6,
    units=5,
    batch=16,
    optimizer="adam",
    loss="cross-entropy",
    clip_norm=1.0,
    scaled=True,
    samples=72,  # the last batch is not full
    learning_rate=0.05,
    aim="none",
)
GIVEN = dataclasses.asdict(TINY)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What benchmarks keep goes to the test's own folder."""
    for module in (measure, scale, workers):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    return tmp_path


def samples(item: tuple[int, ...] = (4, 6), n: int = TINY.samples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images that are brighter the higher their class, and labels of all classes."""
    labels = (np.arange(n) % 10).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 20, (n, *item))
    return (noise + 23 * labels.reshape(-1, *[1] * len(item))).astype(np.uint8), labels


def kept(name: str, folder: Path) -> dict[str, Any]:
    assert (folder / f"{name}.png").stat().st_size > 1000
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert content["machine"]["packages"]["tensorflow"]
    return content


@pytest.mark.slow
def test_training_is_compared_in_rounds_and_every_arm_learns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = samples()
    place = training.sequences(TINY, x, y, folder)
    arms = {
        training.BASE: training_own.epochs(GIVEN, np.load(place / "x.npy"), np.load(place / "y.npy")),
        "Keras fit": peers.arm_of("keras", GIVEN, place),
        training.MATMUL: matmul.rate((64,), 1e6),
    }
    times = training.compared(TINY, arms, 2, absent={"JAX": "not here"})
    assert {name: len(seconds) for name, seconds in times.items()} == {training.BASE: 2, "Keras fit": 2}
    content = kept("training-tiny", folder)
    for losses in content["losses"].values():
        assert len(losses) == 3
        assert losses[-1] < losses[0]
    first, last = content["losses"][training.BASE][0], content["losses"]["Keras fit"][0]
    assert first == pytest.approx(last, rel=0.2)  # the same problem, from other weights
    assert set(content["share_of_matmul"]) == set(times)
    assert content["absent"] == {"JAX": "not here"}
    assert "seconds scaled to 60,000" in capsys.readouterr().out


def test_the_floating_point_operations_are_those_of_the_issue() -> None:
    problem = training.PROBLEMS["28x28"]
    assert problem.flop == 60_000 * 3 * 8 * 128 * (28 + 128) * 28


@pytest.mark.slow
def test_the_first_step_is_told_in_parts_that_add_up() -> None:
    x, y = samples()
    parts = training_own.first_step(GIVEN, x, y.astype(np.int32))
    whole = parts.pop("to first step")
    assert sum(parts.values()) - parts["stage and Prefect"] == pytest.approx(whole)
    assert min(parts.values()) >= 0


def test_a_worker_that_ends_says_its_last_words(folder: Path) -> None:
    said = "import sys; input(); print(3.5, flush=True); input(); sys.exit('no more')"
    with workers.Worker("short", [sys.executable, "-c", said]) as worker:
        assert worker.ask() == 3.5
        with pytest.raises(workers.WorkerError, match="status 1: no more"):
            worker.ask()
    assert (folder / "short.log").read_text() == "no more\n"


@pytest.mark.slow
def test_every_stage_is_measured_as_work_grows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = scale.chain(samples((28, 28)), 60, scale_stages.measured, test_rows=20)
    figures = scale.report_growth({60: {stage: [answer] for stage, answer in told.items()}})
    assert set(figures) == set(scale_stages.STAGES)
    assert all(answer["seconds"] > 0 < answer["peak MiB"] for answer in told.values())
    assert kept("scale", folder)["sizes"] == [60]
    assert re.search(r"reshape +\d", capsys.readouterr().out)


def test_growth_is_held_against_a_straight_line() -> None:
    sizes = [1_000_000, 2_000_000, 4_000_000]
    assert scale.off_the_line(sizes, [3.0, 5.0, 9.0]) == 0
    assert scale.marginal(sizes, [3.0, 5.0, 9.0]) == [2.0, 2.0]
    assert scale.off_the_line(sizes, [3.0, 10.0, 9.0]) == 1.0


@pytest.mark.slow
def test_prediction_is_compared_with_its_products(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "FEW", 20)
    problem = predict.problem_of(RunConfiguration())
    assert problem == {"steps": 28, "features": 28, "units": 128, "classes": 10}
    bare = matmul.answering({**problem, "units": 8}, batches=(32,), sequences=64)

    def copied(images: Path) -> Cost:
        command = [sys.executable, "-c", "import sys; print(len(open(sys.argv[1], 'rb').read()))", images]
        cost = costed(command, {})
        assert int(cost.answer) == 16 + 784 * int(images.name.partition("-")[0])
        return cost

    times = predict.compared(folder, samples((28, 28))[0], 300, copied, lambda: bare()["seconds a thousand"], 1)
    assert [len(seconds) for seconds in times.values()] == [1, 1, 1]
    content = kept("predict", folder)
    assert content["images"] == 300
    assert min(content["peak_mebibytes"]["many"]) > 1


def test_what_a_run_costs_outside_training_downloads_and_imports() -> None:
    steps = [
        {"step": "download train images", "seconds": 2.0, "reused": False},
        {"step": "download test images", "seconds": 1.5, "reused": False},
        {"step": "parse train", "seconds": 1.0, "reused": False},
        {"step": "train", "seconds": 30.0, "reused": False},
    ]
    assert Split(50.0, steps).outside(imports=3.0) == 15.0


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="ended with 7: so it is"):
        costed([sys.executable, "-c", "print('so it is'); raise SystemExit(7)"], {})


def test_files_repeat_the_samples_and_hold_as_many_as_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.idx import read_idx

    monkeypatch.setattr(digits, "PIECE", 7)
    images, _ = samples((2, 2), 10)
    path = digits.write_repeated(folder / "file", images, 25)
    assert np.array_equal(read_idx(path), np.resize(images, (25, 2, 2)))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)  # a dozen runs in processes of their own
def test_a_run_in_which_nothing_changed_is_measured_beside_an_empty_flow(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "FOLDER", folder)
    overhead.main(measure.Options(repeat=1, preset="smoke"))
    for way in overhead.WAYS:
        content = kept(f"overhead-{way}", folder)
        assert content["tasks"] == 15
        assert set(content["seconds"]) == {f"{overhead.EMPTY}, {way}", f"{overhead.UNCHANGED}, {way}"}
        assert content["tensorflow_imported_where_nothing_changed"] is False
    assert kept("overhead-cold-smoke", folder)["median"]["outside of these"] > 0
    assert all(0 < values[0] < 60 for values in kept("overhead-flow", folder)["seconds"].values())


@pytest.mark.parametrize("gain", [0, promotion.GAIN])
def test_models_are_promoted_as_often_as_promised(gain: float) -> None:
    found = promotion.model_pairs(1000, 10_000, gain)
    error = (found.promised * (1 - found.promised) / 1000) ** 0.5
    assert abs(found.share - found.promised) < 4 * error
    assert gain or found.promised < Demands().error_rate


def test_a_champion_of_equal_models_is_seldom_replaced() -> None:
    assert promotion.in_a_row(1000, 10_000).share <= Demands().error_rate


def test_the_power_of_the_test_in_a_case_to_be_counted_by_hand() -> None:
    """Five images, each right with the new model alone by 9 in 10: only five of five convince at 5 %."""
    assert promotion.power(5, 0.9, 0.1 - 1e-12, 0.05) == pytest.approx(0.9**5)


def measured(seed: int, correct: int) -> accuracy.Measured:
    return accuracy.Measured(
        "2026-01-02", "abc", "test images", "mnist", "rows", "", "abcd", seed, 8, 10, 60, 10_000, correct
    )


def test_seeds_are_told_with_their_spread_and_the_interval_of_one() -> None:
    said = accuracy.told([measured(20, 9900), measured(21, 9910), measured(22, 9920)])
    assert said.strip() == (
        "test images, mnist, rows, abcd\n  mean of 3: 99.10%, from 99.00% to 99.20% (standard deviation 0.10%); "
        "95 % interval of one by its 10,000 images: 98.90% to 99.27%"
    )
    assert "mean of 1: 99.00%, from 99.00% to 99.00%; 95 %" in accuracy.told([measured(20, 9900)])


def test_every_evaluation_is_a_line_and_one_found_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "RECORD", tmp_path / "accuracy.csv")
    found = [measured(20, 9900), dataclasses.replace(measured(21, 9910), anew=False), measured(22, 9920)]
    assert accuracy.trained_with(range(3), lambda seed: found[seed]) == found
    header, *lines = (tmp_path / "accuracy.csv").read_text().splitlines()
    assert header.split(",")[:4] == ["when", "revision", "measured_on", "dataset"]
    assert [line.split(",")[-1] for line in lines] == ["9900", "9920"]
    assert "anew" not in header
    assert accuracy.recorded() == [[found[0], found[2]]]
    accuracy.record(dataclasses.replace(found[0], correct=9800))
    accuracy.record(dataclasses.replace(found[2], recipe="another"))
    of_the_last, of_another = accuracy.recorded()
    assert [line.correct for line in of_the_last] == [9800, 9920]
    assert [line.recipe for line in of_another] == ["another"]


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_preset_is_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, held_out: bool) -> None:
    """Of the 12,000 images that the project draws to train with a sixth is held out: as many as it draws to test."""
    monkeypatch.setattr(accuracy, "RECORD", tmp_path / "accuracy.csv")
    monkeypatch.setattr(accuracy, "FOLDER", tmp_path)
    options = measure.Options(
        preset="smoke", dataset="glyphs", seeds=1, held_out=held_out, settings=("training.epochs=1",)
    )
    accuracy.main(options)
    if not held_out:
        accuracy.main(options)  # finds what it did, and does not write it down again
    [line] = csv.DictReader((tmp_path / "accuracy.csv").read_text().splitlines())
    assert (line["measured_on"], line["images"]) == ("held out" if held_out else "test images", "2000")
    assert (line["preset"], line["settings"], line["seed"], line["epochs"]) == ("smoke", "training.epochs=1", "20", "1")
    assert 400 < int(line["correct"]) <= 2000
