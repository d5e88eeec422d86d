"""The study's design: every factorisation, sizes that hang on nothing else, and a budget that adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.design import (
    BUDGET_MINUTES,
    BUDGET_USED,
    EPOCHS,
    REFERENCE_PROCESSORS,
    SCANS,
    StudySettings,
    designed,
    factorisations,
    seconds_of,
    settings_of,
)
from schemas.errors import ConfigurationError
from schemas.study import RECIPES, lstm_parameters, recipe_of

MNIST = (784, 60_000)


def test_the_factorisations_of_mnist_are_the_known_ones() -> None:
    steps = [t for t, _ in factorisations(784)]
    assert steps == [1, 2, 4, 7, 8, 14, 16, 28, 49, 56, 98, 112, 196, 392, 784]


@given(st.integers(1, 5000))
def test_factorisations_are_all_pairs_whose_product_is_the_pixels(pixels: int) -> None:
    pairs = factorisations(pixels)
    assert {(t, f) for t, f in pairs} == {(t, pixels // t) for t in range(1, pixels + 1) if pixels % t == 0}
    assert all(t * f == pixels for t, f in pairs)
    assert [t for t, _ in pairs] == sorted(t for t, _ in pairs)


def test_the_default_study_is_every_setting_once_and_fits_its_budget() -> None:
    points = designed(StudySettings(), *MNIST)
    assert len(points) == len(set(points)) == 15 * len(RECIPES) * len(SCANS) * 3
    minutes = sum(map(seconds_of, points)) / REFERENCE_PROCESSORS / 60
    assert 0.9 * BUDGET_USED * BUDGET_MINUTES < minutes <= BUDGET_USED * BUDGET_MINUTES
    assert {point.epochs for point in points} == {EPOCHS}
    [images] = {point.images for point in points}  # the same for every T, or data would be compared
    assert 10_000 < images < 55_000
    assert {point.held_out for point in points} == {5000}


def test_one_more_seed_adds_its_points_and_changes_none() -> None:
    three, four = designed(StudySettings(), *MNIST), designed(StudySettings(seeds=4), *MNIST)
    assert four[: len(three)] == three
    assert {point.seed for point in four[len(three) :]} == {3}
    assert len(four) - len(three) == len(three) // 3


def test_what_else_is_studied_changes_no_point() -> None:
    every = set(designed(StudySettings(), *MNIST))
    assert set(designed(StudySettings(scans=("columns",), seeds=1, timesteps=(16, 784)), *MNIST)) < every


@pytest.mark.parametrize("factor", [1.1, 2.0, 50.0])
@pytest.mark.parametrize("minutes", [5.0, 30.0, 120.0, 1000.0])
def test_more_time_is_never_fewer_images(minutes: float, factor: float) -> None:
    less, more = (
        designed(StudySettings(budget_minutes=m, seeds=1, scans=("rows",)), *MNIST)[0].images
        for m in (minutes, minutes * factor)
    )
    assert less <= more


def test_all_of_it_is_all_images_and_the_epochs_of_the_question() -> None:
    points = designed(StudySettings(everything=True), *MNIST)
    assert {point.images + point.held_out for point in points} == {60_000}
    assert {point.epochs for point in points} == {15}


def test_a_small_split_is_never_asked_for_more_than_it_has() -> None:
    points = designed(StudySettings(), 24, 120)
    assert {(point.images, point.held_out) for point in points} == {(110, 10)}


@pytest.mark.parametrize(
    ("rows", "images", "epochs"),
    [(60_000, None, 6), (120, None, 455), (60, None, 910), (30, None, 1000), (60_000, 500, 100)],
)
def test_few_images_are_gone_through_more_often(rows: int, images: int | None, epochs: int) -> None:
    assert {point.epochs for point in designed(StudySettings(images=images), 24, rows)} == {epochs}
    assert {point.epochs for point in designed(StudySettings(images=images, epochs=2), 24, rows)} == {2}


def test_a_wrong_t_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigurationError, match=r"T = 5, 9 does not divide the 24 pixels.*1, 2, 3, 4, 6, 8, 12, 24"):
        designed(StudySettings(timesteps=(4, 5, 9)), 24, 600)


def test_a_wrong_scan_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'columns'") as refusal:
        settings_of(scans=("colums",))
    assert "at least 1 item" not in str(refusal.value), "that follows from the wrong one"


def test_the_recipes_differ_in_the_recipe_alone() -> None:
    question, sound = (
        recipe_of(next(p for p in designed(StudySettings(), *MNIST) if p.recipe == recipe)) for recipe in RECIPES
    )
    assert question[0] == sound[0]
    same = {"epochs", "batch_size", "seed", "label_smoothing", "validation_share", "early_stopping"}
    assert all(getattr(question[1], name) == getattr(sound[1], name) for name in same)
    assert (question[1].loss, question[1].scaling, question[1].clip_norm) == ("mean-squared-error", "none", 0.0)
    assert (sound[1].loss, sound[1].scaling, sound[1].clip_norm) == ("cross-entropy", "standard", 1.0)


@pytest.mark.parametrize(("features", "weights"), [(784, 132_000), (49, 14_400), (1, 6_720)])
def test_the_formula_gives_the_known_numbers(features: int, weights: int) -> None:
    assert lstm_parameters(features, 40) == weights
