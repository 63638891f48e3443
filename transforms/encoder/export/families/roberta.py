"""RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa: BERT with positions after the padding's.

multilingual-e5 and bge-m3 (its dense vectors) are XLM-RoBERTa.
"""

from __future__ import annotations

import dataclasses

from transforms.encoder.export.architecture import Architecture
from transforms.encoder.export.config import Config
from transforms.encoder.export.families import bert

MODEL_TYPES = ("roberta", "xlm-roberta")


def read(config: Config) -> Architecture:
    """RoBERTa as config.json has it."""
    plain, pad = bert.read(config), config.get("pad_token_id", 1)
    if not isinstance(pad, int) or not 0 <= pad < plain.position_rows - 1:
        raise config.refuse(f"pad_token_id is {pad!r}; expected a row of the table of positions")
    return dataclasses.replace(
        plain,
        family=config.get("model_type"),
        window=plain.position_rows - pad - 1,
        prefixes=("roberta.",),
        position_offset=pad + 1,
        pad=pad,
    )
