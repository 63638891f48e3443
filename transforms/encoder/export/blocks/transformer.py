"""Any of the architectures as one module: token ids of many texts to one vector a token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from transforms.encoder.export.architecture import Architecture, Layer
from transforms.encoder.export.blocks.attention import Sight, attend
from transforms.encoder.export.blocks.dense import ACTIVATIONS, Dense, variable
from transforms.encoder.export.blocks.layout import Layout
from transforms.encoder.export.blocks.norms import LayerNorm, RMSNorm
from transforms.encoder.export.blocks.rotary import Angles

Weights = Mapping[str, np.ndarray]


class Transformer(tf.Module):
    """All tokens of a mini-batch are the rows of one matrix [t, hidden] for every dense layer and norm; only
    attention sees [texts, heads, longest, width].
    """

    def __init__(self, made_of: Architecture, weights: Weights, *, precision: str) -> None:
        """Takes the weights over as variables.

        Args:
          made_of: the architecture.
          weights: its tensors by name, float32.
          precision: type of the dense layers' and attention's products: "float32", "bfloat16" or "float16".
            Norms, rotary positions, residuals and the result are float32 always.
        """
        super().__init__()
        self._made_of = made_of
        names = made_of.names
        self._words = variable(weights[f"{names.words}.weight"])
        self._positions: tf.Variable | None = None
        # Every token has type 0, so that its type's row is part of its position's.
        kind = (
            weights[f"{names.types}.weight"][0] if made_of.type_rows else np.zeros(made_of.hidden, np.float32)
        )
        if made_of.position_rows:
            rows = made_of.position_offset + made_of.window
            self._positions = variable(weights[f"{names.positions}.weight"][:rows] + kind)
        self._kind = variable(kind) if made_of.type_rows and not made_of.position_rows else None
        self._bias = variable(_bias_by_distance(made_of, weights)) if made_of.buckets else None
        self._embedding_norm = _norm(made_of, weights, names.embedding_norm) if names.embedding_norm else None
        self._layers = [_Layer(made_of, i, weights, precision) for i in range(len(made_of.layers))]
        self._final_norm = _norm(made_of, weights, names.final_norm) if names.final_norm else None

    def __call__(self, ids: tf.Tensor, layout: Layout) -> tf.Tensor:
        """int32 [t] -> float32 [t, hidden]."""
        rows = tf.gather(self._words, ids)
        if self._positions is not None:
            rows += tf.gather(self._positions, self._places(ids, layout))
        if self._kind is not None:
            rows += self._kind
        if self._embedding_norm is not None:
            rows = self._embedding_norm(rows)
        bias = None if self._bias is None else tf.identity(self._bias)
        turns = {layer.frequencies for layer in self._made_of.layers if layer.frequencies}
        angles = {frequencies: Angles(layout.position, frequencies) for frequencies in sorted(turns)}
        for kind, layer in zip(self._made_of.layers, self._layers, strict=True):
            rows = layer(rows, layout, angles.get(kind.frequencies), bias)
        return rows if self._final_norm is None else self._final_norm(rows)

    def _places(self, ids: tf.Tensor, layout: Layout) -> tf.Tensor:
        """Each token's row in the table of positions."""
        if self._made_of.pad is None:
            return layout.position + self._made_of.position_offset
        # A padding token that stands in a text takes no position, and has the one before the first.
        counted = tf.cast(ids != self._made_of.pad, tf.int32)
        before = tf.cumsum(counted, exclusive=True)
        place = before - tf.gather(before, tf.gather(layout.starts, layout.text))
        return tf.where(
            counted == 1, place + self._made_of.position_offset, self._made_of.position_offset - 1
        )


class _Layer(tf.Module):
    def __init__(self, made_of: Architecture, number: int, weights: Weights, precision: str) -> None:
        super().__init__()
        layer: Layer = made_of.layers[number]
        names: dict[str, Any] = {k: _numbered(name, number) for k, name in vars(made_of.names).items()}
        self._width, self._first = made_of.width, made_of.norm_first
        self._turned = made_of.heads + made_of.key_heads
        self._type = tf.as_dtype(precision)
        self._sight = Sight(made_of.window, layer.span, made_of.causal)
        self._activation, self._gated = ACTIVATIONS[made_of.activation], made_of.gated
        kernel, offset = _stacked(weights, names["qkv"], made_of.qkv_bias)
        self._head_norms = None
        if names["query_norm"]:
            norms = (weights[f"{names[part]}.weight"] for part in ("query_norm", "key_norm"))
            self._head_norms = [RMSNorm(norm, made_of.epsilon) for norm in norms]
            self._queries = made_of.heads
        constant = precision == "bfloat16" and _fits_graph(weights)
        self._qkv = Dense(kernel, offset, self._type, constant=constant)
        parts = (
            (names["out"], made_of.out_bias),
            (names["up"], made_of.mlp_bias),
            (names["down"], made_of.mlp_bias),
        )
        self._out, self._up, self._down = (
            Dense(*_stacked(weights, name, bias), self._type, constant=constant) for name, bias in parts
        )
        has_norm = number or made_of.first_norm
        self._attention_norm = _norm(made_of, weights, names["attention_norm"]) if has_norm else tf.identity
        self._mlp_norm = _norm(made_of, weights, names["mlp_norm"])

    def __call__(
        self, rows: tf.Tensor, layout: Layout, angles: Angles | None, bias: tf.Tensor | None
    ) -> tf.Tensor:
        if self._first:
            rows += self._attention(self._attention_norm(rows), layout, angles, bias)
            return rows + self._mlp(self._mlp_norm(rows))
        rows = self._attention_norm(rows + self._attention(rows, layout, angles, bias))
        return self._mlp_norm(rows + self._mlp(rows))

    def _attention(
        self, rows: tf.Tensor, layout: Layout, angles: Angles | None, bias: tf.Tensor | None
    ) -> tf.Tensor:
        qkv = self._qkv(tf.cast(rows, self._type))
        if angles is not None:
            qkv = self._turn(qkv, angles)
        mixed = attend(qkv, layout, width=self._width, sight=self._sight, bias=bias)
        return tf.cast(self._out(mixed), tf.float32)

    def _turn(self, qkv: tf.Tensor, angles: Angles) -> tf.Tensor:
        """Norms of heads, and rotary positions: of queries and keys, not of values."""
        heads = tf.reshape(qkv, [-1, qkv.shape[1] // self._width, self._width])
        turned = tf.cast(heads[:, : self._turned], tf.float32)
        if self._head_norms is not None:
            query, key = self._head_norms
            turned = tf.concat([query(turned[:, : self._queries]), key(turned[:, self._queries :])], axis=1)
        turned = tf.cast(angles.turn(turned), self._type)
        return tf.reshape(tf.concat([turned, heads[:, self._turned :]], axis=1), [-1, qkv.shape[1]])

    def _mlp(self, rows: tf.Tensor) -> tf.Tensor:
        inner = self._up(tf.cast(rows, self._type))
        if self._gated:
            gate, value = tf.split(inner, 2, axis=-1)
            inner = self._activation(gate) * value
        else:
            inner = self._activation(inner)
        return tf.cast(self._down(inner), tf.float32)


def _numbered(name: str | tuple[str, ...], number: int) -> str | tuple[str, ...]:
    if isinstance(name, tuple):
        return tuple(each.replace("{i}", str(number)) for each in name)
    return name.replace("{i}", str(number))


def _stacked(
    weights: Weights, names: str | Sequence[str], bias: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Kernel and bias of dense layers side by side, in arrays of their own."""
    names = (names,) if isinstance(names, str) else names
    kernel = np.concatenate([weights[f"{name}.weight"] for name in names])
    return kernel, np.concatenate([weights[f"{name}.bias"] for name in names]) if bias else None


def _fits_graph(weights: Weights) -> bool:
    """Whether the weights in bfloat16 may stand in the graph itself: a graph has 2 GiB at most."""
    return 2 * sum(array.size for array in weights.values()) <= 1 << 30


def _norm(made_of: Architecture, weights: Weights, name: str) -> LayerNorm | RMSNorm:
    gain = weights[f"{name}.weight"]
    if made_of.rms:
        return RMSNorm(gain, made_of.epsilon)
    return LayerNorm(gain, weights[f"{name}.bias"] if made_of.norm_bias else None, made_of.epsilon)


def _bias_by_distance(made_of: Architecture, weights: Weights, farthest: int = 128) -> np.ndarray:
    """Relative biases [2 * window - 1, heads] (Raffel et al. 2019, arXiv:1910.10683, section 2.1).

    Half of the buckets are for keys after the query; of each half, half are exact distances, and the other
    half are logarithmic up to `farthest`.
    """
    distance = np.arange(-made_of.window + 1, made_of.window)  # of the key from the query
    half = made_of.buckets // 2
    exact = half // 2
    away = np.abs(distance)
    share = np.log(np.maximum(away, 1).astype(np.float32) / exact) / np.float32(math.log(farthest / exact))
    far = np.minimum(exact + (share * (half - exact)).astype(np.int64), half - 1)
    bucket = np.where(away < exact, away, far) + half * (distance > 0)
    return weights[f"{made_of.names.relative}.weight"][bucket]
