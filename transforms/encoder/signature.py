"""Which function of a loaded SavedModel embeds, and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transforms.encoder.messages import model_error
from transforms.errors import UsageError

if TYPE_CHECKING:
    from transforms.encoder.config import ModelConfig

CALL = "__call__"
EMBED_IDS = "embed_ids"
# Names of its inputs, token ids one after the other: int32 [tokens], int32 [n].
RAGGED = {"ids", "lengths"}


class OwnCall:
    """A model's own call, to be called as its signatures are: by name where it takes a dict of tensors.

    Attributes:
      structured_input_signature, structured_outputs: as TF's functions have them, of tensors alone.
    """

    def __init__(self, function: Any):
        """Takes a function that was traced for the call."""
        (inputs, *self._rest), self._flags = function.structured_input_signature
        self._function, self._named = function, isinstance(inputs, dict)
        self.structured_input_signature = ((), inputs) if self._named else ((inputs,), {})
        self.structured_outputs = function.structured_outputs

    def __call__(self, *tensors: Any, **named: Any) -> Any:
        inputs = (named,) if self._named else tensors
        return self._function(*inputs, *self._rest, **self._flags)


def pick_signature(tf: Any, loaded: Any, config: ModelConfig) -> tuple[str, Any]:
    """Returns (name, function): the one asked for, else serving_default, default, or the model's own call.

    Of models that take token ids, as TF Hub's BERT does, the call comes first: it alone has the names of
    their outputs. Where documents are token ids, or the tokenizer lies beside the model, embed_ids will do.
    """
    signatures = dict(getattr(loaded, "signatures", None) or {})
    names = ", ".join(sorted(signatures)) or "none"
    if config.signature and config.signature not in signatures:
        reason = f"the model has no such signature; it has: {names}"
        raise UsageError(f"signature {config.signature}: {reason}", argument="signature")
    if config.signature:
        return config.signature, signatures[config.signature]
    own = own_call(tf, loaded)
    if own is not None and takes_ids(tf, own):
        return CALL, own
    for name in ("serving_default", "default", EMBED_IDS):
        if name in signatures and (config.modality != "tokens" or takes_ids(tf, signatures[name])):
            return name, signatures[name]
    if own is not None:
        return CALL, own
    advice = f"it has the signatures: {names}; name one with `signature`"
    what = "cannot be called with tensors" if callable(loaded) else "has neither serving_default nor a call"
    raise model_error(config.handle, f"{what}; {advice}")


def own_call(tf: Any, loaded: Any) -> OwnCall | None:
    """The model's own call, as it was traced for use (not for training); one with strings before others."""
    found: list[tuple[bool, int, Any]] = []
    for function in getattr(getattr(loaded, CALL, None), "concrete_functions", None) or ():
        args, kwargs = function.structured_input_signature
        if not args or any(value is True for value in (*args, *kwargs.values())):
            continue
        specs = list(args[0].values()) if isinstance(args[0], dict) else [args[0]]
        if specs and all(isinstance(spec, tf.TensorSpec) for spec in specs):
            found.append((specs[0].dtype != tf.string, len(found), function))
    return OwnCall(min(found)[2]) if found else None


def takes_ids(tf: Any, function: Any) -> bool:
    """Whether a function takes token ids: integers [n, positions] alone, or one after the other."""
    specs, _ = tensors(tf, function)
    if set(specs) == RAGGED:
        return all(spec.dtype.is_integer for spec in specs.values())
    shapes = [spec.shape for spec in specs.values() if spec.dtype.is_integer]
    return len(shapes) == len(specs) > 0 and all(
        shape.rank == 2 and (shape[1] is None or shape[1] > 1) for shape in shapes
    )


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
