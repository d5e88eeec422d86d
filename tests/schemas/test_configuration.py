"""The configuration: an invalid one cannot be made, and T must divide the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas.configuration import Reshape, RunConfiguration, Training
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(pixels=st.integers(1, 4096), timesteps=st.integers(1, 4096))
def test_layout_pixels_takes_the_divisors_and_lists_them_otherwise(pixels: int, timesteps: int) -> None:
    settings = Reshape(timesteps=timesteps)
    if pixels % timesteps == 0:
        assert settings.sequence_shape((pixels,)) == (timesteps, pixels // timesteps)
        return
    with pytest.raises(ConfigurationError) as caught:
        settings.sequence_shape((pixels,))
    listed = [int(text) for text in caught.value.expected.removeprefix("one of ").split(", ")]
    assert listed == sorted(set(listed))
    assert all(pixels % divisor == 0 for divisor in listed)
    assert sum(pixels % t == 0 for t in range(1, pixels + 1)) == len(listed)


def test_the_refusal_of_a_t_that_does_not_divide() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Reshape(timesteps=15).sequence_shape((28, 28))
    assert str(caught.value) == (
        "reshape.timesteps = 15 does not divide the 784 pixels of an image. "
        "Expected: one of 1, 2, 4, 7, 8, 14, 16, 28, 49, 56, 98, 112, 196, 392, 784. "
        "Set reshape.timesteps to one of them, or to 0: a line of the image a step."
    )


@given(pixels=st.integers(1, 4096), timesteps=st.integers(1, 4096))
def test_layout_frames_gives_every_frame_all_pixels(pixels: int, timesteps: int) -> None:
    assert Reshape(layout="frames", timesteps=timesteps).sequence_shape((pixels,)) == (timesteps, pixels)


@pytest.mark.parametrize(("scan", "shape"), [("rows", (20, 28)), ("columns", (28, 20)), ("permuted", (20, 28))])
def test_unless_t_is_given_a_step_is_a_line_of_the_scan(scan: str, shape: tuple[int, int]) -> None:
    assert Reshape.model_validate({"scan": scan}).sequence_shape((20, 28)) == shape


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        ((784,), (28, 28)),
        ((1, 28, 28), (28, 28)),
        ((28, 28, 1), (28, 28)),
        ((32, 24, 3), (32, 72)),
        ((3, 32, 24), (96, 24)),
        ((6, 7, 8), (42, 8)),
        ((3, 4), (3, 4)),
        ((13,), (1, 13)),
        ((1, 1), (1, 1)),
    ],
)
def test_lines_are_found_whatever_the_axes(item: tuple[int, ...], shape: tuple[int, int]) -> None:
    assert Reshape().sequence_shape(item) == shape


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        ((784,), (28, 28)),
        ((6,), (3, 2)),
        ((1, 20, 28), (28, 20)),
        ((20, 28, 1), (28, 20)),
        ((32, 24, 3), (24, 96)),
        ((3, 32, 24), (24, 96)),
    ],
)
def test_a_column_is_a_step_whatever_the_axes(item: tuple[int, ...], shape: tuple[int, int]) -> None:
    assert Reshape(scan="columns").sequence_shape(item) == shape


def test_what_follows_from_the_images_is_what_could_have_been_given() -> None:
    assert Reshape().resolved((20, 28)) == Reshape(timesteps=20) == Reshape(timesteps=20).resolved((20, 28))


def test_frames_have_to_be_given_their_number() -> None:
    with pytest.raises(ValidationError, match="layout frames needs timesteps, the images in one sequence"):
        Reshape(layout="frames")


@given(sequences=st.integers(1, 100_000), batch=st.integers(1, 512))
def test_few_sequences_are_gone_through_until_they_are_learned(sequences: int, batch: int) -> None:
    """8 epochs, or the fewest in which 128,000 are seen, whatever the batch; what is given is what is done."""
    epochs = Training(batch_size=batch).epochs_over(sequences)
    assert epochs * sequences >= 128_000 or epochs == 1_000
    assert epochs == 8 or (8 < epochs <= 1_000 and (epochs - 1) * sequences < 128_000)
    assert Training(batch_size=batch, epochs=3).epochs_over(sequences) == 3


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


@pytest.mark.parametrize("model", dict.fromkeys(models(RunConfiguration)), ids=lambda model: model.__name__)
def test_no_part_takes_an_unknown_key_or_can_be_changed(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate({"unknown": 1})
    part = model()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, next(iter(model.model_fields)), 1)


def test_all_parts_were_looked_at() -> None:
    names = {model.__name__ for model in models(RunConfiguration)}
    assert names == {
        *(
            "RunConfiguration",
            "Reshape",
            "Network",
            "LstmLayer",
            "Training",
            "EarlyStopping",
            "Augmentation",
            "Evaluating",
        ),
        *("Demands", "DriftLimits"),
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": 2**32}, "less than 4294967296"),
        ({"early_stopping": {}, "validation_share": 0.0}, "validation_share = 0 holds nothing out"),
        ({"augmentation": {"rotation": 181}}, "less than or equal to 180"),
        ({"augmentation": {"shift": float("inf")}}, "finite number"),
    ],
)
def test_a_training_that_could_not_be_what_it_says_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RunConfiguration.model_validate({"training": values})
