"""Reads a BERT checkpoint folder; refuses, by name, what the exporter cannot reproduce."""

import collections
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transforms.encoder.export.weights import read_weights
from transforms.errors import UsageError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_TABLES = ("vocab_size", "max_position_embeddings")


@dataclass(frozen=True)
class Checkpoint:
    """A BERT encoder with its tokenizer and pooling, as the folder describes it.

    Attributes:
      hidden: width of a token row; also the embedding's dimension.
      layers: number of transformer layers.
      heads: attention heads per layer; divides hidden.
      activation: one of ACTIVATIONS.
      layer_norm_epsilon: added to the variance in every layer norm.
      max_tokens: longest text in tokens, special tokens included; longer ones are cut.
      vocab: the tokens, in the order of their ids.
      lower_case: whether the tokenizer lowercases.
      strip_accents: whether it drops combining marks.
      pooling: "mean" over a text's tokens, or "cls" for its first one.
      normalize: whether embeddings are scaled to length 1.
      weights: tensor name without the "bert." prefix -> float32 array, in the checkpoint's own layout.
    """

    hidden: int
    layers: int
    heads: int
    activation: str
    layer_norm_epsilon: float
    max_tokens: int
    vocab: tuple[str, ...] = field(repr=False)
    lower_case: bool
    strip_accents: bool
    pooling: str
    normalize: bool
    weights: Mapping[str, np.ndarray] = field(repr=False)


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Reads `folder`: config.json, vocab.txt, *.safetensors, and sentence-transformers' files if present.

    Raises:
      UsageError: a file is missing or malformed, or the model is of a kind that the exporter cannot do.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = _read_json(path, expected="the model's configuration")
    _require_bert(path, config)
    try:
        hidden, layers, heads, inner = (int(config[key]) for key in _SIZES)
        vocab_size, positions = (int(config[key]) for key in _TABLES)
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(f"{path}: {e} is missing or not a number; expected a BERT config") from e
    if heads < 1 or hidden % heads:
        raise UsageError(f"{path}: {heads} heads do not divide hidden_size {hidden}")
    lower_case, strip_accents = _read_casing(folder)
    max_seq_length, pooling, normalize = _read_sentence_transformers(folder)
    tables = (vocab_size, positions, int(config.get("type_vocab_size", 2)))
    return Checkpoint(
        hidden=hidden,
        layers=layers,
        heads=heads,
        activation=config.get("hidden_act", "gelu"),
        layer_norm_epsilon=float(config.get("layer_norm_eps", 1e-12)),
        max_tokens=min(max_seq_length or positions, positions),
        vocab=_read_vocab(folder, size=vocab_size),
        lower_case=lower_case,
        strip_accents=strip_accents,
        pooling=pooling,
        normalize=normalize,
        weights=read_weights(folder, expected=weight_shapes(hidden, layers, inner=inner, tables=tables)),
    )


def weight_shapes(
    hidden: int, layers: int, *, inner: int, tables: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a BERT encoder; dense weights are [out, in], as PyTorch keeps them.

    Args:
      hidden: width of a token row.
      layers: number of layers.
      inner: width of the feed-forward layer.
      tables: rows of the word, position and token type tables.
    """
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, hidden)
        for name, rows in zip(("word", "position", "token_type"), tables, strict=True)
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(layers)):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        dense = {f"attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")}
        dense |= {"attention.output.dense": (hidden, hidden)}
        dense |= {"intermediate.dense": (inner, hidden), "output.dense": (hidden, inner)}
        for name, shape in dense.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    return shapes | {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}


def _require(holds: object, path: Path, found: str, supported: Iterable[object], advice: str = "") -> None:
    if not holds:
        raise UsageError(f"{path}: {found} not supported, only {' or '.join(map(str, supported))}{advice}")


def _require_bert(path: Path, config: dict[str, Any]) -> None:
    checks: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("model_type", None, ("bert",)),
        ("position_embedding_type", "absolute", ("absolute",)),
        ("hidden_act", "gelu", ACTIVATIONS),
        ("is_decoder", False, (False,)),
    )
    advice = "; use this model as a ready-made SavedModel instead"
    for key, default, supported in checks:
        found = config.get(key, default)
        _require(found in supported, path, f"{key} {found!r} is", supported, advice)


def _read_casing(folder: Path) -> tuple[bool, bool]:
    """(lower_case, strip_accents) of tokenizer_config.json; without that file, BERT's default: both."""
    path = folder / "tokenizer_config.json"
    config = _read_json(path, expected="the tokenizer's settings") if path.exists() else {}
    _require(config.get("tokenize_chinese_chars", True), path, "tokenize_chinese_chars false is", ["true"])
    for token in SPECIAL_TOKENS:
        key = f"{token[1:-1].lower()}_token"
        found = config.get(key) or token
        found = found.get("content") if isinstance(found, dict) else found
        _require(found == token, path, f"{key} {found!r} is", [repr(token)])
    for added in config.get("added_tokens_decoder", {}).values():
        found = added.get("content")
        _require(found in SPECIAL_TOKENS, path, f"added token {found!r} is", SPECIAL_TOKENS)
    lower_case = bool(config.get("do_lower_case", True))
    strip_accents = config.get("strip_accents")
    return lower_case, lower_case if strip_accents is None else bool(strip_accents)


def _read_sentence_transformers(folder: Path) -> tuple[int | None, str, bool]:
    """(max_seq_length or None, pooling, normalize); a plain BERT folder gives (None, "mean", False)."""
    settings = folder / "sentence_bert_config.json"
    max_seq_length = None
    if settings.exists():
        max_seq_length = _read_json(settings, expected="max_seq_length").get("max_seq_length")
    path = folder / "modules.json"
    if not path.exists():
        return max_seq_length, "mean", False
    modules = [
        (str(module.get("type", "")).rpartition(".")[2], folder / module.get("path", ""))
        for module in _read_json(path, expected="the list of modules", kind=list)
    ]
    names = [name for name, _ in modules]
    known = names in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
    supported = ["Transformer + Pooling (+ Normalize)"]
    _require(known, path, f"modules {' + '.join(names)} are", supported)
    return max_seq_length, _read_pooling(modules[1][1] / "config.json"), len(names) == 3


def _read_pooling(path: Path) -> str:
    config = _read_json(path, expected="the pooling mode")
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes = sorted(k for k, on in config.items() if k.startswith("pooling_mode_") and on is True)
    if mode := str(config.get("pooling_mode", "")):  # newer releases write the mode's name
        modes = [flag for flag, name in flags.items() if name == mode] or [mode]
    known = len(modes) == 1 and modes[0] in flags
    _require(known, path, f"{' + '.join(modes) or 'no pooling'} is", flags)
    return flags[modes[0]]


def _read_vocab(folder: Path, *, size: int) -> tuple[str, ...]:
    path = folder / "vocab.txt"
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected the vocabulary, one token a line") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 at byte {e.start}; expected one token a line") from e
    vocab = tuple(line.rstrip() for line in (lines[:-1] if not lines[-1] else lines))
    if len(vocab) > size:
        raise UsageError(f"{path}: {len(vocab)} tokens, but config.json has vocab_size {size}")
    for token in SPECIAL_TOKENS[1:4]:
        if token not in vocab:
            raise UsageError(f"{path}: no {token} token; expected BERT's special tokens")
    for token, count in collections.Counter(vocab).items():
        if not token or count > 1:
            raise UsageError(f"{path}: token {token!r} is empty or occurs twice; expected distinct tokens")
    return vocab


def _read_json(path: Path, *, expected: str, kind: type = dict) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected {expected}") from e
    except ValueError as e:
        raise UsageError(f"{path}: not JSON ({e}); expected {expected}") from e
    if not isinstance(content, kind):
        raise UsageError(f"{path}: a JSON {type(content).__name__}; expected {expected} as a {kind.__name__}")
    return content
