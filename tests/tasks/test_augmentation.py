"""Augmentation: what is moved is what Keras' own affine transform moves, in every scan and layout; the rest stays."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.configuration import Augmentation, LstmLayer, Network, Reshape, Training
from schemas.errors import ConfigurationError
from tasks.network import Moments, build
from tasks.scan import scan_order
from tasks.train.augmentation import Augmenter
from tasks.train.engine import fit
from tasks.train.learner import Examples, Learner

HEIGHT, WIDTH = 6, 10
ITEM = (HEIGHT, WIDTH)
SCANS = [Reshape(scan="rows"), Reshape(scan="columns"), Reshape(scan="permuted", scan_seed=4)]
draw = st.floats(0, 1, exclude_max=True, width=32)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, *ITEM), dtype=np.uint8)


def scanned(batch: np.ndarray, reshape: Reshape, steps: int = 5) -> np.ndarray:
    return batch.reshape(len(batch), -1)[:, scan_order(reshape, ITEM)].reshape(len(batch), steps, -1)


def moved(augmenter: Augmenter, x: np.ndarray, draws: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    return augmenter.moved(tf.constant(x), tf.constant(draws)).numpy()


def by_keras(batch: np.ndarray, augmentation: Augmentation, draws: np.ndarray) -> np.ndarray:
    """Keras takes the eight numbers of a projection, in the order across, down, from a place to its source."""
    import keras

    signed = 2 * draws.astype(np.float64) - 1
    angle = np.radians(signed[:, 2] * augmentation.rotation)
    cosine, sine, none = np.cos(angle), np.sin(angle), np.zeros(len(batch))
    middle_down, middle_across = (HEIGHT - 1) / 2, (WIDTH - 1) / 2
    down, across = middle_down + signed[:, 0] * augmentation.shift, middle_across + signed[:, 1] * augmentation.shift
    offset_across = middle_across - cosine * across + sine * down
    offset_down = middle_down - sine * across - cosine * down
    numbers = np.stack([cosine, -sine, offset_across, sine, cosine, offset_down, none, none], 1)
    image = keras.ops.image.affine_transform(
        batch[..., None].astype(np.float64),
        numbers,
        interpolation="bilinear",
        fill_mode="nearest",
        data_format="channels_last",
    )
    return np.asarray(image)[..., 0]


@pytest.mark.slow
@settings(deadline=None)  # the first call compiles
@given(
    draws=st.lists(st.tuples(draw, draw, draw), min_size=4, max_size=4), shift=st.floats(0, 3), turn=st.floats(0, 90)
)
def test_images_are_moved_as_keras_moves_them(
    draws: list[tuple[float, float, float]], shift: float, turn: float
) -> None:
    asked, batch, these = Augmentation(shift=shift, rotation=turn), images(4), np.array(draws, np.float32)
    found = moved(Augmenter(asked, Reshape(), ITEM), scanned(batch, Reshape()), these)
    # A source is known to 1e-5 of a pixel in float32, and neighbours differ by up to 255.
    assert found.reshape(batch.shape) == pytest.approx(by_keras(batch, asked, these), abs=0.02)


@pytest.mark.parametrize("reshape", SCANS, ids=lambda reshape: reshape.scan)
def test_nothing_asked_leaves_every_pixel_as_it_was(reshape: Reshape) -> None:
    x = scanned(images(5), reshape)
    still = Augmenter(Augmentation(shift=0, rotation=0), reshape, ITEM)
    assert (moved(still, x, np.full((5, 3), 0.9, np.float32)) == x).all()


@pytest.mark.parametrize("reshape", SCANS[1:], ids=lambda reshape: reshape.scan)
def test_a_scan_is_moved_as_the_image_it_came_from(reshape: Reshape) -> None:
    asked, batch = Augmentation(shift=3, rotation=40), images(5)
    draws = np.random.default_rng(1).random((5, 3), np.float32)
    rows = moved(Augmenter(asked, Reshape(), ITEM), scanned(batch, Reshape()), draws)
    other = moved(Augmenter(asked, reshape, ITEM), scanned(batch, reshape), draws)
    assert other == pytest.approx(scanned(rows.reshape(batch.shape), reshape), abs=1e-3)


def test_every_frame_is_moved_by_a_draw_of_its_own() -> None:
    """Three sequences of four images each: twelve draws, and each image as it would be alone."""
    asked, batch = Augmentation(), images(12)
    augmenter = Augmenter(asked, Reshape(layout="frames", timesteps=4), ITEM)
    assert augmenter.draws_shape(3, 4, HEIGHT * WIDTH) == (12, 3)
    draws = np.random.default_rng(2).random((12, 3), np.float32)
    together = moved(augmenter, batch.reshape(3, 4, -1), draws)
    alone = moved(Augmenter(asked, Reshape(), ITEM), batch, draws)
    assert together.reshape(alone.shape) == pytest.approx(alone, abs=1e-3)


def learned(augmentation: Augmentation | None) -> tuple[Examples, list[np.ndarray], list[int]]:
    training = Training(epochs=2, batch_size=7, label_smoothing=0, augmentation=augmentation, scaling="unit")
    x, y = scanned(images(40), Reshape()), np.arange(40, dtype=np.int32) % 3
    model = build(
        Network(layers=(LstmLayer(units=5),)), Reshape(), training, x.shape[1:], 3, Moments.of(x, training.scaling)
    )
    augmenter = Augmenter(augmentation, Reshape(), ITEM) if augmentation else None
    data = Examples(x, y, np.arange(30), np.arange(30, 40), 3, augmenter)
    before = x.copy()
    history = fit(model, data, training, 2, time.monotonic(), lambda *_: None)
    assert (x == before).all()
    return data, model.get_weights(), [epoch.seen for epoch in history.epochs]


@pytest.mark.slow
def test_moved_images_are_counted_as_the_images_they_are_and_equal_trainings_give_equal_bytes() -> None:
    (_, weights, seen), (_, again, _), (_, plain, _) = (
        learned(asked) for asked in (Augmentation(), Augmentation(), None)
    )
    assert seen == [30, 30]
    assert all((one == other).all() for one, other in zip(weights, again, strict=True))
    assert any((one != other).any() for one, other in zip(weights, plain, strict=True))


@pytest.mark.slow
def test_draws_differ_between_trainings_epochs_steps_and_replicas_and_fill_their_range() -> None:
    import tensorflow as tf

    data, *_ = learned(Augmentation())
    model = build(Network(layers=(LstmLayer(units=2),)), Reshape(), Training(), data.x.shape[1:], 3, Moments(1, 0))
    learners = [Learner(model, data, Training(batch_size=20, seed=seed), replicas=2) for seed in (20, 21)]
    every = itertools.product(learners, (1, 2), range(20), range(2))
    draws = np.stack(
        [each._moves(each._seed(tf.constant(number), tf.constant(t), k)).numpy() for each, number, t, k in every]
    )
    assert len(np.unique(draws)) > 0.99 * draws.size
    assert (draws.min(), draws.max()) == pytest.approx((0, 1), abs=0.01)
    assert draws.mean((0, 1)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("item", [(1, HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (HEIGHT, 1, WIDTH)])
@pytest.mark.parametrize("reshape", SCANS, ids=lambda reshape: reshape.scan)
def test_axes_of_size_1_do_not_count(item: tuple[int, ...], reshape: Reshape) -> None:
    asked, x = Augmentation(shift=3, rotation=40), scanned(images(5), reshape)
    draws = np.random.default_rng(1).random((5, 3), np.float32)
    as_rows = moved(Augmenter(asked, reshape, ITEM), x, draws)
    assert (moved(Augmenter(asked, reshape, item), x, draws) == as_rows).all()


def test_images_are_not_moved_out_of_sight() -> None:
    Augmenter(Augmentation(shift=3), Reshape(), ITEM)
    with pytest.raises(
        ConfigurationError, match=r"shift = 3.5 for images of 6 × 10 pixels. Expected: at most half .* 3"
    ):
        Augmenter(Augmentation(shift=3.5), Reshape(), ITEM)


@pytest.mark.parametrize("item", [(60,), (1, 60, 1), (6, 10, 3), (3, 6, 10)])
def test_images_that_are_not_rows_and_columns_are_not_moved(item: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"training.augmentation for images of shape \("):
        Augmenter(Augmentation(), Reshape(), item)
