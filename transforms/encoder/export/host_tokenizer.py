"""Tokenizers that stay outside the graph: tokenizer.json, made complete, beside the SavedModel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.encoder.export.config import Config, read_config, require
from transforms.errors import UsageError

# Classes whose special tokens tokenizer_config.json says, too.
_FLAGGED = ("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast")


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
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        config = read_config(settings, expected="the tokenizer's settings")
        require(
            config.get("truncation_side", "right") == "right",
            settings,
            "truncation_side 'left' is",
            ["'right'"],
        )
        _require_agreement(tokenizer, config)
    return HostTokenizer(content)


def _ids(tokenizer: Config) -> Iterator[int]:
    vocab = (tokenizer.get("model") or {}).get("vocab") or {}
    yield from vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    yield from (token["id"] for token in tokenizer.get("added_tokens", []))


def _require_agreement(tokenizer: Config, config: Config) -> None:
    """Llama's flags and the post_processor: releases of `transformers` differ in which of them counts."""
    if config.get("tokenizer_class") not in _FLAGGED:
        return
    for name, default in (("bos", True), ("eos", False)):
        token = config.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        wanted, found = (
            bool(config.get(f"add_{name}_token", default)),
            token in _tokens(tokenizer.get("post_processor")),
        )
        if wanted != found:
            stated = f"add_{name}_token is {str(wanted).lower()}, but tokenizer.json's post_processor"
            advice = "save the tokenizer anew with `AutoTokenizer` of `transformers`"
            raise config.refuse(f"{stated} {'adds' if found else 'does not add'} {token!r}; {advice}")


def _tokens(processor: Any) -> set[str]:
    """The tokens that a post_processor puts around a text."""
    if isinstance(processor, list):
        return set().union(*map(_tokens, processor))
    if not isinstance(processor, dict):
        return set()
    own = {processor[key][0] for key in ("cls", "sep") if key in processor}
    return own | set(processor.get("special_tokens", {})) | _tokens(processor.get("processors", []))
