"""Decoders as embedders: Llama, Mistral, Qwen2 and Qwen3.

RMS norms first, rotary positions, keys that serve groups of queries, SwiGLU, and a token sees none after it.
"""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture, Layer, Names
from transforms.encoder.export.config import Config, require
from transforms.encoder.export.families.common import activation, frequencies, head_width

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
NAMES = Names(
    words="embed_tokens",
    attention_norm="layers.{i}.input_layernorm",
    qkv=tuple(f"layers.{{i}}.self_attn.{part}_proj" for part in "qkv"),
    out="layers.{i}.self_attn.o_proj",
    mlp_norm="layers.{i}.post_attention_layernorm",
    up=("layers.{i}.mlp.gate_proj", "layers.{i}.mlp.up_proj"),
    down="layers.{i}.mlp.down_proj",
    final_norm="norm",
)
HEAD_NORMS = {"query_norm": "layers.{i}.self_attn.q_norm", "key_norm": "layers.{i}.self_attn.k_norm"}
_KEY_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read(config: Config) -> Architecture:
    """The decoder as config.json has it."""
    family = config.get("model_type")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    shared = 128 if family == "qwen3" or config.get("head_dim") else head_width(config, hidden, heads)
    width = config.integer("head_dim", default=shared)
    # Null says "as many as heads"; where nothing is said, `transformers` has numbers of its own.
    keys = heads if "num_key_value_heads" in config.values else _KEY_HEADS.get(family, heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.number("rope_theta", default=10_000)
    turns = frequencies(config, rope, theta=theta, width=width)
    attention_bias = bool(config.get("attention_bias", False)) or family == "qwen2"
    return Architecture(
        family=family,
        hidden=hidden,
        heads=heads,
        key_heads=config.integer("num_key_value_heads", default=keys),
        width=width,
        inner=config.integer("intermediate_size"),
        vocab_size=config.integer("vocab_size"),
        window=config.integer("max_position_embeddings"),
        layers=tuple(Layer(span, turns) for span in _spans(config, family)),
        names=Names(**vars(NAMES) | (HEAD_NORMS if family == "qwen3" else {})),
        prefixes=("model.",),
        activation=activation(config, default="silu"),
        epsilon=config.number("rms_norm_eps", default=1e-6),
        gated=True,
        rms=True,
        norm_first=True,
        causal=config.require("is_causal", True, True),
        norm_bias=False,
        qkv_bias=attention_bias,
        out_bias=attention_bias and family != "qwen2",
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def _spans(config: Config, family: str) -> list[int | None]:
    """How far each layer's tokens see back."""
    count, window = config.integer("num_hidden_layers"), config.values.get("sliding_window", 4096)
    kinds = [_SLIDING if family == "mistral" and window else _FULL] * count
    if family.startswith("qwen"):
        full = config.integer("max_window_layers", default=28) if config.get("use_sliding_window") else count
        kinds = config.get("layer_types", [_FULL if i < full else _SLIDING for i in range(count)])
        window = window if config.get("use_sliding_window") else None
    for kind in kinds:
        require(kind in (_FULL, _SLIDING), config.path, f"layer type {kind!r} is", (_FULL, _SLIDING))
    if len(kinds) != count:
        raise config.refuse(f"{len(kinds)} layer_types for num_hidden_layers {count}")
    spans = {_FULL: None, _SLIDING: window - 1 if window else None}
    return [spans[kind] for kind in kinds]
