"""Which function of a loaded SavedModel embeds, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.encoder.model.handle import redact
from transforms.errors import UsageError

if TYPE_CHECKING:
    from transforms.encoder.config import ModelConfig


def pick_signature(tf: Any, loaded: Any, config: ModelConfig) -> tuple[str, Any]:
    """Returns (name, function): the one asked for, else serving_default, default, or the model's own call."""
    signatures = dict(getattr(loaded, "signatures", {}) or {})
    names = ", ".join(sorted(signatures)) or "none"
    if config.signature:
        if config.signature not in signatures:
            raise UsageError(
                f"signature {config.signature}: the model has no such signature; it has: {names}",
                argument="signature",
            )
        return config.signature, signatures[config.signature]
    for name in ("serving_default", "default"):
        if name in signatures:
            return name, signatures[name]
    if callable(loaded):
        spec = tf.TensorSpec([None], tf.string)
        for extra in ({}, {"training": False}):
            try:
                return "__call__", loaded.__call__.get_concrete_function(spec, **extra)
            except (ValueError, TypeError, AttributeError):
                continue
        raise UsageError(
            f"model {redact(config.handle)}: cannot be called with a string tensor [n]; it has the "
            f"signatures: {names}; name one with `signature`",
            argument="model",
        )
    raise UsageError(
        f"model {redact(config.handle)}: has neither serving_default nor a call; it has the signatures: "
        f"{names}; name one with `signature`",
        argument="model",
    )


def string_input(
    tf: Any, function: Any, handle: str, signature: str
) -> tuple[str, Callable[[list[str]], Any]]:
    """Checks that the function takes one string [n] and returns (its name, how to call it)."""
    args, kwargs = function.structured_input_signature
    specs = {f"argument {i}": spec for i, spec in enumerate(args) if isinstance(spec, tf.TensorSpec)} | {
        name: spec for name, spec in kwargs.items() if isinstance(spec, tf.TensorSpec)
    }
    found = _described(specs)
    where = f"model {redact(handle)}: signature {signature} takes ({found or 'nothing'})"
    if len(specs) != 1 or next(iter(specs.values())).dtype != tf.string:
        image = any(spec.dtype.is_floating and spec.shape.rank == 4 for spec in specs.values())
        kind = "; this is an image model" if image else ""
        raise UsageError(
            f"{where}, expected one string tensor [n]{kind}: choose a text model or another `signature`",
            argument="model",
        )
    name, spec = next(iter(specs.items()))
    rank = spec.shape.rank
    if rank not in (None, 1, 2) or (rank == 2 and spec.shape[1] not in (None, 1)) or (rank and spec.shape[0]):
        raise UsageError(
            f"{where}, expected one string tensor [n] with a free first dimension", argument="model"
        )

    def call(texts: list[str]) -> Any:
        tensor = tf.constant(texts, dtype=tf.string, shape=[len(texts), 1] if rank == 2 else [len(texts)])
        return function(**{name: tensor}) if name in kwargs else function(tensor)

    return name, call


def pick_output(function: Any, config: ModelConfig) -> str | None:
    """The name of the output that holds the vectors; None where the outputs have no names."""
    outputs = function.structured_outputs
    if not isinstance(outputs, dict):
        if config.output:
            raise UsageError(
                f"model_output {config.output}: the model has one output, without a name",
                argument="model_output",
            )
        alone = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        where = f"model {redact(config.handle)}"
        if len(alone) != 1:
            raise UsageError(
                f"{where}: gives {len(alone)} outputs without names, expected one; "
                "choose another `signature`",
                argument="model",
            )
        _check_vectors(alone[0], f"{where}: its output")
        return None
    outputs = {
        name: spec for name, spec in outputs.items() if hasattr(spec, "dtype")
    }  # nested ones have none
    described = _described(outputs)
    if config.output:
        if config.output not in outputs:
            raise UsageError(
                f"model_output {config.output}: no such output; the model has ({described})",
                argument="model_output",
            )
        names = [config.output]
    else:
        names = [n for n, spec in outputs.items() if spec.dtype.is_floating and spec.shape.rank in (None, 2)]
    if len(names) > 1 and "default" in names:
        names = ["default"]  # the name TF Hub gives the one meant for users
    if len(names) != 1:
        raise UsageError(
            f"model {redact(config.handle)}: expected one float output [n, dim], found {len(names)} of "
            f"({described}); name one with `model_output`",
            argument="model",
        )
    _check_vectors(outputs[names[0]], f"model_output {names[0]}:")
    return names[0]


def _check_vectors(spec: Any, what: str) -> None:
    if not spec.dtype.is_floating or spec.shape.rank not in (None, 2):
        raise UsageError(
            f"{what} is {spec.dtype.name} {_shape(spec.shape)}, expected floats [n, dim]",
            argument=what.partition(" ")[0],
        )


def count_signature(tf: Any, loaded: Any, handle: str) -> Callable[[list[str]], np.ndarray] | None:
    """How to count tokens, where the model has a signature for it."""
    function = dict(getattr(loaded, "signatures", {}) or {}).get("count_tokens")
    if function is None:
        return None
    _, call = string_input(tf, function, handle, "count_tokens")
    return lambda texts: next(iter(call(texts).values())).numpy()


def max_tokens(loaded: Any) -> int | None:
    """The window that the model states, in tokens."""
    value = getattr(loaded, "max_tokens", None)
    if value is None or callable(value):
        return None
    return int(value.numpy() if hasattr(value, "numpy") else value)


def _described(specs: dict[str, Any]) -> str:
    """'name: dtype [shape], ...' by name, since TF keeps no order."""
    return ", ".join(f"{n}: {spec.dtype.name} {_shape(spec.shape)}" for n, spec in sorted(specs.items()))


def _shape(shape: Any) -> str:
    return (
        "[...]" if shape.rank is None else str([d if d is not None else "n" for d in shape]).replace("'", "")
    )
