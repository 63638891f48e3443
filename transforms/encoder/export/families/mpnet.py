"""MPNet (Song et al. 2020, arXiv:2004.09297): RoBERTa's positions, and biases by distance for attention."""

from __future__ import annotations

import dataclasses

from transforms.encoder.export.architecture import Architecture
from transforms.encoder.export.config import Config
from transforms.encoder.export.families import bert

MODEL_TYPES = ("mpnet",)
_PAD = 1  # whatever the configuration says
NAMES = dataclasses.replace(
    bert.NAMES,
    types="",
    qkv=tuple(f"encoder.layer.{{i}}.attention.attn.{part}" for part in "qkv"),
    out="encoder.layer.{i}.attention.attn.o",
    attention_norm="encoder.layer.{i}.attention.LayerNorm",
    relative="encoder.relative_attention_bias",
)


def read(config: Config) -> Architecture:
    """MPNet as config.json has it."""
    plain = bert.read(config)
    return dataclasses.replace(
        plain,
        family="mpnet",
        window=plain.position_rows - _PAD - 1,
        names=NAMES,
        prefixes=("mpnet.",),
        position_offset=_PAD + 1,
        pad=_PAD,
        type_rows=0,
        buckets=config.require("relative_attention_num_buckets", 32, 32),
    )
