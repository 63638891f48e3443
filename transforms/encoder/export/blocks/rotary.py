"""Rotary positions (Su et al. 2021, arXiv:2104.09864), halves of a head's width turned against each other."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class Angles:
    """Cosines and sines of every token's angles, float32 [t, 1, width / 2]."""

    def __init__(self, position: tf.Tensor, frequencies: Sequence[float]) -> None:
        turned = tf.cast(position, tf.float32)[:, tf.newaxis] * tf.constant(frequencies, tf.float32)
        self._cos, self._sin = tf.cos(turned)[:, tf.newaxis], tf.sin(turned)[:, tf.newaxis]

    def turn(self, heads: tf.Tensor) -> tf.Tensor:
        """float32 [t, heads, width] -> the same."""
        first, second = tf.split(heads, 2, axis=-1)
        turned = (first * self._cos - second * self._sin, second * self._cos + first * self._sin)
        return tf.concat(turned, axis=-1)
