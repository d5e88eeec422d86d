"""Floors: what two simple models reach on the same split, so that a network's accuracy can be judged.

Nearest centroid: the class whose mean training image is nearest in Euclidean distance (Hastie, Tibshirani and Friedman,
'The Elements of Statistical Learning', 2nd edition, 2009, section 4.3: linear discriminants of equal, round spread).
Logistic regression: the softmax of a linear map of the pixels (section 4.4 there), fitted to the cross-entropy by
stochastic gradient descent with momentum, a rate that falls to 0, no penalty.

Both see every pixel less its training mean, and all in one unit: so light ground and little contrast make the descent
no slower than dark ground, and distances are not what is left of large numbers that cancel. They see at most as many
training images as `MOST_IMAGES`, `MOST_PIXELS` and `MOST_PRODUCTS` allow, evenly spread over the split, so that their
time does not grow with it, nor beyond half a minute or so with the classes. Images stream in batches. NumPy alone, from
a fixed seed: equal inputs give equal floors on one machine.

Products are taken in pieces that OpenBLAS leaves to one thread (it shares those above 2^18 multiplications): on a busy
machine, threads that wait for each other took 30 s for what one does in 1 s. Pieces are cut along images, pixels and
classes, so that none is thin: in single images, products for 200 classes took twenty times as long.

Not here: the intervals (metrics).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.metrics import Floor
from tasks.arrays import rows_at_a_time
from tasks.evaluate.slices import images_of
from tasks.proportions import wilson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MOST_IMAGES: Final = 60_000
MOST_PIXELS: Final = 60_000 * 784
EPOCHS: Final = 8
LEAST_STEPS: Final = 200  # more epochs where there are few images
BATCH: Final = 512
MOST_PRODUCTS: Final = EPOCHS * MOST_PIXELS * 400  # of a pixel and a weight, in all epochs
RATE: Final = 0.4
MOMENTUM: Final = 0.9
DEVIATION: Final = 0.3  # of the pixels that the descent sees, from their means: what `RATE` was chosen for
SEED: Final = 0
_CHUNK: Final = 2048  # images at the most
_ONE_THREAD: Final = 1 << 18
_WEIGHTS: Final = 1 << 13  # in a piece: OpenBLAS shares a product with one image only above 9,216
_CLASSES: Final = 64


@dataclass(frozen=True)
class Samples:
    """Images and their class indices, as arrays that may be mapped.

    Attributes:
        x: Sequences (N, T, F).
        targets: Class indices (N,), or (N, T) where each step is an image.
    """

    x: NDArray[Any]
    targets: NDArray[np.integer]

    @property
    def images(self) -> NDArray[Any]:
        """(images, pixels), a view."""
        return images_of(self.x, every_step=self.targets.ndim == 2)

    @property
    def labels(self) -> NDArray[np.integer]:
        """(images,) class indices."""
        return self.targets.reshape(-1)


def floors_of(train: Samples, test: Samples, classes: int) -> tuple[Floor, ...]:
    """Fit both models to the training images and count their right answers on the test images."""
    images = train.images
    rows = spread_rows(len(images), images.shape[1], classes)
    centred = Centred.of(images, rows, Scale.of(images, rows))
    linear = (
        ("nearest centroid", centroid_map(images, train.labels, rows, centred, classes)),
        ("logistic regression", logistic_map(images, train.labels, rows, centred, classes)),
    )
    correct = [0 for _ in linear]
    for chunk in _chunks(len(test.images), images.shape[1]):
        x, labels = centred(test.images[chunk]), test.labels[chunk]
        for i, (_, (weights, bias)) in enumerate(linear):
            correct[i] += int(np.count_nonzero((_outputs(x, weights) + bias).argmax(axis=1) == labels))
    n = len(test.images)
    return tuple(
        Floor(name=name, trained_on=len(rows), correct=right, accuracy=right / n, interval=wilson(right, n))
        for (name, _), right in zip(linear, correct, strict=True)
    )


def spread_rows(images: int, pixels: int, classes: int) -> NDArray[np.intp]:
    """The rows (n,) of the training images that are seen: all of them, or as many as are allowed, evenly spread."""
    n = min(images, MOST_IMAGES, MOST_PIXELS // pixels, MOST_PRODUCTS // (EPOCHS * pixels * classes))
    return np.arange(max(1, n), dtype=np.intp) * images // max(1, n)


def epochs_over(rows: int, pixels: int, classes: int) -> int:
    """How often the descent sees each image: `EPOCHS`, and more until `LEAST_STEPS`, if `MOST_PRODUCTS` allows."""
    steps = -(-rows // BATCH)
    return max(EPOCHS, min(-(-LEAST_STEPS // steps), MOST_PRODUCTS // (rows * pixels * classes)))


@dataclass(frozen=True)
class Scale:
    """From stored values to 0..1: bytes by 255, other types by the least and the greatest value that training has."""

    low: float
    span: float

    @classmethod
    def of(cls, images: NDArray[Any], rows: NDArray[np.intp]) -> Scale:
        """The scale of these rows."""
        if images.dtype == np.uint8:
            return cls(0.0, 255.0)
        bounds = [(float(each.min()), float(each.max())) for each in _chosen(images, rows)]
        low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
        return cls(low, high - low or 1.0)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Scaled images, float32."""
        if self.low == 0.0:
            bright = images.astype(np.float32)
            bright *= np.float32(1 / self.span)  # in place: the memory of another array takes longer to get than this
            return bright
        scaled: NDArray[np.float32] = ((images.astype(np.float64) - self.low) / self.span).astype(np.float32)
        return scaled


Linear = tuple["NDArray[np.float32]", "NDArray[np.float32]"]  # weights (pixels, C), bias (C,)


def centroid_map(
    images: NDArray[Any], labels: NDArray[np.integer], rows: NDArray[np.intp], centred: Centred, classes: int
) -> Linear:
    """The map of centred pixels with the greatest output for the nearest centroid: of |x - c|², all have x · x.

    A class without training images is never nearest.
    """
    sums, counts = np.zeros((classes, images.shape[1])), np.zeros(classes)
    for x, y in _batches(images, labels, rows, centred, rows_at_a_time(images.shape[1], _CHUNK)):
        one_hot = (y == np.arange(classes)[:, None]).astype(np.float32)
        sums += _summed(x, one_hot.T).T
        counts += one_hot.sum(axis=1)
    centroids = sums / np.maximum(counts, 1)[:, None]
    bias = np.where(counts > 0, -(centroids**2).sum(axis=1) / 2, -np.inf)
    return centroids.T.astype(np.float32), bias.astype(np.float32)


@dataclass(frozen=True)
class Centred:
    """What both models see: scaled pixels less their mean (pixels,) in training, times a gain that all share."""

    scale: Scale
    mean: NDArray[np.float32]
    gain: np.float32

    @classmethod
    def of(cls, images: NDArray[Any], rows: NDArray[np.intp], scale: Scale) -> Centred:
        """Centred on these rows; images that do not differ at all stay as they are."""
        sums = sum(scale(each).sum(axis=0, dtype=np.float64) for each in _chosen(images, rows))
        mean = (sums / len(rows)).astype(np.float32)
        squares = sum(float(np.square(scale(each) - mean).sum(dtype=np.float64)) for each in _chosen(images, rows))
        deviation = (squares / (len(rows) * len(mean))) ** 0.5
        return cls(scale, mean, np.float32(DEVIATION / deviation if deviation else 1.0))

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Centred images, float32."""
        seen = self.scale(images)
        seen -= self.mean
        seen *= self.gain
        return seen


def logistic_map(
    images: NDArray[Any], labels: NDArray[np.integer], rows: NDArray[np.intp], centred: Centred, classes: int
) -> Linear:
    """The map of centred pixels after `epochs_over` these rows, in an order that `SEED` draws."""
    pixels = images.shape[1]
    weights, bias = np.zeros((pixels, classes), np.float32), np.zeros(classes, np.float32)
    moving, moving_bias = np.zeros_like(weights), np.zeros_like(bias)
    generator = np.random.Generator(np.random.PCG64(SEED))
    each = -(-len(rows) // BATCH)
    epochs = epochs_over(len(rows), pixels, classes)
    for epoch in range(epochs):
        batches = _batches(images, labels, generator.permutation(rows), centred, BATCH)
        for step, (x, y) in enumerate(batches, epoch * each):
            error = _softmax(_outputs(x, weights) + bias)
            error[np.arange(len(y)), y] -= 1
            rate = np.float32(RATE * (1 - step / (epochs * each)) / len(y))
            moving = np.float32(MOMENTUM) * moving + rate * _summed(x, error)
            moving_bias = np.float32(MOMENTUM) * moving_bias + rate * error.sum(axis=0)
            weights -= moving
            bias -= moving_bias
    return weights, bias


def _batches(
    images: NDArray[Any], labels: NDArray[np.integer], rows: NDArray[np.intp], centred: Centred, size: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.integer]]]:
    for start in range(0, len(rows), size):
        chosen = np.sort(rows[start : start + size])  # read in the order of the file
        yield centred(images[chosen]), labels[chosen]


def _chosen(images: NDArray[Any], rows: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """The images of these rows, some at a time."""
    return (images[rows[chunk]] for chunk in _chunks(len(rows), images.shape[1]))


def _chunks(images: int, pixels: int) -> list[slice]:
    return _cuts(images, rows_at_a_time(pixels, _CHUNK))


def _outputs(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of x (n, pixels) and weights (pixels, C)."""
    outputs = np.zeros((len(x), weights.shape[1]), np.float32)
    for pixels, classes, rows in pieces(len(x), *weights.shape):
        outputs[rows, classes] += x[rows, pixels] @ weights[pixels, classes]
    return outputs


def _summed(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The transpose of x (n, pixels) times y (n, C)."""
    total = np.zeros((x.shape[1], y.shape[1]), np.float32)
    for pixels, classes, rows in pieces(len(x), *total.shape):
        total[pixels, classes] += x[rows, pixels].T @ y[rows, classes]
    return total


def pieces(rows: int, pixels: int, classes: int) -> Iterator[tuple[slice, slice, slice]]:
    """Pixels, classes and images of each part of a product that one thread takes; the parts are the whole, once."""
    wide = min(classes, _CLASSES)
    high = min(pixels, _WEIGHTS // wide)
    return product(_cuts(pixels, high), _cuts(classes, wide), _cuts(rows, _ONE_THREAD // (high * wide)))


def _cuts(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = exponents / exponents.sum(axis=1, keepdims=True)
    return shares
