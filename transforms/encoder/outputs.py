"""Which output of a function holds the vectors, and one vector a row where it holds several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.encoder.messages import model_error
from transforms.encoder.signature import described, shape_of
from transforms.errors import UsageError
from transforms.storage.urls import redact

if TYPE_CHECKING:
    from transforms.encoder.config import ModelConfig

_VECTORS = "floats [n, dim] or [n, positions, dim]"


def pick_output(function: Any, config: ModelConfig) -> str | None:
    """The name of the output that holds the vectors; None where the outputs have no names."""
    outputs = function.structured_outputs
    name: str | None = None
    if isinstance(outputs, dict):
        outputs = {name: spec for name, spec in outputs.items() if hasattr(spec, "dtype")}  # nested: none
        name = _named_output(outputs, config)
        spec, what, argument = outputs[name], f"model_output {name}:", "model_output"
    elif config.output:
        reason = "the model has one output, without a name"
        raise UsageError(f"model_output {config.output}: {reason}", argument="model_output")
    else:
        alone = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if len(alone) != 1:
            reason = f"gives {len(alone)} outputs without names, expected one; choose another `signature`"
            raise model_error(config.handle, reason)
        spec, what, argument = alone[0], f"model {redact(config.handle)}: its output", "model"
    if not is_vectors(spec):
        found = f"{spec.dtype.name} {shape_of(spec.shape)}"
        raise UsageError(f"{what} is {found}, expected {_VECTORS}", argument=argument)
    return name


def _named_output(outputs: dict[str, Any], config: ModelConfig) -> str:
    if config.output:
        if config.output not in outputs:
            reason = f"no such output; the model has ({described(outputs)})"
            raise UsageError(f"model_output {config.output}: {reason}", argument="model_output")
        return config.output
    fitting = {n: spec for n, spec in outputs.items() if is_vectors(spec)}
    # Vectors of rows come before vectors of their positions, which would have to be pooled.
    names = [n for n, spec in fitting.items() if spec.shape.rank != 3] or list(fitting)
    if len(names) > 1 and "default" in names:
        return "default"  # the name TF Hub gives the one meant for users
    if not names:
        reason = f"has no vectors among its outputs ({described(outputs)}), expected {_VECTORS}"
        raise model_error(config.handle, f"{reason}; choose another `signature`")
    if len(names) != 1:
        has = f"has several outputs that hold vectors ({described({n: outputs[n] for n in names})})"
        raise model_error(config.handle, f"{has}; name one with `model_output`")
    return names[0]


def is_vectors(spec: Any) -> bool:
    """Whether an output may hold vectors: floats [n, dim], or [n, positions, dim] to be pooled."""
    return spec.dtype.is_floating and spec.shape.rank in (None, 2, 3)


def shortened(vectors: np.ndarray, dim: int, *, unit_length: bool) -> np.ndarray:
    """The first numbers of vectors that were trained for it (Matryoshka Representation Learning, 2022).

    Args:
      vectors: float32 [n, more].
      unit_length: whether they have length 1, which what is left gets back.

    Returns:
      float32 [n, dim].

    >>> shortened(np.array([[0.6, 0.0, 0.8]], np.float32), 2, unit_length=True).tolist()
    [[1.0, 0.0]]
    """
    left = np.ascontiguousarray(vectors[:, :dim])
    if unit_length:
        left /= np.maximum(np.linalg.norm(left, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return left


def pooled(tf: Any, value: Any, mask: Any, pooling: str) -> Any:
    """One vector a row.

    Args:
      value: floats [n, dim], which stay as they are, or [n, positions, dim].
      mask: [n, positions], not 0 where a position is of the row; None: all are. Real ones come first.
      pooling: mean, max or last of the real positions, or cls for the first one.

    Returns:
      floats [n, dim].
    """
    if value.shape.rank != 3:
        return value
    if pooling == "cls":
        return value[:, 0]
    if mask is None:
        mask = tf.ones(tf.shape(value)[:2], tf.bool)
    real = tf.cast(mask, tf.bool)
    if pooling == "last":
        last = tf.maximum(tf.reduce_sum(tf.cast(real, tf.int32), axis=1) - 1, 0)
        return tf.gather(value, last, batch_dims=1)
    if pooling == "max":
        return tf.reduce_max(tf.where(real[:, :, tf.newaxis], value, value.dtype.min), axis=1)
    weights = tf.cast(real, value.dtype)[:, :, tf.newaxis]
    return tf.reduce_sum(value * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1)
