"""Presets and putting a configuration together: what each preset is, and that nothing unknown gets through."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

import pytest

from schemas.configuration import Network, RunConfiguration, Training
from schemas.errors import ConfigurationError
from schemas.presets import configured, presets, require_settings_of_preset, validated

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "rows",
    "question-1x784",
    "question-16x49",
    "question-3750",
    "answer-frames",
    "smoke",
    "best",
    "best-augmented",
    "pixels",
    "pixels-longer",
}


def refusal(**arguments: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        configured(**arguments)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return caught.value


def test_the_presets_of_the_project_are_there_and_described() -> None:
    assert set(presets()) == NAMES
    assert all(len(text) > 30 and "\n" not in text for text in presets().values())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_preset_loads_and_its_steps_divide_its_images(name: str) -> None:
    configuration = configured(name)
    assert configuration.preset == name
    assert math.prod(configuration.reshape.sequence_shape((28, 28))) >= 784
    assert RunConfiguration.model_validate_json(configuration.model_dump_json()) == configuration


def test_what_a_preset_gives_can_be_taken_away() -> None:
    training = configured("best-augmented", settings=["training.augmentation=", "training.epochs= "]).training
    assert (training.augmentation, training.epochs) == (None, 0)
    without = configured("best", settings=["network=", "training.batch_size="])
    assert (without.network, without.training.batch_size) == (Network(), Training().batch_size)


def test_the_default_preset_is_rows_and_the_defaults_are_it() -> None:
    assert configured() == configured("rows") == RunConfiguration()
    reshape, training = configured().reshape, configured().training
    assert (reshape.layout, reshape.sequence_shape((28, 28)), configured().dataset) == ("pixels", (28, 28), "mnist")
    assert training.epochs_over(57_000) == 8


@pytest.mark.parametrize(("name", "steps", "features"), [("question-16x49", 16, 49), ("question-1x784", 1, 784)])
def test_the_question_to_the_letter(name: str, steps: int, features: int) -> None:
    """LSTM(40), Dense(10) softmax, RMSprop, mean squared error, batch 50, 15 epochs, pixels unscaled."""
    configuration = configured(name)
    training, network = configuration.training, configuration.network
    assert configuration.dataset == "mnist"
    assert (configuration.reshape.layout, configuration.reshape.timesteps) == ("pixels", steps)
    assert configuration.reshape.sequence_shape((28, 28)) == (steps, features)
    assert [(layer.units, layer.bidirectional) for layer in network.layers] == [(40, False)]
    assert (network.dropout_between, network.dropout_head, network.pooling) == (0, 0, "last")
    assert (training.optimizer, training.learning_rate, training.schedule) == ("rmsprop", 0.001, "constant")
    assert (training.loss, training.label_smoothing) == ("mean-squared-error", 0)
    assert (training.batch_size, training.epochs, training.scaling) == (50, 15, "none")
    assert (training.clip_norm, training.weight_decay, training.validation_share) == (0, 0, 0)
    assert (training.weight_dropout, training.augmentation) == (0, None)
    assert training.early_stopping is None


def test_the_question_that_broke_groups_one_side_only() -> None:
    broken, sound = configured("question-3750"), configured("question-16x49")
    assert broken.reshape.model_dump() == {
        **sound.reshape.model_dump(), "layout": "frames", "targets": "one per image", "timesteps": 16,
    }  # fmt: skip
    assert (broken.network, broken.training) == (sound.network, sound.training)
    assert broken.reshape.sequence_shape((28, 28)) == (16, 784)
    assert 60_000 / broken.reshape.images_per_sequence == 3_750


def test_the_answer_groups_both_sides() -> None:
    reshape = configured("answer-frames").reshape
    assert (reshape.layout, reshape.timesteps, reshape.targets, reshape.remainder) == (
        "frames", 16, "as layout", "error",
    )  # fmt: skip


def test_smoke_needs_no_network() -> None:
    assert configured("smoke").dataset == "glyphs"


def test_only_the_broken_question_leaves_labels_alone() -> None:
    assert {name for name in NAMES if configured(name).reshape.targets != "as layout"} == {"question-3750"}


def test_file_lies_over_preset_and_settings_over_both(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('dataset = "kmnist"\n[training]\nepochs = 4\nseed = 9\n[reshape]\nscan = "columns"\n')
    made = configured("question-16x49", file, ["training.epochs=2", "network.layers=[{units=8}, {units=4}]"])
    assert made.training.epochs == 2
    assert made.training.seed == 9
    assert made.training.batch_size == 50  # of the preset
    assert (made.reshape.scan, made.reshape.timesteps) == ("columns", 16)
    assert [layer.units for layer in made.network.layers] == [8, 4]
    assert made.dataset == "kmnist"
    assert configured("question-16x49", file, ["dataset=qmnist"], "emnist-letters").dataset == "emnist-letters"
    assert configured("question-16x49").training.epochs == 15  # nothing of it stays


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.epochs=3", 3),
        (" training.learning_rate = 1e-3", 1e-3),
        ("training.optimizer=sgd", "sgd"),
        ('training.optimizer="sgd"', "sgd"),
        ("training.early_stopping={patience=2}", {"patience": 2}),
        ("training.early_stopping.patience=2", {"patience": 2}),
    ],
)
def test_settings_are_toml_or_plain_text(setting: str, value: object) -> None:
    key = setting.partition("=")[0].strip().split(".")[1]
    assert configured(settings=[setting]).training.model_dump()[key] == value


@pytest.mark.parametrize("setting", ["training.epochs", "=3", " =3", ""])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    error = refusal(settings=[setting])
    assert str(error) == (
        f"'{setting}' is no setting. Expected: key=value, such as training.epochs=3. Write it so after --set."
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "question-16x94"}, ["there is no preset 'question-16x94'", "Did you mean 'question-16x49'?"]),
        ({"preset": "zzz"}, ["there is no preset 'zzz'", "one of rows, question-16x49"]),
        ({"settings": ["training.epoch=3"]}, ["there is no key 'training.epoch'", "Did you mean 'epochs'?"]),
        ({"settings": ["trainin.epochs=3"]}, ["there is no key 'trainin'", "Did you mean 'training'?"]),
        ({"settings": ["xyzzy=3"]}, ["there is no key 'xyzzy'", "Known: preset, dataset, reshape"]),
        (
            {"settings": ["network.layers=[{units=4, bidirectonal=true}]"]},
            ["there is no key 'network.layers.0.bidirectonal'", "Did you mean 'bidirectional'?"],
        ),
        ({"settings": ["training.early_stopping.patence=3"]}, ["Did you mean 'patience'?"]),
        ({"settings": ["training.optimizer=adm"]}, ["training.optimizer = 'adm'", "Did you mean 'adam'?"]),
        ({"settings": ["reshape.scan=colums"]}, ["Did you mean 'columns'?"]),
        ({"settings": ["reshape.layout=frame"]}, ["Did you mean 'frames'?"]),
        ({"settings": ["training.epochs=-1"]}, ["training.epochs = -1", "greater than or equal to 0"]),
        ({"settings": ["training.batch_size="]}, ["training.batch_size has no value", "integer"]),
        ({"settings": ["training.epochs=three"]}, ["training.epochs = 'three'", "integer"]),
        ({"settings": ["training.validation_share=1"]}, ["less than 1"]),
        ({"settings": ["reshape.timesteps=-4"]}, ["reshape.timesteps = -4"]),
        ({"settings": ["network.layers=[]"]}, ["network.layers = []", "at least 1 item"]),
        ({"settings": ["training=3"]}, ["training = 3"]),
        ({"settings": ["network.layers=9"]}, ["network.layers = 9: a list in brackets is wanted"]),
        ({"settings": ["network.layers.0.units=9"]}, ["a list in brackets is wanted"]),
        ({"settings": ["training.epochs.more=3"]}, ["training.epochs = {'more': 3}"]),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_right_name(arguments: dict[str, object], words: list[str]) -> None:
    text = str(refusal(**arguments))
    assert all(word in text for word in words), text


def test_all_that_is_wrong_is_told_at_once() -> None:
    error = refusal(settings=["training.epoch=3", "reshape.scan=colums", "evaluation.calibration_bins=1"])
    assert error.found.count(";") == 2
    assert error.remedy == "Correct them; nothing was run"


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert refusal(file=file).found == "the file cannot be read: No such file or directory"
    file.write_bytes(b"epochs == 3")
    assert "this is not TOML" in refusal(file=file).found
    file.write_bytes(b"\xff\xfe = 3")
    assert "this is not TOML" in refusal(file=file).found
    file.write_text("[training]\nepoch = 3\n")
    error = refusal(file=file)
    assert error.file == str(file)
    assert "Did you mean 'epochs'?" in error.found
    assert refusal(file=tmp_path).file == str(tmp_path)


def test_a_setting_that_is_wrong_is_not_laid_to_a_file_that_is_right(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nepochs = 3\n")
    assert refusal(file=file, settings=["training.epoch=3"]).file is None
    file.write_text("[training]\nepoch = 3\n")
    assert refusal(file=file, settings=["training.epochs=3"]).file == str(file)


def test_a_preset_is_named_by_its_option_alone(tmp_path: Path) -> None:
    """Named among the values it would be a name without settings: the wrong network would be trained."""
    file = tmp_path / "mine.toml"
    file.write_text('preset = "best"\n[training]\nepochs = 2\n')
    for arguments in ({"file": file}, {"settings": ["preset=best"]}, {"values_over": {"preset": "best"}}):
        error = refusal(**arguments)
        assert error.found == "preset = 'best' over the preset 'rows'"
        assert error.remedy.startswith("Leave it out of the values; name it by --preset best, or in stepwise.toml ")
    named = configured("best", file)
    assert (named.preset, named.training.epochs, len(named.network.layers)) == ("best", 2, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match=r"training\.learning_rate"):
        validated({"training": {"learning_rate": value}})


def test_arguments_default_to_the_default_preset() -> None:
    assert inspect.signature(configured).parameters["preset"].default == "rows"


@pytest.mark.parametrize("name", presets())
def test_a_preset_bears_its_own_name(name: str) -> None:
    require_settings_of_preset(configured(name))
    require_settings_of_preset(configured(name, settings=["training.epochs=3"], dataset="glyphs"))
    require_settings_of_preset(RunConfiguration(preset="mine"))


@pytest.mark.parametrize("given", [{}, {"dataset": "kmnist"}, {"training": {"epochs": 5}}])
def test_a_name_without_the_settings_of_its_preset_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require_settings_of_preset(RunConfiguration.model_validate({"preset": "best", **given}))
    assert raised.value.found == "the configuration is called 'best' and has none of that preset's settings"
    assert raised.value.expected.startswith("for example network.dropout_between = 0.4; here `preset` is only a name")
    assert "`stepwise run --preset best`" in str(raised.value)
