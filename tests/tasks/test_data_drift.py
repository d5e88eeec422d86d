"""Drift of the data: profiles against NumPy, the index against chance, and a run that is warned or stopped by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from manifests import manifest_in
from samples import drawn, labels_of, parsed, receipt_of, signed

from schemas.configuration import Reshape, RunConfiguration
from schemas.drift import Drift, DriftedError, DriftLimits, Profile
from schemas.handles import FileSeal
from tasks.champions import record_of
from tasks.drift import compared, drift_of, key_of, shift_of, shifts_of
from tasks.learned import Learned, digests_of
from tasks.profile import confidence_on, profile_of
from tasks.seals import sha256_file
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.champion import Champion
    from schemas.handles import Table
    from schemas.receipt import Receipt

LIMITS = DriftLimits()
STRICT = DriftLimits(stop=0.25)
N = 3000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def tables_of(store: Store, images: NDArray[Any], labels: NDArray[Any]) -> tuple[tuple[Table, Table], Receipt]:
    test = parsed(store, drawn(60, images.shape[1:], images.dtype.str, 7), labels_of(60, 7), "test")
    tables = parsed(store, images, labels), test
    return tables, receipt_of(store, tables)


def published(store: Store, table: Table, receipt: Receipt, name: str = "then", **profile: Any) -> Champion:  # noqa: ANN401
    """A champion that was trained on a table."""
    folder = store.root / "runs" / name
    folder.mkdir(parents=True)
    counted = profile_of(store, table, receipt.labels).model_copy(update=profile)
    (folder / "profile.json").write_text(counted.model_dump_json())
    (folder / "receipt.json").write_text(receipt.model_dump_json())
    configuration = RunConfiguration(reshape=Reshape(timesteps=4))
    (folder / "configuration.json").write_text(configuration.model_dump_json())
    files = {path.name: FileSeal(sha256=sha256_file(path), bytes=path.stat().st_size) for path in folder.iterdir()}
    manifest_in(folder, files=files)
    return record_of(store, name)


@pytest.mark.parametrize("value", [0.0, 7.0, -2.5, 1e30])
@pytest.mark.parametrize("wobble", [0, 1])
def test_a_profile_of_pixels_that_hardly_differ(store: Store, value: float, wobble: int) -> None:
    """There is no room for bins between the least and the greatest: all pixels are in the first."""
    images = np.full((120, 4, 6), value, "f8")
    images[3, 2, 1] += wobble * np.spacing(abs(value))
    tables, receipt = tables_of(store, images, labels_of(120))
    profile = profile_of(store, tables[0], receipt.labels)
    assert profile.pixels == (images.size, *[0] * 31)
    assert profile.low == value < profile.high
    images[5, 1, 1] += np.spacing(abs(value))
    other, signed_other = tables_of(store, images, labels_of(120, 5))
    found = drift_of(store, other[0], signed_other, published(store, tables[0], receipt), LIMITS)
    assert [shift.level for shift in found.shifts] == ["none", "none"]


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_a_profile_counts_what_is_there(store: Store, dtype: str) -> None:
    images, labels = drawn(500, (4, 6), dtype), labels_of(500)
    tables, receipt = tables_of(store, images, labels)
    profile = profile_of(store, tables[0], receipt.labels)
    assert (profile.rows, sum(profile.pixels)) == (500, images.size)
    assert profile.labels == tuple(np.bincount(labels, minlength=10).tolist())
    values = images.astype(np.float64)
    assert (profile.mean, profile.std) == pytest.approx((values.mean(), values.std()))
    edges = np.linspace(profile.low, profile.high, 33)
    assert profile.pixels == tuple(np.histogram(values, edges)[0].tolist())
    assert (profile.low, profile.high) == ((0, 256) if dtype == "u1" else (values.min(), values.max()))
    quarter = (profile.high - profile.low) / 4
    inside = profile_of(store, tables[0], receipt.labels, (profile.low + quarter, profile.high - quarter))
    assert (inside.below, inside.above) == ((values < inside.low).sum(), (values > inside.high).sum())
    assert inside.below + sum(inside.pixels) + inside.above == images.size
    assert min(inside.below, inside.above) > 0


@pytest.mark.parametrize("dtype", ["i4", "f8"])
def test_the_deviation_of_large_values_is_that_of_numpy(store: Store, dtype: str) -> None:
    images = (10**9 + np.random.default_rng(1).integers(-100, 101, (500, 4, 6))).astype(dtype)
    tables, receipt = tables_of(store, images, labels_of(500))
    profile = profile_of(store, tables[0], receipt.labels)
    values = images.astype(np.float64)
    assert (profile.mean, profile.std) == pytest.approx((values.mean(), values.std()), rel=1e-9)


@pytest.mark.parametrize(("most", "high"), [(0, 32), (1, 32), (16, 32), (31, 32), (32, 64), (127, 128), (128, 256)])
def test_bytes_of_few_shades_have_a_bin_each(store: Store, most: int, high: int) -> None:
    images = (drawn(100, (4, 6)) % (most + 1)).astype("u1")
    images[0, 0, 0] = most
    tables, receipt = tables_of(store, images, labels_of(100))
    profile = profile_of(store, tables[0], receipt.labels)
    assert (profile.low, profile.high) == (0, high)
    assert profile.pixels == tuple(np.histogram(images, np.linspace(0, high, 33))[0].tolist())


def test_more_ink_in_images_of_two_shades_is_drift(store: Store) -> None:
    draw = np.random.default_rng(3)
    little, much = ((draw.random((N, 4, 6)) < share).astype("u1") for share in (0.2, 0.6))
    tables, receipt = tables_of(store, little, labels_of(N))
    champion = published(store, tables[0], receipt)
    other, signed = tables_of(store, much, labels_of(N, 5))
    assert drift_of(store, other[0], signed, champion, LIMITS).shifts[1].level == "warn"


@pytest.mark.parametrize(("then", "now"), [("u1", "u1"), ("f4", "f4"), ("i2", "i2")])
def test_values_on_another_scale_are_drift_in_images_of_two_shades(store: Store, then: str, now: str) -> None:
    """All ink is in the last bin, and what lies beyond it is elsewhere: 255 where it was 1 or 127."""
    shapes = np.random.default_rng(3).random((N, 4, 6)) < 0.3
    tables, receipt = tables_of(store, (shapes * (127 if then == "u1" else 1)).astype(then), labels_of(N))
    champion = published(store, tables[0], receipt)
    other, signed = tables_of(store, (shapes * 255).astype(now), labels_of(N, 5))
    with pytest.raises(DriftedError, match=r"pixels: mean .* (30\.\d% → 0\.0%|0\.0% → 30\.\d%) \(index 6\."):
        compared(store, other[0], signed, champion, STRICT)
    back = published(store, other[0], signed, "back")
    drifted = drift_of(store, tables[0], receipt, back, STRICT)
    assert drifted.shifts[1].level == "stop"


def test_bins_that_are_empty_then_and_now_make_no_chance(store: Store) -> None:
    shift = shift_of("x", [700, 0, 300, 0], [500, 0, 500, 0], list("abcd"), LIMITS)
    assert shift == shift_of("x", [700, 300], [500, 500], list("ac"), LIMITS)


def test_the_index_is_that_of_the_definition() -> None:
    p, q = np.array([700, 200, 100]), np.array([500, 300, 200])
    shift = shift_of("x", p.tolist(), q.tolist(), ["a", "b", "c"], LIMITS)
    a, b = ((counts + 0.5) / (counts.sum() + 1.5) for counts in (p, q))
    assert shift.index == pytest.approx(((b - a) * np.log(b / a)).sum())
    assert (shift.level, shift.found) == ("warn", "c: 10.0% → 20.0%")
    assert shift_of("x", p.tolist(), p.tolist(), ["a", "b", "c"], LIMITS).index == 0
    assert shift_of("x", p.tolist(), q.tolist(), ["a", "b", "c"], DriftLimits(warn=0.01, stop=0.05)).level == "stop"


@pytest.mark.parametrize(("n", "m"), [(60, 60), (300, 5000), (60_000, 60_000)])
def test_chance_alone_does_not_pass_for_drift(n: int, m: int) -> None:
    """Two draws from one distribution of ten classes, a thousand times; with 60 images the bare index passes 0.1."""
    draw = np.random.default_rng(2)
    share = draw.dirichlet(np.full(10, 8))
    names = [str(digit) for digit in range(10)]
    shifts = [
        shift_of("x", draw.multinomial(n, share).tolist(), draw.multinomial(m, share).tolist(), names, LIMITS)
        for _ in range(1000)
    ]
    assert np.mean([shift.level != "none" for shift in shifts]) <= 0.005
    beyond = np.mean([shift.index > shift.chance for shift in shifts])
    assert beyond < 0.02
    if n == 60:
        assert np.mean([shift.index > LIMITS.warn for shift in shifts]) > 0.5


def test_where_there_is_nothing_to_compare_it_says_why(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    assert drift_of(store, tables[0], receipt, None, LIMITS).why_none == "no champion was trained on other data"
    champion = published(store, tables[0], receipt)
    same = drift_of(store, tables[0], receipt, champion, LIMITS)
    assert (same.why_none, same.worst) == ("no champion was trained on other data", "none")


@pytest.mark.parametrize("file", ["configuration.json", "receipt.json", "profile.json"])
def test_a_damaged_champion_is_told_stops_nothing_and_is_asked_again_when_it_is_whole(store: Store, file: str) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    champion = published(store, tables[0], receipt)
    other, signed_other = tables_of(store, drawn(N, seed=5), labels_of(N, 5))
    handle, path = signed(store, other), store.root / "runs" / "then" / file
    whole, content = key_of(store.root, other[0], handle, champion, LIMITS).digest, path.read_bytes()
    path.write_bytes(content[:10])
    damaged = drift_of(store, other[0], signed_other, champion, LIMITS)
    assert damaged.why_none.startswith(f"the champion's run is not as it was published: {file}: ")
    assert sum(damaged.profile.labels) == N
    assert key_of(store.root, other[0], handle, champion, LIMITS).digest != whole
    path.write_bytes(content)
    assert key_of(store.root, other[0], handle, champion, LIMITS).digest == whole
    assert drift_of(store, other[0], signed_other, champion, LIMITS).shifts


def test_a_class_that_came_is_a_shift_of_the_labels(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    nine = profile_of(store, tables[0], receipt.labels).labels[1:]
    champion = published(store, tables[0], receipt, first=1, labels=nine)
    other, signed_other = tables_of(store, drawn(N, seed=5), labels_of(N, 5))
    shift, _ = drift_of(store, other[0], signed_other, champion, LIMITS).shifts
    assert (shift.what, shift.level) == ("shares of the labels", "warn")
    assert shift.found.startswith("class 0: 0.0% → 10.")


def test_a_profile_of_an_earlier_version_begins_with_the_same_label(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    before = profile_of(store, tables[0], receipt.labels)
    earlier = Profile.model_validate(before.model_dump(exclude={"first"}))
    now = before.model_copy(update={"first": 1})
    [labels, _] = shifts_of(earlier, now, receipt.labels.names, LIMITS)
    assert (labels.what, labels.index) == ("shares of the labels", 0)
    [pixels] = shifts_of(earlier.model_copy(update={"labels": before.labels[1:]}), now, receipt.labels.names, LIMITS)
    assert pixels.what == "pixels"


def test_pixels_are_compared_in_the_champion_s_bins_and_kept_in_their_own(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N).astype("f4") / 255, labels_of(N))
    champion = published(store, tables[0], receipt)
    other, signed_other = tables_of(store, drawn(N, seed=5).astype("f4"), labels_of(N, 5))
    found = drift_of(store, other[0], signed_other, champion, LIMITS)
    assert found.shifts[1].level == "warn"
    assert found.profile == profile_of(store, other[0], signed_other.labels)
    assert found.profile.high > 250
    then, now = drawn(N).astype("f4") / 255, drawn(N, seed=5).astype("f4")
    told = [f"{kind(then.astype(float)):.4g} → {kind(now.astype(float)):.4g}" for kind in (np.mean, np.std)]
    assert found.shifts[1].found.startswith(f"mean {told[0]}, standard deviation {told[1]}; pixels above 1: ")


def test_new_data_of_the_same_kind_have_not_drifted(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    other, signed_other = tables_of(store, drawn(N, seed=5), labels_of(N, 5))
    found = drift_of(store, other[0], signed_other, published(store, tables[0], receipt), LIMITS)
    assert [(shift.what, shift.level) for shift in found.shifts] == [
        ("shares of the labels", "none"),
        ("pixels", "none"),
    ]
    assert (found.champion, found.worst) == ("then", "none")


def test_answers_of_one_sequence_are_not_so_many_by_chance() -> None:
    profile = Profile(rows=560, labels=(560,), low=0, high=256, pixels=(1,) * 32, below=0, above=0, mean=1, std=1)
    before, now = (profile.model_copy(update={"confidence": (0, 0, 0, 0, 0, 0, 0, 56, 56, k)}) for k in (448, 392))
    chances = [[*shifts_of(before, now, ["a"], LIMITS, together)][-1].chance for together in (1, 28)]
    assert chances[1] == pytest.approx(chances[0] * 28, rel=0.1)


@pytest.mark.parametrize("now", [drawn(N, (6, 4)), drawn(N).astype("i2")], ids=["turned", "wider"])
def test_images_of_another_form_are_drift(store: Store, now: NDArray[Any]) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    champion = published(store, tables[0], receipt, confidence=(0,) * 9 + (N,))
    other, signed_other = tables_of(store, now, labels_of(N, 5))
    form, *others = drift_of(store, other[0], signed_other, champion, LIMITS).shifts
    described = f"{' × '.join(map(str, now.shape[1:]))} of {now.dtype.name}"
    said = f"4 × 6 of uint8 → {described}, so the champion could not be asked about them"
    assert (form.what, form.level, form.found) == ("form of the images", "warn", said)
    assert [shift.what for shift in others] == ["shares of the labels", "pixels"]
    with pytest.raises(DriftedError, match="form of the images: 4 × 6 of uint8 → "):
        compared(store, other[0], signed_other, champion, STRICT)


def test_drift_warns_or_stops_and_says_what_moved(store: Store) -> None:
    tables, receipt = tables_of(store, drawn(N), labels_of(N))
    labels = np.where(np.random.default_rng(1).random(N) < 0.5, 3, labels_of(N)).astype("u1")
    darker = (drawn(N, seed=5) // 2).astype("u1")
    other, _ = tables_of(store, darker, labels)
    handle, champion = signed(store, other), published(store, tables[0], receipt)
    signed_other = receipt_of(store, other)
    drifted = compared(store, other[0], signed_other, champion, LIMITS)
    assert drifted.worst == "warn"
    kept = Drift.model_validate_json(store.open(drifted.drift, "drift.json").read_bytes())
    assert [shift.level for shift in kept.shifts] == ["warn", "warn"]
    assert kept.shifts[0].found.startswith("class 3: 10.0% → 5")
    before = sorted((store.place / "objects").rglob("*"))
    with pytest.raises(DriftedError) as stopped:
        compared(store, other[0], signed_other, champion, STRICT)
    assert str(stopped.value).startswith(
        "table of the train split: the training data have drifted from the champion's (then): shares of the labels: "
    )
    assert [shift.level for shift in stopped.value.drift.shifts] == ["stop", "stop"]
    assert "Expected: a population stability index below drift.stop = 0.25." in str(stopped.value)
    assert sorted((store.place / "objects").rglob("*")) == before, "nothing is left of a run that was stopped"
    digests = {
        key_of(store.root, other[0], handle, who, limits).digest
        for who in (None, champion)
        for limits in (LIMITS, STRICT)
    }
    assert len(digests) == 4
    assert key_of(store.root, tables[0], handle, champion, LIMITS).components["inputs"]["champion"] == "none"


@pytest.mark.slow
def test_the_champion_s_confidence_is_what_keras_answers_to_what_is_new(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from schemas.files import MODEL_FILE

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Input((4, 6)), keras.layers.Rescaling(1 / 255), keras.layers.LSTM(16)]
    model = keras.Sequential(
        [*layers, keras.layers.Dense(10, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=3))]
    )
    model.save(tmp_path / MODEL_FILE)
    images = drawn(5000)
    table = parsed(store, images, labels_of(5000))
    nothing = Learned(np.empty(0, "S16"), whole=True)
    counted = confidence_on(store, table, Reshape(timesteps=4), tmp_path, nothing)
    sample = images[::2].astype(np.float32)  # 5000 // 2000 = 2
    expected = model.predict(sample, verbose=0).max(1)
    assert counted == tuple(np.histogram(expected, 10, (0, 1))[0].tolist())
    assert sum(counted) == 2500
    assert max(counted) < 2000, "or nothing was tested"
    frames = Reshape(layout="frames", timesteps=7)
    assert confidence_on(store, table, frames, tmp_path, nothing) is None
    known = digests_of(store, table.table)
    half = Learned(np.sort(known[1000:]), whole=True)
    of_new = np.histogram(model.predict(images[:1000].astype(np.float32), verbose=0).max(1), 10, (0, 1))[0]
    assert confidence_on(store, table, Reshape(timesteps=4), tmp_path, half) == tuple(of_new.tolist())
    for learned in (Learned(np.sort(known), whole=True), Learned(nothing.images, whole=False)):
        assert confidence_on(store, table, Reshape(timesteps=4), tmp_path, learned) is None
    pairs = Reshape(layout="frames", timesteps=2)
    third = Learned(np.sort(known[::4]), whole=True)  # an image of every other sequence
    asked: list[NDArray[Any]] = []
    with monkeypatch.context() as patched:
        patched.setattr("tasks.profile.objection_to_input", lambda *_: "")
        patched.setattr("tasks.network.Answerer.answers", lambda _, x: asked.append(x) or [np.ones((1, 2, 10)) / 10])
        confidence_on(store, table, pairs, tmp_path, third)
    assert (asked[0].reshape(-1, 24) == images.reshape(-1, 4, 24)[:, 2:].reshape(-1, 24)).all()
    (tmp_path / "trial").mkdir()
    for name in ("images.npy", "sequences.npy"):
        np.save(tmp_path / "trial" / name, images[:3], allow_pickle=False)
    assert confidence_on(store, table, Reshape(timesteps=4), tmp_path, nothing) == counted
    columns = Reshape(timesteps=6, scan="columns")
    assert confidence_on(store, table, columns, tmp_path, nothing) is None, "it learned rows"
