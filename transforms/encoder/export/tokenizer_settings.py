"""tokenizer_config.json against tokenizer.json: which of them counts depends on the tokenizer's class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transforms.encoder.export.config import Config, read_config

# These run tokenizer.json as it is.
JSON_ALONE = ("PreTrainedTokenizer", "TokenizersBackend")
# These make a normalizer of their own from the settings, whatever tokenizer.json says.
_WORDPIECE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer")
# The same for the space before a text: (the kind of pre_tokenizer that puts it, the default).
_SPACED = {
    "RobertaTokenizer": ("ByteLevel", False),
    "GPT2Tokenizer": ("ByteLevel", False),
    "Qwen2Tokenizer": ("ByteLevel", False),
    "XLMRobertaTokenizer": ("Metaspace", True),
}
# Classes whose special tokens tokenizer_config.json says, too.
_FLAGGED = ("LlamaTokenizer", "CodeLlamaTokenizer")
# Where no class is named.
_OF_FAMILY = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
_ADVICE = "save the tokenizer anew with `AutoTokenizer` of `transformers`"


def read_settings(folder: Path) -> Config:
    """tokenizer_config.json; nothing is said where it is missing."""
    path = folder / "tokenizer_config.json"
    return read_config(path, expected="the tokenizer's settings") if path.exists() else Config(path, {})


def reference_class(folder: Path, settings: Config) -> str:
    """The class that `transformers` takes, without its "Fast"; empty where the checkpoint does not say."""
    config = read_config(folder / "config.json", expected="the model's configuration")
    family = config.get("model_type")
    if family == "modernbert":  # whatever class is named
        return JSON_ALONE[0]
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or _OF_FAMILY.get(family, "")
    return str(named).removesuffix("Fast")


def require_agreement(folder: Path, tokenizer: Config, settings: Config) -> None:
    """Raises UsageError where the class follows the settings, and tokenizer.json says something else."""
    kind = reference_class(folder, settings)
    if kind in _WORDPIECE and (tokenizer.get("model") or {}).get("type") == "WordPiece":
        _require_casing(kind, tokenizer, settings)
    if kind in _SPACED:
        part, default = _SPACED[kind]
        wanted, found = bool(settings.get("add_prefix_space", default)), _space(tokenizer, part)
        if found is not None and wanted != found:
            raise _contradiction(settings, "add_prefix_space", wanted, f"pre_tokenizer has {_plain(found)}")
    if str(settings.get("tokenizer_class")).removesuffix("Fast") in _FLAGGED:
        _require_flags(tokenizer, settings)


def _require_casing(kind: str, tokenizer: Config, settings: Config) -> None:
    """BERT's normalizer as the class makes it."""
    normalizer = tokenizer.get("normalizer") or {}
    for name, own in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
        if (found := (tokenizer.get(name) or {}).get("type")) != own:
            raise tokenizer.refuse(f"{name} {found!r}, but {kind} makes a {own}; {_ADVICE}")
    if not normalizer.get("clean_text", True):
        raise tokenizer.refuse(f"clean_text false, but {kind}'s normalizer cleans texts; {_ADVICE}")
    lower_case = bool(settings.get("do_lower_case", True))
    lowers = bool(normalizer.get("lowercase", True))
    strip, strips = settings.get("strip_accents"), normalizer.get("strip_accents")
    for key, name, wanted, found in (
        ("do_lower_case", "lowercase", lower_case, lowers),
        (
            "strip_accents",
            "strip_accents",
            lower_case if strip is None else bool(strip),
            lowers if strips is None else bool(strips),
        ),
        (
            "tokenize_chinese_chars",
            "handle_chinese_chars",
            bool(settings.get("tokenize_chinese_chars", True)),
            normalizer.get("handle_chinese_chars", True),
        ),
    ):
        if wanted != found:
            raise _contradiction(settings, key, wanted, f"normalizer has {name} {_plain(found)}")


def _space(tokenizer: Config, kind: str) -> bool | None:
    """Whether a text gets a space before it; None where no such pre_tokenizer is there."""
    whole = tokenizer.get("pre_tokenizer") or {}
    for part in whole.get("pretokenizers", [whole]):
        if part.get("type") == kind:
            return part.get("prepend_scheme", "always") != "never" and bool(
                part.get("add_prefix_space", True)
            )
    return None


def _require_flags(tokenizer: Config, settings: Config) -> None:
    """Llama's flags and the post_processor: releases of `transformers` differ in which of them counts."""
    for name, default in (("bos", True), ("eos", False)):
        token = settings.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        wanted = bool(settings.get(f"add_{name}_token", default))
        found = token in _tokens(tokenizer.get("post_processor"))
        if wanted != found:
            does = f"post_processor {'adds' if found else 'does not add'} {token!r}"
            raise _contradiction(settings, f"add_{name}_token", wanted, does)


def _contradiction(settings: Config, key: str, wanted: bool, found: str) -> Exception:
    return settings.refuse(f"{key} is {_plain(wanted)}, but tokenizer.json's {found}; {_ADVICE}")


def _plain(value: object) -> str:
    return str(value).lower()


def _tokens(processor: Any) -> set[str]:
    """The tokens that a post_processor puts around a text."""
    if isinstance(processor, list):
        return set().union(*map(_tokens, processor))
    if not isinstance(processor, dict):
        return set()
    own = {processor[key][0] for key in ("cls", "sep") if key in processor}
    return own | set(processor.get("special_tokens", {})) | _tokens(processor.get("processors", []))
