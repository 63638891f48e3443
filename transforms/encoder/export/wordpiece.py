"""BERT's own tokenizer as a checkpoint describes it: vocab.txt, or a tokenizer.json that says the same."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.encoder.export import reference_classes as classes
from transforms.encoder.export.config import read_json, require
from transforms.encoder.export.tokenizer_settings import JSON_ALONE, read_settings, reference_class
from transforms.errors import UsageError

# Linear B syllables, which stand for other things in the graph. None may occur in the vocabulary.
RESERVED = "10000-10005"
_LONGEST_TOKEN = 256  # bytes; more are too many for tensorflow_text's trie
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class WordPiece:
    """What the tokenizer in the graph is made of.

    Attributes:
      vocab: the tokens, in the order of their ids.
      lower_case: whether it lowercases.
      strip_accents: whether it drops combining marks.
    """

    vocab: tuple[str, ...] = field(repr=False)
    lower_case: bool
    strip_accents: bool


def read_wordpiece(folder: Path, *, size: int) -> WordPiece:
    """Reads it.

    Args:
      folder: the checkpoint.
      size: rows of the table of token vectors.

    Raises:
      UsageError: the tokenizer is missing, malformed, or does something that the graph does not.
    """
    path, described = folder / "vocab.txt", folder / "tokenizer.json"
    normalizer, listed = _from_json(described) if described.exists() else ({}, None)
    vocab = _read_vocab(path) if path.exists() or listed is None else listed
    if listed is not None and vocab != listed:
        raise UsageError(f"{described}: another vocabulary than that of vocab.txt")
    source = path if path.exists() else described
    if len(vocab) > size:
        raise UsageError(f"{source}: {len(vocab)} tokens, but config.json has vocab_size {size}")
    for token in SPECIAL_TOKENS[1:4]:
        if token not in vocab:
            raise UsageError(f"{source}: no {token} token; expected BERT's special tokens")
    for token, count in collections.Counter(vocab).items():
        if not token or count > 1:
            raise UsageError(f"{source}: token {token!r} is empty or occurs twice; expected distinct tokens")
    require_tokens(vocab)
    return WordPiece(vocab, *_read_casing(folder, normalizer if listed is not None else None))


def require_tokens(vocab: Sequence[str]) -> None:
    """Raises UsageError where the graph cannot treat a token as the reference does."""
    unsupported = classes.characters(f"{classes.FOREIGN} {RESERVED}")
    for token in vocab:
        if not unsupported.isdisjoint(token):
            raise UsageError(
                f"vocab.txt: token {token!r} has a character younger than Unicode 8 or of Linear B, "
                "which the in-graph tokenizer does not support"
            )
        if len(token.removeprefix("##").encode()) > _LONGEST_TOKEN:
            raise UsageError(
                f"vocab.txt: token {token[:40]!r}... has more than {_LONGEST_TOKEN} bytes, "
                "which the in-graph tokenizer does not support"
            )


def _read_casing(folder: Path, normalizer: dict[str, Any] | None) -> tuple[bool, bool]:
    """(lower_case, strip_accents), by tokenizer.json alone or by tokenizer_config.json alone."""
    config = read_settings(folder)
    path = config.path
    require(config.get("tokenize_chinese_chars", True), path, "tokenize_chinese_chars false is", ["true"])
    for token in SPECIAL_TOKENS:
        key = f"{token[1:-1].lower()}_token"
        found = config.get(key) or token
        found = found.get("content") if isinstance(found, dict) else found
        require(found == token, path, f"{key} {found!r} is", [repr(token)])
    for added in config.get("added_tokens_decoder", {}).values():
        found = added.get("content")
        require(found in SPECIAL_TOKENS, path, f"added token {found!r} is", SPECIAL_TOKENS)
    if normalizer is not None and reference_class(folder, config) in JSON_ALONE:
        lower_case = bool(normalizer.get("lowercase", True))
        strip_accents = normalizer.get("strip_accents")
    else:  # the class makes its own normalizer
        lower_case = bool(config.get("do_lower_case", True))
        strip_accents = config.get("strip_accents")
    return lower_case, lower_case if strip_accents is None else bool(strip_accents)


def _from_json(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The normaliser and the vocabulary of a tokenizer.json that is BERT's in all its parts."""
    parts = read_json(path, expected="the tokenizer")
    model, normalizer = parts.get("model") or {}, parts.get("normalizer") or {}
    wanted = {
        "model": (
            model.get("type", "WordPiece" if "max_input_chars_per_word" in model else None),
            "WordPiece",
        ),
        "prefix": (model.get("continuing_subword_prefix"), "##"),
        "max_input_chars_per_word": (model.get("max_input_chars_per_word"), 100),
        "unk_token": (model.get("unk_token"), "[UNK]"),
        "normalizer": (normalizer.get("type"), "BertNormalizer"),
        "clean_text": (normalizer.get("clean_text"), True),
        "handle_chinese_chars": (normalizer.get("handle_chinese_chars"), True),
        "pre_tokenizer": ((parts.get("pre_tokenizer") or {}).get("type"), "BertPreTokenizer"),
        "post_processor": (_around(parts.get("post_processor") or {}), ["[CLS]", "A", "[SEP]"]),
    }
    for name, (found, expected) in wanted.items():
        require(found == expected, path, f"{name} {found!r} is", [repr(expected)])
    for added in parts.get("added_tokens") or []:
        found = added.get("content")
        require(found in SPECIAL_TOKENS, path, f"added token {found!r} is", SPECIAL_TOKENS)
        require(
            found in model["vocab"], path, f"added token {found!r} outside the vocabulary is", ["one in it"]
        )
    vocab = model["vocab"]
    gapless = sorted(vocab.values()) == list(range(len(vocab)))
    require(gapless, path, "a vocabulary whose ids have gaps is", [f"0 to {len(vocab) - 1}"])
    return normalizer, tuple(sorted(vocab, key=vocab.__getitem__))


def _around(processor: dict[str, Any]) -> list[str]:
    """What is put around a text "A"."""
    if processor.get("type") == "BertProcessing":
        return [processor["cls"][0], "A", processor["sep"][0]]
    return [part["id"] for each in processor.get("single", []) for part in each.values()]


def _read_vocab(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected the vocabulary, one token a line") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 at byte {e.start}; expected one token a line") from e
    return tuple(line.rstrip() for line in (lines[:-1] if not lines[-1] else lines))
