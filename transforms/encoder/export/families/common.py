"""What the families read in the same way."""

from __future__ import annotations

import math

from transforms.encoder.export.config import ADVICE, Config, require

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
SCALINGS = ("default", "linear", "llama3")


def head_width(config: Config, hidden: int, heads: int) -> int:
    """Width of a head where the heads share `hidden`."""
    if hidden % heads:
        raise config.refuse(f"{heads} heads do not divide hidden_size {hidden}")
    return hidden // heads


def activation(config: Config, key: str = "hidden_act", default: str = "gelu") -> str:
    """The activation's name; "swish" is another one for silu."""
    found = {"swish": "silu"}.get(config.get(key, default), config.get(key, default))
    require(found in ACTIVATIONS, config.path, f"{key} {found!r} is", ACTIVATIONS, ADVICE)
    return found


def frequencies(config: Config, rope: dict, *, theta: float, width: int) -> tuple[float, ...]:
    """Rotary angles per position, [width / 2]: theta^(-2i / width), scaled as `rope` says.

    Args:
      config: for messages.
      rope: rope_type and its parameters, as `rope_scaling` or `rope_parameters` has them.
      theta: where `rope` has no rope_theta.
      width: of a head.

    Raises:
      UsageError: a kind of scaling that is not done here.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    require(kind in SCALINGS, config.path, f"rope scaling {kind!r} is", SCALINGS, ADVICE)
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1))
    require(partial == 1, config.path, f"partial_rotary_factor {partial} is", [1], ADVICE)
    theta = float(rope.get("rope_theta", theta))
    plain = [theta ** (-2 * i / width) for i in range(width // 2)]
    try:
        if kind == "linear":
            return tuple(f / float(rope["factor"]) for f in plain)
        if kind == "llama3":
            return tuple(_llama3(f, rope) for f in plain)
    except (KeyError, TypeError, ValueError) as e:
        raise config.refuse(f"rope scaling {kind!r}: {e} is missing or not a number") from e
    return tuple(plain)


def _llama3(frequency: float, rope: dict) -> float:
    """Long waves are slowed by `factor`, short ones stay, those between go from one to the other."""
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = float(rope["original_max_position_embeddings"]) * frequency / (2 * math.pi)
    share = min(1.0, max(0.0, (turns - low) / (high - low)))
    return (1 - share) * frequency / factor + share * frequency
