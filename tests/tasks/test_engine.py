"""The engine against Keras: the same network, the same step, the same bytes twice."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from schemas.configuration import EarlyStopping, LstmLayer, Network, Reshape, Training
from schemas.errors import ConfigurationError
from tasks.lstm import AT_ONCE
from tasks.network import Answerer, Moments, build, forward, load, noise_shapes, recurrent_shapes, weights_digest
from tasks.train import held_out
from tasks.train.engine import Examples, fit
from tasks.train.learner import ALIGNMENT, Learner, in_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

N, T, F, CLASSES = 40, 5, 6, 4
PLAIN = Training(
    epochs=1,
    batch_size=N,
    optimizer="adam",
    learning_rate=0.01,
    schedule="constant",
    label_smoothing=0.0,
    weight_decay=0.0,
    clip_norm=0.0,
    validation_share=0.0,
    scaling="unit",
)
ONE_LAYER = Network(layers=(LstmLayer(units=7),), dropout_head=0.0)
ARRANGEMENTS = {
    "one layer": (ONE_LAYER, Reshape()),
    "stacked": (Network(layers=(LstmLayer(units=7), LstmLayer(units=5)), dropout_head=0.0), Reshape()),
    "bidirectional": (Network(layers=(LstmLayer(units=7, bidirectional=True),), dropout_head=0.0), Reshape()),
    "bidirectional, mean": (
        Network(layers=(LstmLayer(units=5, bidirectional=True), LstmLayer(units=4)), dropout_head=0.0, pooling="mean"),
        Reshape(),
    ),
    "bidirectional, every step": (
        Network(layers=(LstmLayer(units=5, bidirectional=True),), dropout_head=0.0, pooling="none"),
        Reshape(),
    ),
    "frames": (ONE_LAYER, Reshape(layout="frames", timesteps=T)),
}


PIXELS = Reshape()


def examples(reshape: Reshape = PIXELS, n: int = N, validation: int = 0) -> Examples:
    random = np.random.default_rng(7)
    x = random.integers(0, 256, (n, T, F), dtype=np.uint8)
    y = random.integers(0, CLASSES, (n, T) if reshape.layout == "frames" else n).astype(np.int32)
    rows = np.arange(n)
    return Examples(x, y, rows[validation:], rows[:validation], CLASSES)


def network(net: Network = ONE_LAYER, reshape: Reshape = PIXELS, training: Training = PLAIN):  # noqa: ANN201
    return build(net, reshape, training, (T, F), CLASSES, Moments(1 / 255, -0.5))


def trained(model, data: Examples, training: Training, replicas: int = 2):  # noqa: ANN001, ANN201
    return fit(model, data, training, replicas, time.monotonic(), lambda *_: None)


def test_mapped_sequences_are_read_where_they_are(tmp_path) -> None:  # noqa: ANN001
    data = examples()
    np.save(tmp_path / "x.npy", data.x)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    learner = Learner(network(), replace(data, x=x), PLAIN, replicas=2)
    assert np.from_dlpack(learner._x).ctypes.data == x.ctypes.data
    address, expected = x.ctypes.data, data.x.tolist()
    del x, data
    assert learner._x.numpy().tolist() == expected  # the map lasts as long as the tensor
    assert np.from_dlpack(learner._x).ctypes.data == address


@pytest.mark.parametrize("cannot", ["other bytes first", "not aligned", "not contiguous"])
def test_what_tensorflow_cannot_read_in_place_is_copied(cannot: str) -> None:
    memory = np.zeros(4096, np.uint8)
    aligned = memory[-memory.ctypes.data % ALIGNMENT :]
    if cannot == "other bytes first":
        x = aligned[:480].view(np.dtype(np.uint16).newbyteorder()).reshape(8, 5, 6)
    elif cannot == "not aligned":
        x = aligned[2:482].view(np.uint16).reshape(8, 5, 6)
    else:
        x = aligned[:480].view(np.uint16).reshape(8, 5, 6)[:, ::2]
    x[:] = np.arange(x.size).reshape(x.shape)
    tensor, expected = in_place(x), x.tolist()
    memory[:] = 0
    assert tensor.numpy().tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_compiled_forward_pass_is_the_keras_model(arrangement: str) -> None:
    net, reshape = ARRANGEMENTS[arrangement]
    model, data = network(net, reshape), examples(reshape)
    answers = np.concatenate(list(Answerer(model, batch=16).answers(data.x)))
    np.testing.assert_allclose(answers, model(data.x.astype(np.float32)).numpy(), atol=2e-6)
    assert len(answers) == N


def test_where_a_gpu_is_present_keras_layers_are_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is here: this shows that the other path learns the same, not that cuDNN is taken."""
    monkeypatch.setattr("tasks.train.learner.on_gpu", lambda: True)
    theirs, ours, data = network(), network(), examples()
    history = trained(theirs, data, PLAIN)
    monkeypatch.undo()
    assert "GPU" in history.engine
    assert "CPU, 2 replicas" in trained(ours, data, PLAIN).engine
    for one, other in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)


def moved_alike(ours, theirs, before: list[NDArray[np.float32]], tolerance: float) -> None:  # noqa: ANN001
    """Both models have moved from where they were, by the same but for a share of each weight matrix's largest move.

    And but for the last bit of weights below 2, before and after.
    """
    for mine, keras_own, start in zip(ours.get_weights(), theirs.get_weights(), before, strict=True):
        largest = np.abs(keras_own - start).max()
        assert largest > 0, "the step moved every weight matrix"
        np.testing.assert_allclose(mine - start, keras_own - start, rtol=0, atol=tolerance * largest + 2.4e-7)


@pytest.mark.slow  # a compilation each
@pytest.mark.parametrize(("at_once", "clip_norm"), [(AT_ONCE, 0.0), (0, 0.05)])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_one_step_is_one_step_of_keras_fit(
    arrangement: str, at_once: int, clip_norm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole gradient at a rate of 1, so that its size counts; tolerance: rounding of sums over N · T products."""
    monkeypatch.setattr("tasks.lstm.AT_ONCE", at_once)  # 0: as large networks do, step by step
    net, reshape = ARRANGEMENTS[arrangement]
    training = PLAIN.model_copy(update={"optimizer": "sgd", "learning_rate": 1.0, "clip_norm": clip_norm})
    ours, theirs, data = network(net, reshape, training), network(net, reshape, training), examples(reshape)
    before = ours.get_weights()
    history = trained(ours, data, training)
    assert history.epochs[0].loss == pytest.approx(keras_steps(theirs, data, training)[0], rel=1e-5)
    moved_alike(ours, theirs, before, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_each_optimiser_moves_as_keras_own(optimizer: str) -> None:
    """Over five batches, for of the first gradient Adam takes but the sign; it divides by its size, and so rounding."""
    training = PLAIN.model_copy(update={"optimizer": optimizer, "batch_size": 8, "weight_decay": 0.01})
    ours, theirs, data = network(training=training), network(training=training), examples()
    before = ours.get_weights()
    trained(ours, data, training)
    keras_steps(theirs, data, training)
    moved_alike(ours, theirs, before, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "batch", "replicas", "dtype"),
    [(10, 4, 2, "|u1"), (7, 3, 2, "|u1"), (5, 3, 1, "|i1"), (9, 4, 2, ">i2"), (9, 50, 2, ">f4")],
)
def test_batches_that_do_not_divide_and_every_kind_of_value_are_learned_as_by_keras(
    n: int, batch: int, replicas: int, dtype: str
) -> None:
    training = PLAIN.model_copy(update={"optimizer": "sgd", "learning_rate": 0.5, "batch_size": batch})
    ours, theirs, data = network(training=training), network(training=training), examples(n=n)
    data = replace(data, x=(data.x // 2).astype(np.dtype(dtype)))
    before = ours.get_weights()
    trained(ours, data, training, replicas)
    assert len(keras_steps(theirs, data, training)) == -(-n // batch)
    moved_alike(ours, theirs, before, 1e-5)


@pytest.mark.slow
def test_no_epoch_hangs_on_how_many_are_asked_for() -> None:
    training = PLAIN.model_copy(update={"batch_size": 16})
    one, two = network(), network()
    first = trained(one, examples(), training).epochs[0]
    both = trained(two, examples(), training.model_copy(update={"epochs": 2})).epochs
    assert both[0].model_copy(update={"seconds": 0}) == first.model_copy(update={"seconds": 0})
    assert both[1].loss < first.loss


@pytest.mark.slow
def test_nothing_is_compiled_twice() -> None:
    training = PLAIN.model_copy(update={"batch_size": 8})
    learner = Learner(network(), examples(), training, replicas=2)
    for number in (1, 2, 3):
        segments = [stop for stop, _ in learner.epoch(number, 0, (0.0, 0.0, 0.0))]
        assert segments[-1] == 5
        assert number > 1 or segments[:2] == [1, 2], "one step to compile, one to see how long it takes"
    programs = (learner._segment, learner._gradient, learner._update)
    assert [program.experimental_get_tracing_count() for program in programs] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross-entropy", "mean-squared-error"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_losses_are_those_of_keras(loss: str, smoothing: float) -> None:
    training = PLAIN.model_copy(update={"loss": loss, "label_smoothing": smoothing, "optimizer": "sgd"})
    ours, theirs, data = network(training=training), network(training=training), examples()
    history = trained(ours, data, training)
    [keras_loss] = keras_steps(theirs, data, training)
    assert history.epochs[0].loss == pytest.approx(keras_loss, rel=1e-5)
    for mine, keras_own in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, keras_own, atol=1e-6)  # a rate of 0.01: some 1e-4 of the largest move


def keras_steps(model, data: Examples, training: Training) -> list[float]:  # noqa: ANN001
    """An epoch through Keras' own compile and train_on_batch, in this project's order; each loss before its step."""
    import keras

    make = {
        "adam": keras.optimizers.Adam,
        "adamw": lambda **k: keras.optimizers.AdamW(weight_decay=training.weight_decay, **k),
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda **k: keras.optimizers.SGD(momentum=0.9, **k),
    }[training.optimizer]
    smoothing = training.label_smoothing
    wanted = np.eye(CLASSES, dtype=np.float32)[data.y] * (1 - smoothing) + smoothing / CLASSES
    loss = "categorical_crossentropy" if training.loss == "cross-entropy" else "mean_squared_error"
    clip = {"global_clipnorm": training.clip_norm} if training.clip_norm else {}
    model.compile(optimizer=make(learning_rate=training.learning_rate, **clip), loss=loss)
    order = np.random.Generator(np.random.PCG64([training.seed, 1])).permutation(data.fitted)
    batches = np.split(order, range(training.batch_size, len(order), training.batch_size))
    return [float(model.train_on_batch(data.x[rows].astype(np.float32), wanted[rows])) for rows in batches]


@pytest.mark.slow
def test_equal_trainings_give_equal_bytes() -> None:
    net = Network(layers=(LstmLayer(units=7),), dropout_head=0.3)
    training = PLAIN.model_copy(update={"epochs": 2, "batch_size": 16})
    digests = []
    for seed in (20, 20, 21):
        recipe = training.model_copy(update={"seed": seed})
        model = network(net, training=recipe)
        trained(model, examples(), recipe)
        digests.append(weights_digest(model))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("n", "batch", "replicas"),
    [
        (10, 4, 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((10, 3, 2), (7, 50, 2), (10, 5, 1))),
    ],
)
def test_the_optimiser_sees_every_sequence_once_an_epoch(n: int, batch: int, replicas: int) -> None:
    training = PLAIN.model_copy(update={"epochs": 2, "batch_size": batch})
    history = trained(network(), examples(n=n), training, replicas)
    assert [epoch.seen for epoch in history.epochs] == [n, n]


@pytest.mark.slow
def test_frames_are_seen_as_sequences() -> None:
    reshape = Reshape(layout="frames", timesteps=T)
    history = trained(network(reshape=reshape), examples(reshape), PLAIN)
    assert history.epochs[0].seen == N


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights() -> None:
    training = PLAIN.model_copy(
        update={"epochs": 12, "batch_size": 8, "learning_rate": 0.5, "early_stopping": EarlyStopping(patience=2)}
    )
    model, data = network(), examples(validation=12)
    history = trained(model, data, training)
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert len(losses) < 12, "noise cannot be learned, so the validation loss stops falling"
    assert history.kept == 1 + int(np.argmin(losses))
    probabilities = np.concatenate(list(Answerer(model).answers(data.x[data.validation])))
    true = data.y[data.validation]
    loss = -np.log(np.maximum(probabilities[np.arange(len(true)), true], 1e-12)).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "highest"), [(0.3, 2), (0.6, 5)])
def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing(share: float, highest: int) -> None:
    training = PLAIN.model_copy(update={"epochs": 10, "batch_size": 8, "schedule": "one-cycle", "warm_up": share})
    history = trained(network(), examples(), training)
    rates = [epoch.learning_rate for epoch in history.epochs]
    peak = int(np.argmax(rates))
    assert peak == highest
    assert max(rates) == pytest.approx(training.learning_rate, rel=0.05)
    assert all(a < b for a, b in pairwise(rates[: peak + 1]))
    assert all(a > b for a, b in pairwise(rates[peak:]))
    assert rates[-1] == pytest.approx(training.learning_rate / 10_000, rel=0.01)


@pytest.mark.parametrize(
    ("place", "pooling", "width"),
    [("dropout_head", "last", (64,)), ("dropout_head", "none", (T * 64,)), ("dropout_input", "last", (T, F))],
)
def test_dropout_drops_only_while_learning(place: str, pooling: str, width: tuple[int, ...]) -> None:
    import tensorflow as tf

    net = {"layers": [{"units": 64}], "pooling": pooling, "dropout_head": 0.0, place: 0.5}
    model = network(Network.model_validate(net))
    x = examples().x
    [shape] = noise_shapes(model, N)
    assert shape == (N, *width)
    still = forward(model, x).numpy()
    noise = [tf.random.stateless_uniform(shape, [1, seed]) for seed in (1, 1, 2)]
    one, same, other = (forward(model, x, [each]).numpy() for each in noise)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, still)
    np.testing.assert_array_equal(still, forward(model, x).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("by_keras", [False, True])
def test_dropped_recurrent_weights_take_no_part_in_a_step(by_keras: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against Keras with weights in which the dropped are 0: its gradient, and none for what was dropped."""
    import tensorflow as tf

    monkeypatch.setattr("tasks.train.learner.on_gpu", lambda: by_keras)
    rate, training = 0.4, PLAIN.model_copy(update={"optimizer": "sgd", "learning_rate": 1.0})
    dropping = training.model_copy(update={"weight_dropout": rate})
    net = ARRANGEMENTS["bidirectional, mean"][0]
    ours, theirs, data = network(net, training=training), network(net, training=training), examples()
    learner = Learner(ours, data, dropping, replicas=2)
    noise = learner._noise_of_weights(learner._seed(tf.constant(1), tf.constant(0), 0))
    assert recurrent_shapes(ours) == [tuple(each.shape) for each in noise] == [(5, 20), (5, 20), (4, 16)]
    kept = [(each.numpy() >= rate) / (1 - rate) for each in noise]
    assert 0.5 < np.mean([each > 0 for each in kept[0]]) < 0.7
    recurrent = [i for i, weight in enumerate(theirs.weights) if weight.path.endswith("recurrent_kernel")]
    before = ours.get_weights()
    for i, factor in zip(recurrent, kept, strict=True):
        theirs.weights[i].assign(before[i] * factor)
    dropped = theirs.get_weights()
    keras_steps(theirs, data, training)
    moves = [after - start for after, start in zip(theirs.get_weights(), dropped, strict=True)]
    for i, factor in zip(recurrent, kept, strict=True):
        moves[i] *= factor
    [*_] = learner.epoch(1, 0, (0.0, 0.0, 0.0))
    for after, start, move in zip(ours.get_weights(), before, moves, strict=True):
        np.testing.assert_allclose(after - start, move, rtol=0, atol=1e-5 * np.abs(move).max() + 2.4e-7)
    if not by_keras:
        plain = network(net, training=training)
        trained(plain, data, training, 1)
        assert weights_digest(plain) != weights_digest(ours), "without it another step is taken"


@pytest.mark.slow
def test_a_saved_model_answers_alike_without_this_project(tmp_path) -> None:  # noqa: ANN001
    model, data = network(ARRANGEMENTS["bidirectional, mean"][0]), examples()
    model.save(tmp_path / "model.keras")
    assert weights_digest(load(tmp_path / "model.keras")) == weights_digest(model)
    x = data.x.astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    alone = """
import sys, keras, numpy as np
np.save("y.npy", keras.saving.load_model("model.keras", compile=False)(np.load("x.npy")).numpy())
assert not {"flows", "tasks", "schemas"} & {name.partition(".")[0] for name in sys.modules}
"""
    subprocess.run([sys.executable, "-P", "-c", alone], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x).numpy(), atol=1e-7)


def test_of_many_short_epochs_some_are_logged_and_all_are_recorded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stepwise")
    history = trained(network(), examples(), PLAIN.model_copy(update={"epochs": 101}), replicas=1)
    said = [int(words.split()[1]) for words in caplog.messages if words.startswith("epoch ")]
    assert said == [1, *range(3, 100, 3), 101]
    assert [epoch.epoch for epoch in history.epochs] == [*range(1, 102)]


@pytest.mark.slow
def test_the_memory_of_a_step_is_kept_for_the_next_one() -> None:
    """50 MB of states a step: given back and cleared anew they would be 12,000 pages a step."""
    alone = """
import resource
import numpy as np
from schemas.configuration import LstmLayer, Network, Reshape, Training
from tasks.network import Moments, build
from tasks.train.engine import Examples
from tasks.train.learner import Learner

training = Training(batch_size=32, validation_share=0.0)
layers = (LstmLayer(units=64),)
model = build(Network(layers=layers), Reshape(timesteps=784), training, (784, 1), 10, Moments(1 / 255, -0.5))
rows = np.arange(320)
examples = Examples(np.zeros((320, 784, 1), np.uint8), rows.astype(np.int32) % 10, rows, rows[:0], 10)
learner = Learner(model, examples, training, replicas=1)
learned = learner.epoch(1, 0, (0.0, 0.0, 0.0))
while next(learned)[0] < 3:
    learner._segment_steps = 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
list(learned)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = int(subprocess.run([sys.executable, "-c", alone], check=True, capture_output=True, text=True).stdout)
    assert faults < 12_000, "of seven steps"


@pytest.mark.parametrize("arrangement", ["stacked", "bidirectional, mean"])
def test_long_memories_are_biases_and_nothing_else(arrangement: str, tmp_path) -> None:  # noqa: ANN001
    """Tallec and Ollivier 2018: forget biases the log of 1 to T - 1, input biases their negatives, others 0."""
    net, reshape = ARRANGEMENTS[arrangement]
    short, long = (network(net.model_copy(update={"memory": memory}), reshape) for memory in ("short", "chrono"))
    forgets = []
    for before, after in zip(short.weights, long.weights, strict=True):
        if after.path.endswith("bias") and "lstm" in after.path:
            i, f, g, o = np.split(after.numpy(), 4)
            assert ((f >= 0) & (f <= np.log(T - 1))).all()
            assert (np.array_equal(i, -f), g.any(), o.any()) == (True, False, False)
            forgets.extend(f)
        else:
            assert np.array_equal(before.numpy(), after.numpy())
    assert len(set(forgets)) == len(forgets) == sum(layer.units * (1 + layer.bidirectional) for layer in net.layers)
    long.save(tmp_path / "model.keras")
    assert weights_digest(load(tmp_path / "model.keras")) == weights_digest(long)


def test_the_held_out_rows_and_the_fitted_ones_are_all_rows_once() -> None:
    fitted, validation = held_out(1000, Training(validation_share=0.05))
    assert len(validation) == 50
    assert sorted([*fitted, *validation]) == list(range(1000))
    assert len(held_out(1000, Training(validation_share=0.0))[1]) == 0


def test_scaling_is_exact_over_whole_numbers() -> None:
    x = np.random.default_rng(1).integers(0, 256, (700, 4, 3), dtype=np.uint8)
    moments = Moments.of(x, "standard")
    scaled = x * moments.scale + moments.offset
    assert scaled.mean() == pytest.approx(0, abs=1e-12)
    assert scaled.std() == pytest.approx(1, abs=1e-12)
    assert (Moments.of(x, "none").scale, Moments.of(x, "unit").scale) == (1.0, 1 / 255)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2"])
def test_the_range_of_a_type_becomes_0_to_1(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max], dtype).reshape(2, 1, 1)
    moments = Moments.of(x, "unit")
    assert x.ravel() * moments.scale + moments.offset == pytest.approx([0, 1])


def test_a_type_without_a_range_is_not_scaled_by_it() -> None:
    with pytest.raises(
        ConfigurationError, match=r"training\.scaling = 'unit', but images of float32, a type without a range"
    ):
        Moments.of(np.zeros((2, 1, 1), ">f4"), "unit")


def test_whole_numbers_too_wide_for_exact_squares_are_summed_as_floats() -> None:
    x = np.full((3, 2, 2), 2**26, np.int32)
    x[0] = 0
    moments = Moments.of(x, "standard")
    assert (1 / moments.scale, -moments.offset / moments.scale) == pytest.approx((x.std(), x.mean()))


def test_a_share_that_leaves_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="holds out all of 9 sequences"):
        held_out(9, PLAIN.model_copy(update={"validation_share": 0.95}))
