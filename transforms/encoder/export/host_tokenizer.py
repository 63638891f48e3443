"""Tokenizers that stay outside the graph: tokenizer.json, made complete, beside the SavedModel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.encoder.export.config import Config, read_config, require
from transforms.encoder.export.tokenizer_settings import read_settings, require_agreement
from transforms.errors import UsageError


@dataclass(frozen=True)
class HostTokenizer:
    """What the `tokenizers` library is to be given.

    Attributes:
      content: of tokenizer.json; neither cuts nor pads.
    """

    content: dict[str, Any] = field(repr=False)


def read_host_tokenizer(folder: Path, *, size: int) -> HostTokenizer:
    """Reads tokenizer.json.

    Args:
      folder: the checkpoint.
      size: rows of the table of token vectors.

    Raises:
      UsageError: it is missing or malformed, has more tokens than the model, or tokenizer_config.json says
        something else than it.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        advice = "`AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of `transformers` writes it"
        raise UsageError(f"{path} not found; expected the tokenizer ({advice})")
    tokenizer = read_config(path, expected="the tokenizer")
    try:
        highest = max(_ids(tokenizer), default=-1)
    except (TypeError, AttributeError, KeyError) as e:
        raise tokenizer.refuse(f"no tokenizer: {e}; expected one of the `tokenizers` library") from e
    if highest < 0:
        raise tokenizer.refuse("no tokens in it; expected a model with a vocabulary")
    if highest >= size:
        raise tokenizer.refuse(f"token id {highest}, but config.json has vocab_size {size}")
    content = tokenizer.values | {"truncation": None, "padding": None}
    settings = read_settings(folder)
    cut = settings.get("truncation_side", "right")
    require(cut == "right", settings.path, f"truncation_side {cut!r} is", ["'right'"])
    require_agreement(folder, tokenizer, settings)
    return HostTokenizer(content)


def _ids(tokenizer: Config) -> Iterator[int]:
    vocab = (tokenizer.get("model") or {}).get("vocab") or {}
    yield from vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    yield from (token["id"] for token in tokenizer.get("added_tokens", []))
