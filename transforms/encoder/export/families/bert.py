"""BERT (Devlin et al. 2018, arXiv:1810.04805): learned positions, norms after the residual sums."""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture, Layer, Names
from transforms.encoder.export.config import Config
from transforms.encoder.export.families.common import activation, head_width

MODEL_TYPES = ("bert",)
NAMES = Names(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    types="embeddings.token_type_embeddings",
    embedding_norm="embeddings.LayerNorm",
    qkv=tuple(f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")),
    out="encoder.layer.{i}.attention.output.dense",
    attention_norm="encoder.layer.{i}.attention.output.LayerNorm",
    up=("encoder.layer.{i}.intermediate.dense",),
    down="encoder.layer.{i}.output.dense",
    mlp_norm="encoder.layer.{i}.output.LayerNorm",
)


def read(config: Config) -> Architecture:
    """BERT as config.json has it."""
    config.require("position_embedding_type", "absolute", "absolute")
    config.require("is_decoder", False, False)
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    positions = config.integer("max_position_embeddings")
    return Architecture(
        family="bert",
        hidden=hidden,
        heads=heads,
        width=head_width(config, hidden, heads),
        inner=config.integer("intermediate_size"),
        vocab_size=config.integer("vocab_size"),
        window=positions,
        layers=(Layer(),) * config.integer("num_hidden_layers"),
        names=NAMES,
        prefixes=("bert.",),
        activation=activation(config),
        epsilon=config.number("layer_norm_eps", default=1e-12),
        position_rows=positions,
        type_rows=config.integer("type_vocab_size", default=2),
    )
