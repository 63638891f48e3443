"""Which function of a loaded SavedModel embeds, what it takes and what it gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.encoder.messages import model_error
from transforms.errors import UsageError
from transforms.storage.urls import redact

if TYPE_CHECKING:
    from transforms.encoder.config import ModelConfig


def pick_signature(tf: Any, loaded: Any, config: ModelConfig) -> tuple[str, Any]:
    """Returns (name, function): the one asked for, else serving_default, default, or the model's own call."""
    signatures = dict(getattr(loaded, "signatures", None) or {})
    names = ", ".join(sorted(signatures)) or "none"
    if config.signature and config.signature not in signatures:
        reason = f"the model has no such signature; it has: {names}"
        raise UsageError(f"signature {config.signature}: {reason}", argument="signature")
    for name in filter(None, (config.signature, "serving_default", "default")):
        if name in signatures:
            return name, signatures[name]
    advice = f"it has the signatures: {names}; name one with `signature`"
    if not callable(loaded):
        raise model_error(config.handle, f"has neither serving_default nor a call; {advice}")
    for extra in ({}, {"training": False}):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            spec = tf.TensorSpec([None], tf.string)
            return "__call__", loaded.__call__.get_concrete_function(spec, **extra)
    raise model_error(config.handle, f"cannot be called with a string tensor [n]; {advice}")


def string_input(
    tf: Any, function: Any, handle: str, signature: str
) -> tuple[str, Callable[[list[str]], Any]]:
    """Checks that the function takes one string [n] and returns (its name, how to call it)."""
    args, kwargs = function.structured_input_signature
    named = {f"argument {i}": spec for i, spec in enumerate(args)} | kwargs
    specs = {name: spec for name, spec in named.items() if isinstance(spec, tf.TensorSpec)}
    takes = f"signature {signature} takes ({_described(specs) or 'nothing'}), expected one string tensor [n]"
    if [spec.dtype for spec in specs.values()] != [tf.string]:
        image = any(spec.dtype.is_floating and spec.shape.rank == 4 for spec in specs.values())
        kind = "; this is an image model" if image else ""
        raise model_error(handle, f"{takes}{kind}: choose a text model or another `signature`")
    [(name, spec)] = specs.items()
    if spec.shape.rank is not None and spec.shape.as_list() not in ([None], [None, None], [None, 1]):
        raise model_error(handle, f"{takes} with a free first dimension")
    row = [1] if spec.shape.rank == 2 else []

    def call(texts: list[str]) -> Any:
        tensor = tf.constant(texts, dtype=tf.string, shape=[len(texts), *row])
        return function(**{name: tensor}) if name in kwargs else function(tensor)

    return name, call


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
    if not spec.dtype.is_floating or spec.shape.rank not in (None, 2):
        found = f"{spec.dtype.name} {_shape(spec.shape)}"
        raise UsageError(f"{what} is {found}, expected floats [n, dim]", argument=argument)
    return name


def _named_output(outputs: dict[str, Any], config: ModelConfig) -> str:
    if config.output:
        if config.output not in outputs:
            reason = f"no such output; the model has ({_described(outputs)})"
            raise UsageError(f"model_output {config.output}: {reason}", argument="model_output")
        return config.output
    names = [n for n, spec in outputs.items() if spec.dtype.is_floating and spec.shape.rank in (None, 2)]
    if len(names) > 1 and "default" in names:
        return "default"  # the name TF Hub gives the one meant for users
    if len(names) != 1:
        found = f"found {len(names)} of ({_described(outputs)}); name one with `model_output`"
        raise model_error(config.handle, f"expected one float output [n, dim], {found}")
    return names[0]


def count_signature(tf: Any, loaded: Any, handle: str) -> Callable[[list[str]], np.ndarray] | None:
    """How to count tokens, where the model has a signature for it."""
    function = dict(getattr(loaded, "signatures", None) or {}).get("count_tokens")
    if function is None:
        return None
    _, call = string_input(tf, function, handle, "count_tokens")
    return lambda texts: next(iter(call(texts).values())).numpy()


def max_tokens(loaded: Any) -> int | None:
    """The window that the model states, in tokens."""
    value = getattr(loaded, "max_tokens", None)
    return None if value is None or callable(value) else int(value)


def _described(specs: dict[str, Any]) -> str:
    """'name: dtype [shape], ...' by name, since TF keeps no order."""
    return ", ".join(f"{n}: {spec.dtype.name} {_shape(spec.shape)}" for n, spec in sorted(specs.items()))


def _shape(shape: Any) -> str:
    return "[...]" if shape.rank is None else f"[{', '.join('n' if d is None else str(d) for d in shape)}]"
