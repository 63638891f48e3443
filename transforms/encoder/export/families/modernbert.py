"""ModernBERT (Warner et al. 2024, arXiv:2412.13663).

Rotary positions, gated GELU, norms first; two of three layers see only what is near.
"""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture, Layer, Names
from transforms.encoder.export.config import Config, require
from transforms.encoder.export.families.common import activation, frequencies, head_width

MODEL_TYPES = ("modernbert",)
NAMES = Names(
    words="embeddings.tok_embeddings",
    embedding_norm="embeddings.norm",
    attention_norm="layers.{i}.attn_norm",
    qkv=("layers.{i}.attn.Wqkv",),
    out="layers.{i}.attn.Wo",
    mlp_norm="layers.{i}.mlp_norm",
    up=("layers.{i}.mlp.Wi",),
    down="layers.{i}.mlp.Wo",
    final_norm="final_norm",
)
_FULL, _LOCAL = "full_attention", "sliding_attention"


def read(config: Config) -> Architecture:
    """ModernBERT as config.json has it."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    width = head_width(config, hidden, heads)
    rope = config.get("rope_parameters") or {}
    if config.values.get("local_rope_theta", 0) is None and not rope.get(_LOCAL):
        raise config.refuse("local_rope_theta null is not supported; expected a number")
    turns = {
        _FULL: _frequencies(config, rope.get(_FULL), "global_rope_theta", 160_000, width),
        _LOCAL: _frequencies(config, rope.get(_LOCAL), "local_rope_theta", 10_000, width),
    }
    span = config.integer("local_attention", default=128) // 2
    kinds = [Layer(None if kind == _FULL else span, turns[kind]) for kind in _kinds(config)]
    return Architecture(
        family="modernbert",
        hidden=hidden,
        heads=heads,
        width=width,
        inner=config.integer("intermediate_size"),
        vocab_size=config.integer("vocab_size"),
        window=config.integer("max_position_embeddings", default=8192),
        layers=tuple(kinds),
        names=NAMES,
        prefixes=("model.",),
        activation=activation(config, "hidden_activation"),
        epsilon=config.number("norm_eps", default=1e-5),
        gated=True,
        norm_first=True,
        first_norm=False,
        norm_bias=bool(config.get("norm_bias", False)),
        qkv_bias=bool(config.get("attention_bias", False)),
        out_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def _kinds(config: Config) -> list[str]:
    """Each layer's kind of attention."""
    every = config.integer("global_attn_every_n_layers", default=3)
    count = config.integer("num_hidden_layers")
    kinds = config.get("layer_types", [_LOCAL if i % every else _FULL for i in range(count)])
    for kind in kinds:
        require(kind in (_FULL, _LOCAL), config.path, f"layer type {kind!r} is", (_FULL, _LOCAL))
    if len(kinds) != count:
        raise config.refuse(f"{len(kinds)} layer_types for num_hidden_layers {count}")
    return kinds


def _frequencies(config: Config, rope: dict | None, key: str, theta: float, width: int) -> tuple[float, ...]:
    rope = rope or config.get("rope_scaling") or {}
    return frequencies(config, rope, theta=config.number(key, default=theta), width=width)
