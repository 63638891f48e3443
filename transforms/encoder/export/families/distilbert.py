"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without token types, under other names."""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture, Layer, Names
from transforms.encoder.export.config import Config
from transforms.encoder.export.families.common import activation, head_width

MODEL_TYPES = ("distilbert",)
NAMES = Names(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    embedding_norm="embeddings.LayerNorm",
    qkv=tuple(f"transformer.layer.{{i}}.attention.{part}_lin" for part in "qkv"),
    out="transformer.layer.{i}.attention.out_lin",
    attention_norm="transformer.layer.{i}.sa_layer_norm",
    up=("transformer.layer.{i}.ffn.lin1",),
    down="transformer.layer.{i}.ffn.lin2",
    mlp_norm="transformer.layer.{i}.output_layer_norm",
)


def read(config: Config) -> Architecture:
    """DistilBERT as config.json has it."""
    hidden, heads = config.integer("dim", default=768), config.integer("n_heads", default=12)
    positions = config.integer("max_position_embeddings", default=512)
    return Architecture(
        family="distilbert",
        hidden=hidden,
        heads=heads,
        width=head_width(config, hidden, heads),
        inner=config.integer("hidden_dim", default=3072),
        vocab_size=config.integer("vocab_size"),
        window=positions,
        layers=(Layer(),) * config.integer("n_layers", default=6),
        names=NAMES,
        prefixes=("distilbert.",),
        activation=activation(config, "activation"),
        epsilon=1e-12,
        position_rows=positions,
    )
