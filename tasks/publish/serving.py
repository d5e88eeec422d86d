"""The SavedModel of a run: raw images in, probabilities out, the whole transform inside: serving cannot skew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.scan import scan_order

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import tensorflow as tf

    from schemas.configuration import Reshape
    from schemas.receipt import Receipt


def export(model: keras.Model, reshape: Reshape, receipt: Receipt, folder: Path) -> None:
    """Write a SavedModel whose signature takes images (N, rows, columns) and answers probabilities (N, classes).

    Under layout frames N must be a multiple of T; consecutive images form a sequence, as in training.
    """
    import tensorflow as tf

    order = tf.constant(scan_order(reshape, receipt.image_shape))
    _, steps, features = receipt.seals[0].shape
    dtype = np.dtype(receipt.image_dtype).newbyteorder("=")

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        flat = tf.reshape(images, [-1, len(order)])
        x = tf.reshape(tf.gather(flat, order, axis=1), [-1, steps, features])
        probabilities = model(tf.cast(x, tf.float32), training=False)
        return {"probabilities": tf.reshape(probabilities, [-1, receipt.labels.classes])}

    serving = tf.Module()
    serving.model = model
    images = tf.TensorSpec([None, *receipt.image_shape], tf.dtypes.as_dtype(dtype), "images")
    serving.answer = tf.function(answer, input_signature=[images], autograph=False)
    tf.saved_model.save(serving, str(folder), signatures={"serving_default": serving.answer})
