"""The LSTM layer as it is computed here, with a gradient of its own. Not here: layers put together (network).

TensorFlow's own gradient of a loop keeps more than it needs and adds up the weights' gradient from products of
transposed matrices, which its compiler multiplies slower. Written out, a step is one product forwards and two backwards
(docs/LOG.md, "The LSTM's own gradient").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import tensorflow as tf

AT_ONCE: Final = 1 << 18  # values of dz over all steps; more do not stay in a core's cache


def lstm(x: tf.Tensor, w: tf.Tensor, u: tf.Tensor, b: tf.Tensor, *, every_step: bool) -> tf.Tensor:
    """One LSTM layer (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), gates i, f, g, o.

    With s_t = [x_t, 1, h_{t-1}] and M = [W; b; U]: [i, f, g, o] = s_t M, each sigmoid but g, which is tanh;
    c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Args:
        x: (T, B, F) float32, T and B known.
        w: W, (F, 4h).
        u: U, (h, 4h).
        b: (4h,).
        every_step: Give every h_t, not only the last.

    Returns:
        (T, B, h) where every step is wanted, else (B, h); with respect to all four arguments its gradient is that of
        backpropagation through time.
    """
    import tensorflow as tf

    at_once = x.shape[0] * x.shape[1] * u.shape[1] <= AT_ONCE

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def layer(x: tf.Tensor, w: tf.Tensor, u: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Any]:
        last, every, kept = _forwards(x, tf.concat([w, b[None], u], 0), u.shape[0], transposed=not at_once)

        def gradient(d: tf.Tensor) -> tuple[tf.Tensor, ...]:
            dx, dm = _backwards(kept, w, u, d, every_step=every_step, at_once=at_once)
            features = w.shape[0]
            return dx, dm[:features], dm[features + 1 :], dm[features]

        return every if every_step else last, gradient

    return layer(x, w, u, b)


def _forwards(
    x: tf.Tensor, m: tf.Tensor, h_size: int, *, transposed: bool
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The last state, every state, and what the gradient needs: s_t (or transposed), i, f, g, o, c_{t-1}, tanh(c_t)."""
    import tensorflow as tf

    steps, batch, _ = x.shape
    x = tf.concat([x, tf.ones([steps, batch, 1], x.dtype)], 2)
    s_shape = [batch, x.shape[2] + h_size]
    shapes = [s_shape[::-1] if transposed else s_shape] + [[batch, h_size]] * 7
    arrays = tuple(tf.TensorArray(x.dtype, steps, element_shape=shape) for shape in shapes)

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *arrays: tf.TensorArray) -> tuple[Any, ...]:
        s = tf.concat([x[t], h], 1)
        i, f, g, o = tf.split(tf.linalg.matmul(s, m), 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        before, c = c, f * c + i * g
        tanh_c = tf.tanh(c)
        h = o * tanh_c
        values = (tf.transpose(s) if transposed else s, i, f, g, o, before, tanh_c, h)
        return t + 1, h, c, *(array.write(t, value) for array, value in zip(arrays, values, strict=True))

    zero = tf.zeros([batch, h_size], x.dtype)
    _, h, _, *filled = _loop(lambda t, *_: t < steps, step, (0, zero, zero, *arrays), steps)
    *kept, every = (array.stack() for array in filled)
    return h, every, kept


def _backwards(
    kept: list[tf.Tensor], w: tf.Tensor, u: tf.Tensor, d: tf.Tensor, *, every_step: bool, at_once: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of x and of M, given that of every state, (T, B, h), or of the last one, (B, h).

    That of M is a sum over the steps: one product of all of them at once, or added up step by step, where writing and
    reading all dz costs more than adding.
    """
    import tensorflow as tf

    s, *kept = kept
    steps, batch, h_size = kept[0].shape
    zero, u_transposed = tf.zeros([batch, h_size], u.dtype), tf.transpose(u)

    def step(t: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor, dm: Any, dx: tf.TensorArray) -> tuple[Any, ...]:  # noqa: ANN401
        i, f, g, o, c_before, tanh_c = (each[t] for each in kept)
        dh = dh + d[t] if every_step else dh
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        dz = tf.concat(
            [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)], 1
        )
        dm = dm.write(t, dz) if at_once else dm + tf.linalg.matmul(s[t], dz)
        dx = dx.write(t, tf.linalg.matmul(dz, w, transpose_b=True))  # compiled away where nobody asks for it
        return t - 1, tf.linalg.matmul(dz, u_transposed), dc * f, dm, dx

    every_dz = tf.TensorArray(u.dtype, steps, element_shape=[batch, 4 * h_size])
    dm = every_dz if at_once else tf.zeros([s.shape[1], 4 * h_size], u.dtype)
    dx = tf.TensorArray(u.dtype, steps, element_shape=[batch, w.shape[0]])
    start = (steps - 1, zero if every_step else d, zero, dm, dx)
    *_, dm, dx = _loop(lambda t, *_: t >= 0, step, start, steps)
    if at_once:
        s_transposed = tf.transpose(tf.reshape(s, [steps * batch, -1]))  # a product that transposes takes longer
        dm = tf.linalg.matmul(s_transposed, tf.reshape(dm.stack(), [steps * batch, -1]))
    return dx.stack(), dm


def _loop(condition: Any, body: Any, start: tuple[Any, ...], steps: int) -> tuple[Any, ...]:  # noqa: ANN401 - functions
    import tensorflow as tf

    ended: tuple[Any, ...] = tf.while_loop(condition, body, start, parallel_iterations=1, maximum_iterations=steps)
    return ended
