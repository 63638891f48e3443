"""Norms of rows, in float32."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from transforms.encoder.export.blocks.dense import variable


class LayerNorm(tf.Module):
    """(x - mean) / standard deviation * gain + offset (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, gain: np.ndarray, offset: np.ndarray | None, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon
        self._gain = variable(gain)
        self._offset = None if offset is None else variable(offset)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(rows, axes=[-1], keepdims=True)
        return tf.nn.batch_normalization(rows, mean, variance, self._offset, self._gain, self._epsilon)


class RMSNorm(tf.Module):
    """x / root mean square * gain (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, gain: np.ndarray, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon
        self._gain = variable(gain)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        mean_square = tf.reduce_mean(tf.square(rows), axis=-1, keepdims=True)
        return rows * tf.math.rsqrt(mean_square + self._epsilon) * self._gain
