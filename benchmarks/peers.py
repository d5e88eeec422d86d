"""The peers' arms; runs in a peer's own virtual environment and imports nothing of this project.

`peers.py NAME IMAGES LABELS` does the work once for each line of its input and answers each with the seconds it took.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    Work = Callable[[Path], None]

CLASSES = 10


def idx2numpy_and_pandas(images: Path, labels: Path) -> Work:
    """idx2numpy's arrays into a pandas frame, one column a pixel, checked and written with its defaults."""
    import idx2numpy
    import pandas as pd

    def work(folder: Path) -> None:
        with gzip.open(images) as file:
            pixels = idx2numpy.convert_from_file(file)
        with gzip.open(labels) as file:
            classes = idx2numpy.convert_from_file(file)
        require(len(pixels), classes)
        frame = pd.DataFrame(pixels.reshape(len(pixels), -1), columns=[f"p{i}" for i in range(pixels[0].size)])
        frame.insert(0, "label", classes)
        frame.to_parquet(folder / "samples.parquet")

    return work


def tfds_builder(images: Path, labels: Path) -> Work:
    """A builder of tensorflow_datasets over the files at hand; array_record, which needs no TensorFlow."""
    import numpy as np
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()

    class Digits(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:  # noqa: ANN401
            image = tfds.features.Tensor(shape=(28, 28), dtype=np.uint8)
            label = tfds.features.ClassLabel(num_classes=CLASSES)
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _manager: object) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:  # noqa: ANN401
            return examples(images, labels)

    def work(folder: Path) -> None:
        builder = Digits(data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        require(builder.info.splits["train"].num_examples, arrays(images, labels)[1])

    return work


def datasets_builder(images: Path, labels: Path) -> Work:
    """A builder of Hugging Face datasets over the files at hand, to Parquet."""
    import datasets as hf

    hf.disable_progress_bars()

    class Digits(hf.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = hf.Version("1.0.0")

        def _info(self) -> Any:  # noqa: ANN401
            image, label = hf.Array2D((28, 28), "uint8"), hf.ClassLabel(num_classes=CLASSES)
            return hf.DatasetInfo(features=hf.Features({"image": image, "label": label}))

        def _split_generators(self, _manager: object) -> list[Any]:
            return [hf.SplitGenerator(name="train")]

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            return examples(images, labels)

    def work(folder: Path) -> None:
        builder = Digits(cache_dir=str(folder))
        builder.download_and_prepare(str(folder / "out"), file_format="parquet")
        require(builder.info.splits["train"].num_examples, arrays(images, labels)[1])

    return work


def arrays(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's two files as most scripts read them: headers of 16 and 8 bytes skipped."""
    import numpy as np

    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)


def examples(images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered samples, as both builders want them."""
    pixels, classes = arrays(images, labels)
    for number, (image, label) in enumerate(zip(pixels, classes, strict=True)):
        yield number, {"image": image, "label": int(label)}


def require(count: int, labels: np.ndarray) -> None:
    """Check that there are as many labels as images, all of them classes."""
    if count != len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError("counts differ, or a label is none of the classes")


ARMS = {
    "idx2numpy": idx2numpy_and_pandas,
    "tensorflow_datasets": tfds_builder,
    "datasets": datasets_builder,
}


def main() -> None:
    """Answer each line with the seconds of one repetition; whatever the peers print goes to standard error."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    name, images, labels = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        work = ARMS[name](Path(images), Path(labels))
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory(dir=Path(images).parent) as folder, contextlib.redirect_stdout(sys.stderr):
            start = time.perf_counter()
            work(Path(folder))
            took = time.perf_counter() - start
        print(took, flush=True)


if __name__ == "__main__":
    main()
