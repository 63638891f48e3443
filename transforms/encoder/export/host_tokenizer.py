"""Tokenizers that stay outside the graph: tokenizer.json, made complete, beside the SavedModel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.encoder.export.config import Config, read_config, require
from transforms.errors import UsageError

# Their special tokens are said by tokenizer_config.json, whatever tokenizer.json's post_processor is.
_BY_FLAGS = ("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast")


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
    highest = max(_ids(tokenizer), default=-1)
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
        content["post_processor"] = _post_processor(tokenizer, config)
    return HostTokenizer(content)


def _ids(tokenizer: Config) -> Iterator[int]:
    vocab = (tokenizer.get("model") or {}).get("vocab") or {}
    yield from vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    yield from (token["id"] for token in tokenizer.get("added_tokens", []))


def _post_processor(tokenizer: Config, config: Config) -> Any:
    """What puts the first and last tokens around a text."""
    found = tokenizer.get("post_processor")
    by_flags = config.get("tokenizer_class") in _BY_FLAGS
    template: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {}
    for key, default, place in (("bos", by_flags, 0), ("eos", False, 2)):
        if not config.get(f"add_{key}_token", default):
            continue
        token = config.get(f"{key}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if not by_flags:
            if token not in _tokens(found):
                stated = f"add_{key}_token, but tokenizer.json's post_processor adds no {token!r}"
                advice = "save the tokenizer anew with `AutoTokenizer` of `transformers`"
                raise config.refuse(f"{stated}; {advice}")
            continue
        [*ids] = (added["id"] for added in tokenizer.get("added_tokens", []) if added["content"] == token)
        if not ids:
            raise config.refuse(f"{key}_token {token!r} is not among tokenizer.json's added_tokens")
        template.insert(place, {"SpecialToken": {"id": token, "type_id": 0}})
        special[token] = {"id": token, "ids": ids, "tokens": [token]}
    if not by_flags:
        return found
    pair = [*template, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": template, "pair": pair, "special_tokens": special}


def _tokens(processor: Any) -> set[str]:
    """The tokens that a post_processor adds."""
    if isinstance(processor, list):
        return set().union(*map(_tokens, processor))
    if not isinstance(processor, dict):
        return set()
    own = {processor[key][0] for key in ("cls", "sep") if key in processor}
    return own | set(processor.get("special_tokens", {})) | _tokens(processor.get("processors", []))
