"""The train stage: what its key is made of, and that no epoch's count is passed over. Learning is in test_engine.py."""

from __future__ import annotations

import pytest

from schemas.configuration import Augmentation, EarlyStopping, Network, Reshape, Training
from schemas.errors import ConfigurationError
from schemas.handles import Handle, Labels, Sequences
from schemas.history import Epoch, History
from tasks.train import Recipe, Terms, held_out, key_of, seen_in_every_epoch


def test_the_number_of_classes_is_part_of_what_a_model_depends_on_and_the_image_s_shape_where_it_is_moved() -> None:
    handle = Handle(kind="sequences", place="p", digest="x", rows=1, shape=(4, 2, 3), dtype="|u1", files={})
    labels = Labels(first=0, classes=2, names=("a", "b"))
    two = Sequences(split="train", x=handle, targets=handle, receipt=handle, labels=labels, image_shape=(2, 3))
    three = two.model_copy(update={"labels": Labels(first=0, classes=3, names=("a", "b", "c"))})
    turned = two.model_copy(update={"image_shape": (3, 2)})

    def keys(training: Training) -> list[str]:
        recipe = Recipe(Reshape(timesteps=2), Network(), training)
        return [key_of(each, recipe, 2).digest for each in (two, three, turned)]

    plain, other, same = keys(Training())
    assert other != plain == same
    assert len(set(keys(Training(augmentation=Augmentation())))) == 3


def test_early_stopping_has_something_to_watch() -> None:
    training = Training(validation_share=0.05, early_stopping=EarlyStopping())
    assert len(held_out(20, training)[1]) == 1
    with pytest.raises(ConfigurationError, match=r"validation_share = 0\.05 holds out none of 9 sequences"):
        held_out(9, training)
    assert len(held_out(9, Training(validation_share=0.05))[0]) == 9


def test_weights_that_nobody_asked_for_begin_only_a_training_on_data_of_their_kind() -> None:
    """The key says what it begins with: that of a cold training where they do not fit."""
    handle = Handle(kind="sequences", place="p", digest="x", rows=1, shape=(4, 2, 3), dtype="|u1", files={})
    labels = Labels(first=0, classes=2, names=("a", "b"))
    sequences = Sequences(split="train", x=handle, targets=handle, receipt=handle, labels=labels, image_shape=(2, 3))
    recipe = Recipe(Reshape(timesteps=2), Network(), Training())

    def key(terms: Terms) -> str:
        return key_of(sequences, recipe, 2, terms).digest

    warm, cold = key(Terms(handle)), key(Terms())
    assert warm == key(Terms(handle, only_for=(2, 3, 2))) != cold
    for other in ((2, 3, 3), (2, 4, 2), (1, 3, 2)):
        assert key(Terms(handle, only_for=other)) == cold


def test_an_epoch_that_saw_more_or_fewer_sequences_is_not_passed_over() -> None:
    shared = {"loss": 1.0, "accuracy": 0.5, "validation_loss": None, "validation_accuracy": None}
    epochs = [Epoch(epoch=n + 1, seen=seen, learning_rate=0.1, seconds=1.0, **shared) for n, seen in enumerate((9, 9))]
    history = History(epochs=epochs, kept=2, parameters=1, seconds_to_first_step=1.0, engine="e")
    assert seen_in_every_epoch(history, 9) == 9
    more = history.model_copy(update={"epochs": (epochs[0], epochs[1].model_copy(update={"seen": 10}))})
    assert seen_in_every_epoch(more, 9) == 10
