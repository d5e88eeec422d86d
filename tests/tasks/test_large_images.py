"""Large images: as few are worked on at a time as memory asks for, and small ones as many as ever."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from samples import both, receipt_of

from schemas.configuration import LstmLayer, Network, Reshape, RunConfiguration, Training
from schemas.files import CONFIGURATION_FILE, MODEL_FILE, RECEIPT_FILE
from tasks import arrays
from tasks.arrays import rows_at_a_time
from tasks.evaluate.floors import Centred, Samples, Scale, centroid_map, floors_of
from tasks.idx import IdxReader, write_idx
from tasks.network import Answerer, Moments, build
from tasks.predict import write_answers
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.metrics import Floor

COLOURS = (224, 224 * 3)  # a line of 224 pixels of three colours a step
SMALL = Network(layers=(LstmLayer(units=2),))


def peak(work: Callable[[], object]) -> float:
    """The most memory that a call held, in MiB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [1024, 2048])
def test_small_images_are_as_many_at_a_time_as_ever(most: int) -> None:
    assert rows_at_a_time(28 * 28, most) == most
    assert rows_at_a_time(16 * 28 * 28, 1024) == 1024, "a sequence of `answer-frames`"


def test_large_images_are_an_even_number_that_fits() -> None:
    assert rows_at_a_time(224 * 224 * 3, 1024) == 110
    assert rows_at_a_time(10**9, 1024) == 2
    for values in range(16_384, 200_000, 997):
        rows = rows_at_a_time(values, 1024)
        assert rows % 2 == 0
        assert rows * values * 4 <= 64 << 20 < (rows + 2) * values * 4


def test_scaling_of_large_images_holds_few_of_them() -> None:
    x = np.broadcast_to(np.arange(224 * 3, dtype=np.uint8), (300, *COLOURS))
    found: list[Moments] = []
    assert peak(lambda: found.append(Moments.of(x, "standard"))) < 300
    assert (1 / found[0].scale, -found[0].offset / found[0].scale) == pytest.approx((x[0].std(), x[0].mean()))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_simple_models_of_large_images_hold_few_of_them(dtype: str) -> None:
    pixels = COLOURS[0] * COLOURS[1]
    images = np.broadcast_to(np.arange(pixels).astype("u1").astype(dtype), (600, pixels))
    rows, labels = np.arange(600), np.arange(600) % 2

    def seen() -> None:
        scale = Scale.of(images, rows)
        centroid_map(images, labels, rows, Centred.of(images, rows, scale), 2)

    assert peak(seen) < 400, "600 images of float32 are 345 MiB, and three arrays of that size are needed at a time"


def test_simple_models_answer_few_large_images_at_a_time() -> None:
    image = np.arange(COLOURS[0] * COLOURS[1]).astype(np.uint8).reshape(COLOURS)
    train = Samples(np.stack([image, 255 - image]), np.array([0, 1]))
    test = Samples(np.broadcast_to(image, (600, *COLOURS)), np.zeros(600, np.int32))
    found: list[Floor] = []
    assert peak(lambda: found.extend(floors_of(train, test, 2))) < 150, "600 images of float32 are 345 MiB"
    assert [floor.correct for floor in found] == [600, 600]


@pytest.mark.parametrize(("shape", "batch"), [((28, 28), 1024), ((784, 1), 1024), (COLOURS, 110)])
def test_large_images_are_answered_in_smaller_batches(shape: tuple[int, int], batch: int) -> None:
    model = build(SMALL, Reshape(), Training(), shape, 3, Moments(1.0, 0.0))
    assert Answerer(model).batch == batch
    assert Answerer(model, 16).batch == 16


@pytest.mark.slow
def test_predicting_reads_as_many_images_as_are_answered_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reshape = Store(tmp_path / "store"), Reshape(timesteps=4)
    (tmp_path / RECEIPT_FILE).write_text(receipt_of(store, both(store)).model_dump_json())
    configuration = RunConfiguration(reshape=reshape, network=SMALL)
    (tmp_path / CONFIGURATION_FILE).write_text(configuration.model_dump_json())
    model = build(SMALL, reshape, Training(), (4, 6), 10, Moments(1 / 255, -0.5))
    model.save(tmp_path / MODEL_FILE)
    images = np.random.default_rng(0).integers(0, 256, (21, 4, 6), dtype=np.uint8)
    write_idx(tmp_path / "images", images)
    asked: list[int] = []
    read = IdxReader.batches

    def noted(reader: IdxReader, items: int) -> Iterator[NDArray[Any]]:
        asked.append(items)
        return read(reader, items)

    monkeypatch.setattr(IdxReader, "batches", noted)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 8 * 4 * 6 * 4)  # eight images
    assert write_answers(tmp_path, tmp_path / "images", tmp_path / "answers.parquet") == 21
    assert asked == [8]
    answers = np.array(pq.read_table(tmp_path / "answers.parquet")["probabilities"].to_pylist())
    np.testing.assert_allclose(answers, model(images.astype(np.float32)).numpy(), atol=2e-6)
