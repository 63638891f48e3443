"""Attention of the tokens of a text to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from transforms.encoder.export.blocks.layout import Layout

# Queries at a time in texts of more than twice as many tokens: all scores of 8,192 tokens would be gigabytes.
BLOCK = 512


@dataclass(frozen=True)
class Sight:
    """What a token sees.

    Attributes:
      window: the most tokens of a text.
      span: how far it sees to either side; None: everything.
      causal: whether only itself and what stands before it.
    """

    window: int
    span: int | None = None
    causal: bool = False


def attend(
    qkv: tf.Tensor, layout: Layout, *, width: int, sight: Sight, bias: tf.Tensor | None = None
) -> tf.Tensor:
    """softmax(queries @ keys / sqrt(width) + mask) @ values, by text and by head (arXiv:1706.03762).

    Args:
      qkv: [t, (heads + 2 * key_heads) * width]; queries, keys, values.
      layout: of the mini-batch.
      width: of a head.
      sight: what a token sees.
      bias: float32 [2 * window - 1, heads] to be added to scores, by distance; distance 0 in the middle.

    Returns:
      [t, heads * width].
    """
    query, key, value = layout.pad(tf.reshape(qkv, [-1, width]))
    groups = layout.heads // layout.key_heads
    if groups > 1:  # each key serves a group of queries
        query = tf.reshape(query, [-1, layout.key_heads, groups, layout.longest, width])
        key, value = key[:, :, tf.newaxis], value[:, :, tf.newaxis]

    def mask(first: tf.Tensor, last: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        """Of queries first to last and keys low to high: [n, 1 or heads, 1 or queries, keys]."""
        added = layout.mask[..., low:high]
        distance = tf.range(low, high) - tf.range(first, last)[:, tf.newaxis]
        if sight.causal or sight.span is not None:
            added += tf.where(_seen(distance, sight), 0.0, -1e9)
        if bias is not None:
            added += tf.transpose(tf.gather(bias, distance + sight.window - 1), [2, 0, 1])
        return added if groups == 1 else added[:, :, tf.newaxis]

    def at_once() -> tf.Tensor:
        if not sight.causal and sight.span is None and bias is None:
            return _mix(query, key, value, layout.mask if groups == 1 else layout.mask[:, :, tf.newaxis])
        return _mix(query, key, value, mask(0, layout.longest, 0, layout.longest))

    def block(first: tf.Tensor) -> tf.Tensor:
        last, span = first + BLOCK, sight.window if sight.span is None else sight.span
        low = tf.maximum(first - span, 0)
        high = tf.minimum(last if sight.causal else last + span, layout.longest)
        keys, values = key[..., low:high, :], value[..., low:high, :]
        return _mix(padded[..., first:last, :], keys, values, mask(first, last, low, high))

    if sight.window <= 2 * BLOCK:
        return layout.unpad(at_once(), width)
    blocks = (layout.longest + BLOCK - 1) // BLOCK
    outer = [[0, 0]] * (2 if groups == 1 else 3)
    padded = tf.pad(query, [*outer, [0, blocks * BLOCK - layout.longest], [0, 0]])

    def in_blocks() -> tf.Tensor:
        spec = tf.TensorSpec([None, *padded.shape[1:-2], BLOCK, width], padded.dtype)
        starts = tf.range(blocks) * BLOCK
        parts = tf.map_fn(block, starts, parallel_iterations=1, fn_output_signature=spec)
        parts = tf.transpose(parts, [*range(1, len(outer) + 1), 0, len(outer) + 1, len(outer) + 2])
        joined = tf.reshape(parts, tf.shape(padded))
        return joined[..., : layout.longest, :]

    return layout.unpad(tf.cond(layout.longest > 2 * BLOCK, in_blocks, at_once), width)


def _mix(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # Product, scale and mask become one oneDNN kernel; with the scale folded into the queries they do not.
    scale = tf.constant(1 / math.sqrt(query.shape[-1]), query.dtype)
    scores = tf.matmul(query, key, transpose_b=True) * scale + tf.cast(mask, query.dtype)
    return tf.matmul(tf.nn.softmax(scores), value)


def _seen(distance: tf.Tensor, sight: Sight) -> tf.Tensor:
    """Whether a key at this distance (negative: before the query) is seen."""
    seen = distance <= (0 if sight.causal else sight.span)
    return seen if sight.span is None else seen & (distance >= -sight.span)
