"""A BERT encoder on packed tokens: no padding anywhere but inside attention."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from transforms.encoder.export.checkpoint import Checkpoint


def _exact_gelu(x: tf.Tensor) -> tf.Tensor:
    """x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415), written as Grappler's oneDNN pattern has it.

    tf.nn.gelu computes it by erfc, which is fused with nothing.
    """
    return (0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))) * x


_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": _exact_gelu,
    "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
}


class PackedBert(tf.Module):
    """Token ids to one embedding a text (Devlin et al. 2018, arXiv:1810.04805; post-layer-norm).

    All tokens of a mini-batch are the rows of one matrix, [tokens, hidden], for every dense layer and layer
    norm; only attention sees [texts, heads, longest, head width]. Shapes below: n texts, t tokens in all,
    l tokens in the longest text.
    """

    def __init__(self, checkpoint: Checkpoint, *, precision: str = "float32") -> None:
        """Takes the weights over as variables.

        Args:
          checkpoint: the model.
          precision: type of the dense layers' and attention's products, "float32" or "bfloat16". Layer norm,
            residuals, pooling and the embedding are float32 always.
        """
        super().__init__()
        self._heads = checkpoint.heads
        self._hidden = checkpoint.hidden
        self._epsilon = checkpoint.layer_norm_epsilon
        self._pooling = checkpoint.pooling
        self._normalize = checkpoint.normalize
        self._compute_type = tf.as_dtype(precision)
        weights = checkpoint.weights
        self._words = _variable(weights["embeddings.word_embeddings.weight"])
        # Every token has type 0, so that its type's row is part of its position's.
        types = weights["embeddings.token_type_embeddings.weight"]
        positions = weights["embeddings.position_embeddings.weight"]
        self._positions = _variable(positions[: checkpoint.max_tokens] + types[0])
        self._norm = _LayerNorm(checkpoint, "embeddings.LayerNorm")
        self._layers = [_Layer(checkpoint, f"encoder.layer.{i}", precision) for i in range(checkpoint.layers)]

    def __call__(self, tokens: tf.RaggedTensor) -> tf.Tensor:
        """Embeds texts.

        Args:
          tokens: int32 [n, None], each row 1 to max_tokens ids, [CLS] first.

        Returns:
          float32 [n, hidden].
        """
        layout = _Layout(tokens, self._heads)
        rows = tf.gather(self._words, tokens.values) + tf.gather(self._positions, layout.position)
        rows = self._norm(rows)
        for layer in self._layers:
            rows = layer(rows, layout)
        return self._pool(rows, layout)

    def _pool(self, rows: tf.Tensor, layout: "_Layout") -> tf.Tensor:
        if self._pooling == "cls":
            pooled = tf.gather(rows, layout.starts)
        else:
            sums = tf.math.unsorted_segment_sum(rows, layout.text, tf.size(layout.starts))
            pooled = sums / tf.cast(layout.lengths, tf.float32)[:, tf.newaxis]
        if self._normalize:
            pooled = tf.math.l2_normalize(pooled, axis=-1, epsilon=1e-24)  # of the square; 1e-12 of the norm
        return tf.ensure_shape(pooled, [None, self._hidden])


class _Layout:
    """Where tokens lie: packed rows <-> the padded [n, heads, l] of attention. Made once for all layers."""

    def __init__(self, tokens: tf.RaggedTensor, heads: int) -> None:
        self.lengths = tf.cast(tokens.row_lengths(), tf.int32)
        self.starts = tf.cast(tokens.row_starts(), tf.int32)
        n = tf.size(self.lengths)
        self.text = tf.repeat(tf.range(n), self.lengths)
        self.position = tf.range(tf.size(self.text)) - tf.gather(self.starts, self.text)
        longest = tf.reduce_max(tf.concat([self.lengths, [0]], axis=0))
        places = tf.range(longest)
        real = places < self.lengths[:, tf.newaxis]
        self.mask = tf.where(real, 0.0, -1e9)[:, tf.newaxis, tf.newaxis, :]
        # Padding reads the text's own first token; the mask keeps it out of every sum.
        token = self.starts[:, tf.newaxis] + tf.where(real, places, 0)
        head = tf.range(heads)
        # Into [t * 3 * heads, width], so that one gather pads, splits heads and transposes: [3, n, heads, l].
        part = tf.range(3)[:, tf.newaxis, tf.newaxis, tf.newaxis] * heads + head[:, tf.newaxis]
        self.pad = token[:, tf.newaxis, :] * (3 * heads) + part
        # Into [n * heads * l, width], and back to [t, heads].
        self.unpad = (self.text[:, tf.newaxis] * heads + head) * longest + self.position[:, tf.newaxis]


class _Layer(tf.Module):
    def __init__(self, checkpoint: Checkpoint, name: str, precision: str) -> None:
        super().__init__()
        self._width = checkpoint.hidden // checkpoint.heads
        self._hidden = checkpoint.hidden
        self._type = tf.as_dtype(precision)
        self._activation = _ACTIVATIONS[checkpoint.activation]
        weights = checkpoint.weights
        attention = f"{name}.attention.self"
        parts = ("query", "key", "value")
        kernel = np.concatenate([weights[f"{attention}.{part}.weight"] for part in parts])
        bias = np.concatenate([weights[f"{attention}.{part}.bias"] for part in parts])
        constant = precision == "bfloat16" and _fits_graph(checkpoint)
        self._qkv = _Dense(kernel, bias, self._type, constant=constant)
        self._out, self._up, self._down = (
            _Dense(weights[f"{part}.weight"], weights[f"{part}.bias"], self._type, constant=constant)
            for part in (f"{name}.{p}.dense" for p in ("attention.output", "intermediate", "output"))
        )
        self._attention_norm = _LayerNorm(checkpoint, f"{name}.attention.output.LayerNorm")
        self._output_norm = _LayerNorm(checkpoint, f"{name}.output.LayerNorm")

    def __call__(self, rows: tf.Tensor, layout: _Layout) -> tf.Tensor:
        attended = self._out(self._attend(self._qkv(tf.cast(rows, self._type)), layout))
        rows = self._attention_norm(rows + tf.cast(attended, tf.float32))
        inner = self._activation(self._up(tf.cast(rows, self._type)))
        return self._output_norm(rows + tf.cast(self._down(inner), tf.float32))

    def _attend(self, qkv: tf.Tensor, layout: _Layout) -> tf.Tensor:
        padded = tf.gather(tf.reshape(qkv, [-1, self._width]), layout.pad)
        query, key, value = tf.unstack(padded, num=3)
        # Product, scale and mask become one oneDNN kernel; with the scale folded into the query they do not.
        scale = tf.constant(1 / math.sqrt(self._width), self._type)
        scores = tf.matmul(query, key, transpose_b=True) * scale + tf.cast(layout.mask, self._type)
        mixed = tf.matmul(tf.nn.softmax(scores), value)
        packed = tf.gather(tf.reshape(mixed, [-1, self._width]), layout.unpad)
        return tf.reshape(packed, [-1, self._hidden])


class _Dense(tf.Module):
    """rows @ kernel + bias, in the form that Grappler turns into one oneDNN kernel (with the activation).

    oneDNN lays out a kernel that is a constant of the graph once; one in a variable at every call, which in
    bfloat16 takes as long as the product. In float32 the layout as it is was measured to be as fast.
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, dtype: tf.DType, *, constant: bool) -> None:
        super().__init__()
        kernel = np.ascontiguousarray(kernel.T)
        if constant:  # arrays become constants where a graph uses them
            self._kernel, self._bias = (x.astype(dtype.as_numpy_dtype) for x in (kernel, bias))
        else:
            self._kernel, self._bias = _variable(kernel, dtype), _variable(bias, dtype)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(tf.matmul(rows, self._kernel), self._bias)


class _LayerNorm(tf.Module):
    """Layer norm as Keras writes it, a batch norm of rows: the form that Grappler makes one oneDNN kernel of.

    It knows tf.nn.moments and tf.nn.batch_normalization too, but forgets their epsilon.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self._epsilon = checkpoint.layer_norm_epsilon
        self._gain = _variable(checkpoint.weights[f"{name}.weight"])
        self._offset = _variable(checkpoint.weights[f"{name}.bias"])

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(rows)
        none = tf.constant([], tf.float32)
        normed = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(rows, [1, shape[0], shape[1], 1]),
            scale=tf.fill(shape[:1], 1.0),
            offset=tf.fill(shape[:1], 0.0),
            mean=none,
            variance=none,
            epsilon=self._epsilon,
            data_format="NCHW",
        )
        return tf.reshape(normed.y, shape) * self._gain + self._offset


def _fits_graph(checkpoint: Checkpoint) -> bool:
    """Whether the weights in bfloat16 may stand in the graph itself: a graph has 2 GiB at most."""
    return 2 * sum(array.size for array in checkpoint.weights.values()) <= 1 << 30


def _variable(value: np.ndarray, dtype: tf.DType = tf.float32) -> tf.Variable:
    return tf.Variable(value, trainable=False, dtype=dtype)
