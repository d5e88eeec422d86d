"""Slices, suspects, floors and repeated images, each against a count that NumPy makes the long way."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_contents import digit

from schemas.configuration import Evaluating
from schemas.handles import Handle, Labels, Sequences, TrainedModel
from schemas.metrics import Metrics
from tasks.evaluate import floors, key_of
from tasks.evaluate.floors import (
    Centred,
    Samples,
    Scale,
    centroid_map,
    epochs_over,
    floors_of,
    logistic_map,
    pieces,
    spread_rows,
)
from tasks.evaluate.slices import MOST_BINS, Quarters, Slices, blank_tail_of
from tasks.evaluate.suspects import SelfConfidence, suspects_among
from tasks.measures import measure
from tasks.predictions import answers_in_batches
from tasks.proportions import wilson
from tasks.repeats import MOST_PAIRS, Images, repeated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Split


@given(
    st.lists(st.tuples(st.integers(-50, 3_000), st.booleans()), min_size=1, max_size=200),
    st.integers(1, 50),
)
@settings(deadline=None)
def test_quarters_are_cut_at_the_quartiles(samples: list[tuple[int, bool]], batch: int) -> None:
    values, right = np.array([v for v, _ in samples]), np.array([r for _, r in samples])
    quarters = Quarters(values.min(), values.max(), whole=True)
    for start in range(0, len(values), batch):
        quarters.add(values[start : start + batch], right[start : start + batch])
    cuts = [-np.inf, *np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"), np.inf]
    inside = [(values > low) & (values <= high) for low, high in itertools.pairwise(cuts)]
    expected = [
        (values[i].min(), values[i].max(), i.sum(), right[i].sum(), wilson(int(right[i].sum()), int(i.sum())))
        for i in inside
        if i.any()
    ]
    assert [(s.lower, s.upper, s.samples, s.correct, s.interval) for s in quarters.slices()] == expected


def test_quarters_of_many_values_are_cut_to_the_width_of_a_bin() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    quarters = Quarters(values.min(), values.max(), whole=False)
    quarters.add(values, values > 0)
    found = quarters.slices()
    width = (values.max() - values.min()) / MOST_BINS
    assert sum(s.samples for s in found) == len(values)
    assert [s.upper for s in found[:3]] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]), abs=2 * width + 1e-3)
    assert all(abs(s.samples - 2_500) <= 2 for s in found)
    assert {bound for s in found for bound in (s.lower, s.upper)} <= {*values.tolist()}, (
        "bounds are values that are there"
    )
    wide = Quarters(0, 10 * MOST_BINS, whole=True)
    wide.add(np.array([0, 5 * MOST_BINS, 10 * MOST_BINS]), np.array([True, True, False]))
    assert [s.correct for s in wide.slices()] == [1, 1, 0]


def test_what_does_not_tell_samples_apart_is_left_out() -> None:
    x = np.full((8, 2, 3), 200, np.uint8)  # no ink differs, no tail is blank
    slices = Slices(x, every_step=False)
    slices.add(np.arange(8), x, np.ones(8, bool))
    assert [slicing.by for slicing in slices.slicings()] == ["half"]


def test_one_value_alone_is_one_quarter() -> None:
    quarters = Quarters(7, 7, whole=True)
    quarters.add(np.full(9, 7), np.arange(9) < 6)
    [only] = quarters.slices()
    assert (only.lower, only.upper, only.samples, only.correct) == (7, 7, 9, 6)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_blank_tail_is_counted_from_the_end(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 2, (20, 9), dtype=np.uint8)
    images[0] = 0
    assert blank_tail_of(images).tolist() == [9 - len(bytes(row).rstrip(b"\0")) for row in images]


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">f4"])
@pytest.mark.parametrize("every_step", [False, True])
def test_slices_of_sequences_are_those_of_their_images(dtype: str, *, every_step: bool) -> None:
    """Whether T images make a sequence or each is one by itself, in whatever batches, and in the half that it is in."""
    generator = np.random.default_rng(3)
    images = (generator.integers(0, 100, (75, 12)) * (generator.random((75, 12)) < 0.5)).astype(dtype)
    right = generator.random(75) < 0.8
    x = images.reshape(25, 3, 12) if every_step else images.reshape(75, 3, 4)
    each = 3 if every_step else 1
    slices = Slices(x, every_step=every_step)
    for start in range(0, len(x), 10):
        rows = np.arange(start * each, min(len(x), start + 10) * each)
        slices.add(rows, x[start : start + 10], right[rows])
    found = {slicing.by: slicing.slices for slicing in slices.slicings()}
    assert [(s.samples, s.correct) for s in found["half"]] == [(38, right[:38].sum()), (37, right[38:].sum())]
    for by, values in (("ink", images.astype(np.float64).sum(axis=1)), ("blank tail", blank_tail_of(images))):
        cut = np.quantile(values, 0.25, method="inverted_cdf")
        lowest = found[by][0]  # type: ignore[index]
        assert (lowest.samples, lowest.correct) == ((values <= cut).sum(), right[values <= cut].sum())
        assert sum(s.samples for s in found[by]) == 75  # type: ignore[index]


def suspects_the_long_way(labels: NDArray[np.int64], p: NDArray[np.float64]) -> set[tuple[int, int]]:
    """Confident learning as written down, sample by sample."""
    classes = p.shape[1]
    thresholds = [p[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(classes)]
    found = set()
    for row, label in enumerate(labels):
        over = [j for j in range(classes) if p[row, j] >= thresholds[j]]
        if over and p[row].argmax() != label:
            likely = max(over, key=lambda j: p[row, j])
            if likely != label:
                found.add((row, likely))
    return found


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(deadline=None)
def test_suspects_are_those_of_confident_learning(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, 80)
    labels[labels == classes - 1] = seed % classes  # a class may have no samples
    logits = generator.normal(size=(80, classes)) * 2
    logits[np.arange(80), labels] += 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence = SelfConfidence(classes)
    for start in range(0, 80, 30):
        confidence.add(labels[start : start + 30], p[start : start + 30])
    batches = [(np.arange(s, min(s + 33, 80)), labels[s : s + 33], p[s : s + 33]) for s in range(0, 80, 33)]
    found = suspects_among(batches, confidence.thresholds(), first=3, most=1_000)
    expected = suspects_the_long_way(labels, p)
    assert {(s.index, s.suggested - 3) for s in found.worst} == expected
    assert found.count == len(expected)
    doubts = [s.probability_of_suggested - s.probability_of_label for s in found.worst]
    assert doubts == sorted(doubts, reverse=True)
    few = suspects_among(batches, confidence.thresholds(), first=3, most=2)
    assert few.worst == found.worst[:2]
    assert few.count == found.count


def test_a_label_that_was_changed_is_suspected() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 500)
    p = np.full((500, 4), 0.01)
    p[np.arange(500), labels] = 0.97
    written = labels.copy()
    changed = [7, 99, 250]
    written[changed] = (labels[changed] + 1) % 4
    confidence = SelfConfidence(4)
    confidence.add(written, p)
    found = suspects_among([(np.arange(500), written, p)], confidence.thresholds())
    assert [(s.index, s.suggested) for s in found.worst] == [(row, labels[row]) for row in changed]


def test_answers_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    p = np.random.default_rng(2).random((9_000, 3)).astype(np.float32)
    columns = {
        "index": pa.array(np.arange(9_000)),
        "label": pa.array((np.arange(9_000) % 3 + 5).astype(np.int32)),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(p.reshape(-1)), 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    index, labels, answers = (
        np.concatenate(part) for part in zip(*answers_in_batches(tmp_path / "p.parquet", 5), strict=True)
    )
    assert (index == np.arange(9_000)).all()
    assert (labels == np.arange(9_000) % 3).all()
    assert (answers == p).all()


def blobs(n: int, seed: int, dtype: str = "u1") -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Images (n, 5, 6) of four classes, each brighter in a place of its own."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) * 7 % 4).astype(np.int32)
    images = generator.integers(0, 120, (n, 30))
    for k in range(4):
        images[labels == k, 7 * k : 7 * k + 7] += 60
    return images.reshape(n, 5, 6).astype(dtype), labels


def test_the_nearest_centroid_is_the_nearest() -> None:
    x, labels = blobs(300, 0)
    images = x.reshape(300, 30)
    scale = Scale.of(images, np.arange(300))
    centred = Centred.of(images, np.arange(300), scale)
    weights, bias = centroid_map(images, labels, np.arange(300), centred, 5)
    means = np.stack([images[labels == k].mean(axis=0) for k in range(4)])
    test = blobs(200, 9)[0].reshape(200, 30)
    distances = ((test[:, None] - means) ** 2).sum(axis=2)
    assert ((centred(test) @ weights + bias).argmax(axis=1) == distances.argmin(axis=1)).all()
    assert bias[4] == -np.inf  # no training images of it


@pytest.mark.parametrize(
    ("dtype", "ground", "outlier"), [(">i2", 40, 32_767), (">i4", 40, 100_000), (">f4", 1_000.0, -1e5), ("u1", 40, 255)]
)
def test_one_extreme_pixel_does_not_blur_the_centroids(dtype: str, ground: float, outlier: float) -> None:
    """Scaled to the range of all values, the others lie together, far from 0: of their products nothing is left."""
    generator = np.random.default_rng(4)
    labels = np.arange(800) % 4
    images = ground + generator.normal(scale=20, size=(800, 196)) + 4 * generator.normal(size=(4, 196))[labels]
    images[[0, 5], [7, 90]] = outlier, -outlier if dtype != "u1" else 0
    images = images.clip(0, 255).astype(dtype) if dtype == "u1" else images.astype(dtype)
    train, test = images[:400], images[400:]
    means = np.stack([train[labels[:400] == k].astype("f8").mean(axis=0) for k in range(4)])
    right = (((test[:, None].astype("f8") - means) ** 2).sum(axis=2).argmin(axis=1) == labels[400:]).sum()
    found, _ = floors_of(Samples(train[:, None], labels[:400]), Samples(test[:, None], labels[400:]), 4)
    assert found.correct == pytest.approx(right, abs=2)
    assert 120 < right < 400


def test_logistic_regression_is_the_recipe_of_its_docstring() -> None:
    """Against the same steps in float64, one sample at a time."""
    x, labels = blobs(70, 1)
    images = x.reshape(70, 30)
    rows, scale = np.arange(70), Scale(0.0, 255.0)
    found, found_bias = logistic_map(images, labels, rows, Centred.of(images, rows, scale), 4)
    scaled = images / 255
    gain = floors.DEVIATION / (scaled - scaled.mean(axis=0)).std()
    centred = (scaled - scaled.mean(axis=0)) * gain
    weights, bias = np.zeros((30, 4)), np.zeros(4)
    moving, moving_bias = np.zeros_like(weights), np.zeros_like(bias)
    generator = np.random.Generator(np.random.PCG64(floors.SEED))
    for epoch in range(floors.LEAST_STEPS):  # 70 images are one batch
        gradient, gradient_bias = np.zeros_like(weights), np.zeros_like(bias)
        for row in generator.permutation(70):
            z = centred[row] @ weights + bias
            p = np.exp(z) / np.exp(z).sum() - np.eye(4)[labels[row]]
            gradient, gradient_bias = gradient + np.outer(centred[row], p) / 70, gradient_bias + p / 70
        rate = floors.RATE * (1 - epoch / floors.LEAST_STEPS)
        moving, moving_bias = (
            floors.MOMENTUM * moving + rate * gradient,
            floors.MOMENTUM * moving_bias + rate * gradient_bias,
        )
        weights, bias = weights - moving, bias - moving_bias
    assert found == pytest.approx(weights, abs=1e-3)
    assert found_bias == pytest.approx(bias, abs=1e-3)


def digits(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Noisy digits (n, 28, 28) on dark ground."""
    labels, noise = np.arange(n) % 10, np.random.default_rng(seed).integers(0, 180, (n, 28, 28))
    images = np.array([digit(row % 10, seed + row) for row in range(n)]) // 4 + noise * 3 // 4
    return images.astype(np.uint8), labels.astype(np.int32)


def test_light_ground_and_little_contrast_make_no_difference() -> None:
    (train, labels), (test, test_labels) = digits(800, 0), digits(400, 10_000)

    def reached(shade: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> float:
        _, logistic = floors_of(Samples(shade(train), labels), Samples(shade(test), test_labels), 10)
        return logistic.accuracy

    dark = reached(lambda x: x)
    assert 0.8 < dark < 1, "or nothing was tested"
    assert reached(lambda x: 255 - x) == pytest.approx(dark, abs=0.005)
    assert reached(lambda x: 200 + x // 5) == pytest.approx(dark, abs=0.02)  # a fifth of the shades is left


def test_few_images_are_fitted_too() -> None:
    """400 are one batch: without more epochs there would be eight steps, too few for labels that follow nothing."""
    images, labels = digits(400, 0)
    drawn = np.random.default_rng(1).permutation(labels)
    _, logistic = floors_of(Samples(images, drawn), Samples(images, drawn), 10)
    assert logistic.accuracy == 1


@pytest.mark.parametrize("value", [0, 255])
def test_images_that_do_not_differ_are_answered_by_the_commonest_class(value: int) -> None:
    images, labels = np.full((30, 3, 4), value, np.uint8), np.repeat([0, 1, 1], 10).astype(np.int32)
    _, logistic = floors_of(Samples(images, labels), Samples(images, labels), 2)
    assert logistic.correct == 20


@pytest.mark.parametrize("dtype", ["u1", ">i4", ">f8"])
def test_floors_count_right_answers_and_are_the_same_again(dtype: str) -> None:
    train, test = Samples(*blobs(4_000, 2, dtype)), Samples(*blobs(500, 3, dtype))
    found = floors_of(train, test, 4)
    assert [floor.name for floor in found] == ["nearest centroid", "logistic regression"]
    for floor in found:
        assert floor.accuracy == floor.correct / 500
        assert floor.accuracy > 0.85
        assert floor.interval == wilson(floor.correct, 500)
        assert floor.trained_on == 4_000
    assert floors_of(train, test, 4) == found


def test_frames_have_the_floors_of_their_images() -> None:
    (x, labels), (test, test_labels) = blobs(400, 4), blobs(60, 5)
    alone = floors_of(Samples(x, labels), Samples(test, test_labels), 4)
    framed = Samples(x.reshape(100, 4, 30), labels.reshape(100, 4))
    tested = Samples(test.reshape(15, 4, 30), test_labels.reshape(15, 4))
    assert floors_of(framed, tested, 4) == alone


@pytest.mark.parametrize(
    ("images", "pixels", "classes", "seen"),
    [
        (60_000, 784, 10, 60_000),
        (240_000, 784, 10, 60_000),
        (10, 10**9, 10, 1),
        (60_000, 784, 400, 60_000),
        (60_000, 784, 1_000, 24_000),
    ],
)
def test_no_more_images_are_seen_than_are_allowed(images: int, pixels: int, classes: int, seen: int) -> None:
    rows = spread_rows(images, pixels, classes)
    assert len(rows) == len(np.unique(rows)) == seen
    assert rows.max() < images
    assert set(np.diff(rows)) <= {images // seen, -(-images // seen)}


def test_few_large_images_of_many_classes_are_not_seen_without_end() -> None:
    assert epochs_over(60_000, 784, 10) == epochs_over(60_000, 784, 400) == floors.EPOCHS
    assert epochs_over(300, 784, 10) == floors.LEAST_STEPS
    assert floors.EPOCHS < epochs_over(300, 150_528, 100) < floors.LEAST_STEPS
    assert epochs_over(300, 150_528, 1_000) == floors.EPOCHS


@pytest.mark.parametrize(
    ("rows", "pixels", "classes"), [(512, 784, 200), (90, 3_072, 65), (40, 16_384, 10), (1, 784, 62), (300, 5, 2)]
)
def test_products_are_cut_into_pieces_for_one_thread_that_are_not_thin(rows: int, pixels: int, classes: int) -> None:
    taken = np.zeros((rows, pixels, classes), np.int8)
    for high, wide, some in pieces(rows, pixels, classes):
        piece = taken[some, high, wide]
        piece += 1
        assert piece.size <= 1 << 18
        assert piece[0].size < 9_216, "with a single image OpenBLAS would share it"
        assert len(piece) >= 32 or some.stop >= rows, "each weight would be fetched for a few images"
    assert (taken == 1).all()


def test_products_for_ten_classes_of_784_pixels_are_cut_along_images_alone() -> None:
    """So that MNIST has the floors of earlier versions to the last bit."""
    cuts = [(images.start, images.stop) for _, _, images in pieces(512, 784, 10)]
    assert cuts == [(start, start + 33) for start in range(0, 512, 33)]


@pytest.mark.parametrize(("pixels", "classes"), [(300, 150), (9_000, 3)])
def test_products_in_pieces_are_the_products(pixels: int, classes: int) -> None:
    generator = np.random.default_rng(5)
    x, weights, error = (
        generator.normal(size=size).astype(np.float32) for size in [(70, pixels), (pixels, classes), (70, classes)]
    )
    exact = x.astype(np.float64)
    np.testing.assert_allclose(floors._outputs(x, weights), exact @ weights, atol=1e-3)
    np.testing.assert_allclose(floors._summed(x, error), exact.T @ error, atol=1e-3)


@pytest.mark.slow
def test_many_classes_have_the_same_floors_whatever_the_number_of_threads() -> None:
    alone = """
import hashlib
import numpy as np
from tasks.evaluate import floors

floors.LEAST_STEPS = 0
images = np.random.default_rng(0).integers(0, 256, (700, 300), dtype=np.uint8)
rows = np.arange(700)
centred = floors.Centred.of(images, rows, floors.Scale(0.0, 255.0))
found = floors.logistic_map(images, rows % 150, rows, centred, 150)
print(hashlib.sha256(b"".join(each.tobytes() for each in found)).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", alone],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)},
        ).stdout
        for threads in (1, 2)
    }
    assert len(digests) == 1


def rows_of(images: NDArray[np.uint8], labels: NDArray[np.int32], batch: int = 17) -> Images:
    kept = Images()
    for start in range(0, len(images), batch):
        kept.add(images[start : start + batch], labels[start : start + batch])
    return kept


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_repeated_images_are_counted_as_by_hand(seed: int) -> None:
    generator = np.random.default_rng(seed)
    train, test = (generator.integers(0, 3, (n, 3), dtype=np.uint8) for n in (40, 25))
    labels, test_labels = (generator.integers(0, 2, n).astype(np.int32) for n in (40, 25))
    leak, within, within_test = repeated(rows_of(train, labels), rows_of(test, test_labels))
    first = {bytes(row): i for i, row in reversed([*enumerate(train)])}
    first_test = {bytes(row): i for i, row in reversed([*enumerate(test)])}
    expected = [
        (leak, [(first[bytes(r)], i) for i, r in enumerate(test) if bytes(r) in first], labels, test_labels),
        (within, [(first[bytes(r)], i) for i, r in enumerate(train) if first[bytes(r)] != i], labels, labels),
        (within_test, [(first_test[bytes(r)], i) for i, r in enumerate(test) if first_test[bytes(r)] != i],
         test_labels, test_labels),
    ]  # fmt: skip
    for found, pairs, ones, others in expected:
        assert found.rows == len(pairs)
        assert found.disagreeing == sum(ones[a] != others[b] for a, b in pairs)
        assert [(p.first, p.second) for p in found.pairs] == pairs[:MOST_PAIRS]
        assert all((p.first_label, p.second_label) == (ones[p.first], others[p.second]) for p in found.pairs)
    assert (leak.of, within.of, within_test.of) == (25, 40, 25)


def test_rows_are_told_apart_by_sha256() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 50), dtype=np.uint8)
    digests = rows_of(images, np.zeros(20, np.int32)).digests
    assert [row.tobytes() for row in digests] == [hashlib.sha256(row.tobytes()).digest()[:16] for row in images]
    nothing = repeated(Images(), Images())
    assert [found.rows for found in nothing] == [0, 0, 0]


def test_metrics_of_earlier_versions_can_be_read() -> None:
    metrics = measure(np.array([0, 1]), np.eye(2, dtype=np.float32), ("a", "b"))
    earlier = metrics.model_dump(mode="json", exclude={"slices", "suspects", "floors"})
    assert Metrics.model_validate(earlier) == metrics
    assert metrics.suspects is None


def test_the_training_images_are_part_of_what_an_evaluation_depends_on() -> None:
    def handle(digest: str, *shape: int) -> Handle:
        return Handle(kind="sequences", place="p", digest=digest, rows=1, shape=shape, dtype="|u1", files={})

    def sequences(split: Split, x: str, targets: str, *shape: int) -> Sequences:
        return Sequences(
            split=split,
            x=handle(x, *shape),
            targets=handle(targets, shape[0]),
            receipt=handle("r", 1),
            labels=Labels(first=0, classes=2, names=("a", "b")),
            image_shape=(2, 3),
        )

    trained = TrainedModel(model=handle("w", 1), history=handle("h", 1), counts={})
    test = sequences("test", "x", "t", 4, 2, 3)
    trainings = [
        None,
        sequences("train", "a", "b", 8, 2, 3),
        sequences("train", "c", "b", 8, 2, 3),
        sequences("train", "a", "d", 8, 2, 3),
        sequences("train", "a", "b", 4, 4, 3),
    ]
    keys = [key_of(test, trained, Evaluating(), "cross-entropy", training).digest for training in trainings]
    assert len(set(keys)) == len(trainings)
    renamed = test.model_copy(update={"labels": Labels(first=0, classes=2, names=("a", "c"))})
    assert key_of(renamed, trained, Evaluating(), "cross-entropy").digest not in keys
