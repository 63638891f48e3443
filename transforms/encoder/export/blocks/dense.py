"""Dense layers and their activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def _exact_gelu(x: tf.Tensor) -> tf.Tensor:
    """x Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415), written as Grappler's oneDNN pattern has it.

    tf.nn.gelu computes it by erfc, which is fused with nothing.
    """
    return (0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))) * x


def _tanh_gelu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.gelu(x, approximate=True)


ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": _exact_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.math.tanh,
    "identity": tf.identity,
}


class Dense(tf.Module):
    """rows @ kernel + bias, in the form that Grappler turns into one oneDNN kernel (with the activation).

    oneDNN lays out a kernel that is a constant of the graph once; one in a variable at every call, which in
    bfloat16 takes as long as the product. In float32 the layout as it is was measured to be as fast.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray | None,
        dtype: tf.DType = tf.float32,
        *,
        constant: bool = False,
    ) -> None:
        """Takes the weights over.

        Args:
          kernel: [out, in], as PyTorch keeps it.
          bias: [out], or None.
          dtype: of the product.
          constant: whether the weights are constants of the graph, whose size protobuf limits to 2 GB.
        """
        super().__init__()
        kernel = np.ascontiguousarray(kernel.T)
        if constant:  # arrays become constants where a graph uses them
            self._kernel = kernel.astype(dtype.as_numpy_dtype)
            self._bias = None if bias is None else bias.astype(dtype.as_numpy_dtype)
        else:
            self._kernel = variable(kernel, dtype)
            self._bias = None if bias is None else variable(bias, dtype)

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        product = tf.matmul(rows, self._kernel)
        return product if self._bias is None else tf.nn.bias_add(product, self._bias)


def variable(value: np.ndarray, dtype: tf.DType = tf.float32) -> tf.Variable:
    """A weight; variables lie outside the graph, whose size protobuf limits to 2 GB."""
    return tf.Variable(value, trainable=False, dtype=dtype)
