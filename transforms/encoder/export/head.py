"""Token vectors to one embedding a text."""

from __future__ import annotations

import tensorflow as tf

from transforms.encoder.export.blocks.dense import ACTIVATIONS, Dense
from transforms.encoder.export.blocks.layout import Layout
from transforms.encoder.export.sentence import Modules


class Head(tf.Module):
    """Pooling, dense layers and normalisation, in float32."""

    def __init__(self, modules: Modules, *, pooling: str, dim: int) -> None:
        super().__init__()
        self._pooling, self._normalize, self._dim = pooling, modules.normalize, dim
        self._dense = [
            (Dense(module.weights["linear.weight"], module.weights.get("linear.bias")), module.activation)
            for module in modules.dense
        ]

    def __call__(self, rows: tf.Tensor, layout: Layout) -> tf.Tensor:
        """float32 [t, hidden] -> float32 [n, dim]; NaN for a text without tokens."""
        pooled = self._pool(rows, layout)
        for dense, activation in self._dense:
            pooled = ACTIVATIONS[activation](dense(pooled))
        if self._normalize:
            pooled = tf.math.l2_normalize(pooled, axis=-1, epsilon=1e-24)  # of the square; 1e-12 of the norm
        return tf.ensure_shape(pooled, [None, self._dim])

    def _pool(self, rows: tf.Tensor, layout: Layout) -> tf.Tensor:
        if self._pooling == "mean":
            sums = tf.math.unsorted_segment_sum(rows, layout.text, tf.size(layout.lengths))
            return sums / tf.cast(layout.lengths, tf.float32)[:, tf.newaxis]
        place = layout.starts + (layout.lengths - 1 if self._pooling == "last" else 0)
        none = tf.fill([1, rows.shape[1]], float("nan"))
        return tf.gather(tf.concat([rows, none], 0), tf.where(layout.lengths > 0, place, tf.shape(rows)[0]))
