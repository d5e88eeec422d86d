"""The measures against published numbers, definitions spelled out the slow way, and what must hold of any answers."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.errors import DataError
from schemas.metrics import Metrics
from tasks.measures import Tally, measure
from tasks.proportions import wilson

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"class {c}" for c in range(classes))


def certain(predicted: list[int], classes: int) -> Floats:
    return np.eye(classes, dtype=np.float32)[predicted]


@st.composite
def answers(draw: st.DrawFn) -> tuple[Ints, Floats]:
    """Labels (N,) and softmax answers (N, C) float32; some classes may lack samples or predictions."""
    n, classes = draw(st.integers(1, 60)), draw(st.integers(2, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = generator.normal(size=(n, classes)) * draw(st.sampled_from([0.0, 0.3, 2.0, 40.0]))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return generator.integers(0, draw(st.integers(1, classes)), n), p


# published numbers


@pytest.mark.parametrize(
    ("correct", "total", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_table(correct: int, total: int, lower: float, upper: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3: score without continuity correction."""
    assert wilson(correct, total) == pytest.approx((lower, upper), abs=5e-5)


def test_confusion_and_loss_give_scikit_learns_documented_examples() -> None:
    matrix = measure([2, 0, 2, 2, 0, 1], certain([0, 0, 2, 2, 0, 2], 3), names(3)).confusion
    assert matrix == ((2, 0, 0), (0, 0, 1), (1, 0, 2))
    spam = measure([1, 0, 0, 1], [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]], ("ham", "spam"))
    assert spam.loss == pytest.approx(0.21616, abs=5e-6)


def test_classes_give_scikit_learns_documented_classification_report() -> None:
    metrics = measure([0, 1, 2, 2, 2], certain([0, 0, 2, 2, 1], 3), names(3))
    table = [(c.precision, c.recall, c.f1, c.support) for c in metrics.classes]
    assert table == [
        (0.5, 1.0, pytest.approx(0.67, abs=5e-3), 1),
        (0.0, 0.0, 0.0, 1),
        (1.0, pytest.approx(0.67, abs=5e-3), pytest.approx(0.8), 3),
    ]
    assert metrics.accuracy == 0.6
    macro = (metrics.macro.precision, metrics.macro.recall, metrics.macro.f1)
    assert macro == pytest.approx((0.5, 0.56, 0.49), abs=5e-3)


def test_calibration_gives_torchmetrics_documented_example() -> None:
    p = [[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]]
    calibration = measure([0, 1, 2, 0], p, names(3), bins=3).calibration
    assert (calibration.ece, calibration.mce) == pytest.approx((0.2, 0.2333), abs=5e-5)


# definitions, the slow way


@given(answers(), st.integers(2, 20))
def test_every_measure_is_its_definition(data: tuple[Ints, Floats], bins: int) -> None:
    labels, p = data
    metrics = measure(labels, p, names(p.shape[1]), bins=bins, loss="mean-squared-error")
    predicted = [max(range(len(row)), key=lambda c: (row[c], -c)) for row in p.tolist()]
    assert metrics.correct == sum(a == b for a, b in zip(labels.tolist(), predicted, strict=True))
    nats = [-math.log(max(float(row[y]), 1e-12)) for row, y in zip(p, labels, strict=True)]
    assert metrics.loss == pytest.approx(math.fsum(nats) / len(nats), abs=1e-9)
    one_hot = np.eye(p.shape[1])[labels]
    assert metrics.configured_loss.value == pytest.approx(np.mean((p.astype(np.float64) - one_hot) ** 2), abs=1e-6)
    for c, found in enumerate(metrics.classes):
        of_class, taken = labels == c, np.array(predicted) == c
        assert (found.support, found.predicted) == (of_class.sum(), taken.sum())
        assert found.recall == (pytest.approx(taken[of_class].mean()) if of_class.any() else None)
        assert found.precision == (pytest.approx(of_class[taken].mean()) if taken.any() else None)
        if found.precision and found.recall:
            assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


@given(answers(), st.integers(2, 20))
def test_calibration_is_its_definition(data: tuple[Ints, Floats], bins: int) -> None:
    labels, p = data
    calibration = measure(labels, p, names(p.shape[1]), bins=bins).calibration
    confidence = p.max(axis=1).astype(np.float64)
    right = p.argmax(axis=1) == labels
    gaps = []
    for m, found in enumerate(calibration.reliability):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        assert (found.lower, found.upper, found.count) == (m / bins, (m + 1) / bins, inside.sum())
        if found.count:
            assert found.accuracy == pytest.approx(right[inside].mean())
            assert found.confidence == pytest.approx(confidence[inside].mean(), abs=1e-9)
            gaps.append((abs(right[inside].mean() - confidence[inside].mean()), found.count))
        else:
            assert (found.accuracy, found.confidence) == (None, None)
    assert calibration.ece == pytest.approx(sum(gap * n for gap, n in gaps) / len(labels), abs=1e-9)
    assert calibration.mce == pytest.approx(max(gap for gap, _ in gaps), abs=1e-9)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_solves_its_quadratic(correct: int, more: int) -> None:
    n = correct + more
    z2 = 1.959963984540054**2
    share = correct / n
    roots = sorted(np.roots([1 + z2 / n, -(2 * share + z2 / n), share**2]).real)
    assert wilson(correct, n) == pytest.approx(roots, abs=1e-9)
    mirrored = wilson(n - correct, n)
    assert wilson(correct, n) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


# what must hold of any answers


@given(answers())
def test_sums_agree(data: tuple[Ints, Floats]) -> None:
    labels, p = data
    metrics = measure(labels, p, names(p.shape[1]))
    matrix = np.array(metrics.confusion)
    assert matrix.sum() == metrics.samples == len(labels)
    assert matrix.trace() == metrics.correct
    assert matrix.sum(axis=1).tolist() == [c.support for c in metrics.classes]
    assert matrix.sum(axis=0).tolist() == [c.predicted for c in metrics.classes]
    assert sum(b.count for b in metrics.calibration.reliability) == metrics.samples
    support_times_recall = sum((c.recall or 0) * c.support for c in metrics.classes)
    assert support_times_recall / metrics.samples == pytest.approx(metrics.accuracy)
    assert metrics.interval[0] <= metrics.accuracy <= metrics.interval[1]
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics


@given(answers(), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_neither_order_nor_batch_size_shows(data: tuple[Ints, Floats], batch: int, seed: int, worst: int) -> None:
    labels, p = data
    at_once = Tally(names(p.shape[1]), first=3, worst=worst)
    at_once.add(np.arange(len(labels)), labels, p)
    order = np.random.default_rng(seed).permutation(len(labels))
    in_batches = Tally(names(p.shape[1]), first=3, worst=worst)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        in_batches.add(rows, labels[rows], p[rows])
    assert in_batches.samples == at_once.samples == len(labels)
    assert in_batches.metrics() == at_once.metrics()


def test_answers_as_sure_as_they_are_right_have_no_calibration_error() -> None:
    """Of n samples with confidence k / n, k are right, for every k that is more than half."""
    labels, rows = [], []
    for k in range(11, 21):
        labels += [0] * k + [1] * (20 - k)
        rows += [[k / 20, 1 - k / 20]] * 20
    calibration = measure(labels, rows, names(2), bins=20).calibration
    assert calibration.ece == pytest.approx(0, abs=1e-9)
    assert calibration.mce == pytest.approx(0, abs=1e-9)


def test_a_calibrated_source_measures_near_zero_and_an_overconfident_one_does_not() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 200_000)
    labels = (generator.uniform(size=len(confidence)) > confidence).astype(np.int64)
    p = np.column_stack([confidence, 1 - confidence])
    assert measure(labels, p, names(2)).calibration.ece < 0.01
    sharpened = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert measure(labels, sharpened, names(2)).calibration.ece > 0.1


def test_worst_mistakes_are_the_surest_ones_first() -> None:
    p = [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.9, 0.0, 0.1], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]]
    worst = measure([1, 1, 1, 1, 1], p, names(3), first=1, worst=3).worst
    assert [m.index for m in worst] == [2, 0, 4]
    assert (worst[0].label, worst[0].predicted, worst[0].confidence, worst[0].probability_of_label) == (2, 1, 0.9, 0.0)
    assert measure([1, 1], [[0.9, 0.1], [0.9, 0.1]], names(2), worst=0).worst == ()


# edges


def test_what_cannot_be_known_is_none() -> None:
    metrics = measure([0, 0, 0, 2], certain([0, 0, 1, 0], 4), names(4), first=1)
    seen, phantom, missed, absent = metrics.classes
    assert seen.label == 1
    assert (seen.precision, seen.recall) == pytest.approx((2 / 3, 2 / 3))
    assert (phantom.precision, phantom.recall, phantom.f1, phantom.recall_interval) == (0.0, None, 0.0, None)
    assert (missed.precision, missed.recall, missed.f1) == (None, 0.0, 0.0)
    assert missed.recall_interval is not None
    assert (absent.precision, absent.recall, absent.f1, absent.support) == (None, None, None, 0)
    assert metrics.macro.classes == 2
    assert metrics.macro.recall == pytest.approx(1 / 3)
    assert metrics.macro.precision == pytest.approx(1 / 3)


def test_a_label_held_impossible_costs_the_bound_and_not_infinity() -> None:
    metrics = measure([1], certain([0], 2), names(2))
    assert metrics.loss == pytest.approx(-math.log(1e-12))
    assert metrics.interval[0] == 0.0
    assert measure([0], certain([0], 2), names(2)).interval[1] == 1.0


def test_rounding_above_one_is_not_an_error() -> None:
    p = np.array([[1.0000001, 0.0]], np.float32)
    metrics = measure([0], p, names(2))
    assert metrics.calibration.reliability[-1].count == 1
    assert metrics.loss == 0


def test_the_configured_loss_is_the_one_asked_for() -> None:
    p = [[0.8, 0.2]]
    assert measure([0], p, names(2)).configured_loss.model_dump() == {
        "name": "cross-entropy",
        "value": pytest.approx(-math.log(0.8)),
    }
    assert measure([0], p, names(2), loss="mean-squared-error").configured_loss.value == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("labels", "p", "found", "remedy"),
    [
        ([0, 1], [[1, 0]], r"\(2,\) labels .* answers of shape \(1, 2\)", "one probability a class"),
        ([0], [[1, 0, 0]], r"answers of shape \(1, 3\)", "one probability a class"),
        ([2], [[1, 0]], "a label is not a class index", "first label"),
        ([-1], [[1, 0]], "a label is not a class index", "first label"),
        ([0.0], [[1, 0]], "a label is not a class index", "first label"),
        ([0, 0], [[1, 0], [math.nan, 1]], "answer to sample 1 is not a probability", r"\(1 of 2 .*learning_rate"),
        ([0], [[1, 1]], "answer to sample 0 is not a probability", "learning_rate"),
        ([0], [[1.5, -0.5]], "answer to sample 0 is not a probability", "learning_rate"),
        ([], np.zeros((0, 2)), "no answers to measure", "split with samples"),
    ],
)
def test_answers_that_cannot_be_measured_are_refused(labels: object, p: object, found: str, remedy: str) -> None:
    with pytest.raises(DataError, match=f"(?s){found}.*{remedy}"):
        measure(np.asarray(labels), np.asarray(p), names(2))


def test_a_refused_batch_leaves_the_tally_as_it_was() -> None:
    tally = Tally(names(2))
    tally.add([0], [0], [[1, 0]])
    before = tally.metrics()
    with pytest.raises(DataError):
        tally.add([1, 2], [0, 7], [[1, 0], [1, 0]])
    assert tally.metrics() == before


def test_memory_is_flat_in_the_number_of_samples() -> None:
    generator = np.random.default_rng(0)
    labels, p = generator.integers(0, 10, 1000), generator.dirichlet(np.ones(10), 1000)
    tally = Tally(names(10))

    def peak(batches: int) -> int:
        tracemalloc.start()
        for b in range(batches):
            tally.add(np.arange(1000) + 1000 * b, labels, p)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(40) < 1.5 * peak(4)
