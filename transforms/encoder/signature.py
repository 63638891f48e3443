"""Which function of a loaded SavedModel embeds, and what it takes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from transforms.encoder.messages import model_error
from transforms.errors import UsageError

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
    if (function := _one_tensor(tf, loaded.__call__)) is not None:
        return "__call__", function
    raise model_error(config.handle, f"cannot be called with one tensor; {advice}")


def _one_tensor(tf: Any, call: Any) -> Any:
    """A model's call as it was saved with one tensor and not for training; None if there is none."""
    for function in getattr(call, "concrete_functions", ()):
        args, kwargs = function.structured_input_signature
        if len(tensors(tf, function)[0]) == 1 and True not in (*args, *kwargs.values()):
            return function
    return None


def tensors(tf: Any, function: Any) -> tuple[dict[str, Any], bool]:
    """The tensors that a function takes, by name, and whether it is called by these names."""
    args, kwargs = function.structured_input_signature
    named = {f"argument {i}": spec for i, spec in enumerate(args)} | kwargs
    specs = {name: spec for name, spec in named.items() if isinstance(spec, tf.TensorSpec)}
    return specs, specs.keys() <= kwargs.keys()


def described(specs: dict[str, Any]) -> str:
    """'name: dtype [shape], ...' by name, since TF keeps no order."""
    return ", ".join(f"{n}: {spec.dtype.name} {shape_of(spec.shape)}" for n, spec in sorted(specs.items()))


def shape_of(shape: Any) -> str:
    return "[...]" if shape.rank is None else f"[{', '.join('n' if d is None else str(d) for d in shape)}]"
