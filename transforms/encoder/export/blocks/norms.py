"""Norms of rows, in float32."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from transforms.encoder.export.blocks.dense import variable


class LayerNorm(tf.Module):
    """(x - mean) / standard deviation * gain + offset (Ba et al. 2016, arXiv:1607.06450).

    Written as a batch norm of rows, as Keras has it: the form that Grappler makes one oneDNN kernel of. It
    knows tf.nn.moments and tf.nn.batch_normalization too, but forgets their epsilon.
    """

    def __init__(self, gain: np.ndarray, offset: np.ndarray | None, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon
        self._gain = variable(gain)
        self._offset = None if offset is None else variable(offset)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        shape, none = tf.shape(rows), tf.constant([], tf.float32)
        normed = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(rows, [1, shape[0], shape[1], 1]),
            scale=tf.fill(shape[:1], 1.0),
            offset=tf.fill(shape[:1], 0.0),
            mean=none,
            variance=none,
            epsilon=self._epsilon,
            data_format="NCHW",
        )
        scaled = tf.reshape(normed.y, shape) * self._gain
        return scaled if self._offset is None else scaled + self._offset


class RMSNorm(tf.Module):
    """x / root mean square * gain (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, gain: np.ndarray, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon
        self._gain = variable(gain)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        mean_square = tf.reduce_mean(tf.square(rows), axis=-1, keepdims=True)
        return rows * tf.math.rsqrt(mean_square + self._epsilon) * self._gain
