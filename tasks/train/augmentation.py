"""Augmentation: training images moved and turned a little on their way to the optimizer. Not here: when, how often.

A moved image stays one image with its label: the counts of the ledger do not change. What is kept, held out or tested
is never moved.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.errors import ConfigurationError
from tasks.scan import scan_order

if TYPE_CHECKING:
    import tensorflow as tf

    from schemas.configuration import Augmentation, Reshape

DRAWS: Final = 3  # down, across, turn


class Augmenter:
    """Moves the images inside sequences, each by draws of its own."""

    def __init__(self, augmentation: Augmentation, reshape: Reshape, item: tuple[int, ...]) -> None:
        """For images of shape `item`, rows and columns but for axes of size 1, in the scan of `reshape`.

        Raises:
            ConfigurationError: the images have another number of axes, or would be moved out of sight.
        """
        # An image of (1, columns) has its two axes already: what is dropped is what is too many.
        axes = [size for size in item if size > 1] if len(item) > 2 else item
        if len(axes) != 2:
            raise ConfigurationError(
                f"training.augmentation for images of shape {item}",
                "images of rows and columns, one value a pixel",
                "Leave augmentation out: what moving means for other images is not known",
            )
        if augmentation.shift > min(axes) / 2:
            raise ConfigurationError(
                f"training.augmentation.shift = {augmentation.shift:g} for images of {axes[0]} × {axes[1]} pixels",
                f"at most half of their shorter side, {min(axes) / 2:g}",
                "Move them less: what an image shows would be out of sight",
            )
        self.augmentation = augmentation
        self.height, self.width = axes
        self._order = scan_order(reshape, item)
        self._place = np.argsort(self._order)  # of a pixel, in the scan

    def draws_shape(self, sequences: int, steps: int, features: int) -> tuple[int, int]:
        """The shape of what `moved` takes for so many sequences (T, F)."""
        return sequences * steps * features // self._order.size, DRAWS

    def moved(self, x: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """The sequences with every image in them moved, for use inside a compiled function.

        A pixel takes the value of the place it comes from, between pixels by bilinear interpolation; what lies outside
        of the image is as the pixel at its nearest edge.

        Args:
            x: (B, T, F) raw values of any type, B known.
            draws: Uniform over [0, 1), of the shape that `draws_shape` tells.

        Returns:
            (B, T, F) float32.
        """
        import tensorflow as tf

        images = tf.reshape(tf.cast(x, tf.float32), [-1, self._order.size])
        down, across = self._sources(draws)
        top, left = tf.floor(down), tf.floor(across)
        low, right = tf.minimum(top + 1, self.height - 1.0), tf.minimum(left + 1, self.width - 1.0)
        part_down, part_across = down - top, across - left
        upper = self._at(images, top, left) * (1 - part_across) + self._at(images, top, right) * part_across
        lower = self._at(images, low, left) * (1 - part_across) + self._at(images, low, right) * part_across
        return tf.reshape(upper * (1 - part_down) + lower * part_down, x.shape)

    def _sources(self, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows and columns (images, pixels) that pixels in scan order come from, inside the image."""
        import tensorflow as tf

        middle_down, middle_across = (self.height - 1) / 2, (self.width - 1) / 2
        rows, columns = np.divmod(self._order, self.width)
        signed = 2 * draws[:, :, None] - 1
        down = (rows - middle_down).astype(np.float32) - signed[:, 0] * self.augmentation.shift
        across = (columns - middle_across).astype(np.float32) - signed[:, 1] * self.augmentation.shift
        angle = signed[:, 2] * math.radians(self.augmentation.rotation)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        from_down = cosine * down + sine * across + middle_down
        from_across = cosine * across - sine * down + middle_across
        return (
            tf.clip_by_value(from_down, 0.0, self.height - 1.0),
            tf.clip_by_value(from_across, 0.0, self.width - 1.0),
        )

    def _at(self, images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        places = tf.cast(rows * self.width + columns, tf.int32)
        if not np.array_equal(self._place, np.arange(self._place.size)):
            places = tf.gather(tf.constant(self._place, tf.int32), places)
        return tf.gather(images, places, batch_dims=1)
