"""Reads a checkpoint folder; refuses, by name, what the exporter cannot reproduce."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from transforms.encoder.export.architecture import Architecture
from transforms.encoder.export.config import read_config
from transforms.encoder.export.families import read_architecture
from transforms.encoder.export.host_tokenizer import HostTokenizer, read_host_tokenizer
from transforms.encoder.export.sentence import (
    Modules,
    find_transformer,
    read_matryoshka,
    read_modules,
    read_prompts,
    read_window,
)
from transforms.encoder.export.weights import read_weights
from transforms.encoder.export.wordpiece import WordPiece, read_wordpiece
from transforms.errors import UsageError


@dataclass(frozen=True)
class Checkpoint:
    """An encoder with its tokenizer, and what is done to its vectors, as the folder describes it.

    Attributes:
      made_of: the transformer; its window is the longest text in tokens, special tokens included.
      tokenizer: for the graph, or for the host.
      pooling: "mean" over a text's tokens, "cls" for its first one, "last" for its last.
      modules: what comes after pooling.
      prompts: texts to be put before a text, by name.
      default_prompt: name of the one that is meant where none is asked for.
      matryoshka_dims: dimensions that vectors may be cut to, where the checkpoint says so.
      weights: tensor name -> float32 array, in the checkpoint's own layout.
    """

    made_of: Architecture
    tokenizer: WordPiece | HostTokenizer
    pooling: str
    modules: Modules
    prompts: Mapping[str, str]
    default_prompt: str | None
    matryoshka_dims: tuple[int, ...]
    weights: Mapping[str, np.ndarray] = field(repr=False)

    @property
    def max_tokens(self) -> int:
        """The longest text; longer ones are cut."""
        return self.made_of.window

    @property
    def dim(self) -> int:
        """Of an embedding."""
        return self.modules.dense[-1].out if self.modules.dense else self.made_of.hidden


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Reads `folder`: config.json, the tokenizer, *.safetensors, and sentence-transformers' files if present.

    Raises:
      UsageError: a file is missing or malformed, or the model is of a kind that the exporter cannot do.
    """
    folder, top = find_transformer(Path(folder)), Path(folder)
    config = read_config(folder / "config.json", expected="the model's configuration")
    made_of = read_architecture(config)
    tokenizer = _read_tokenizer(folder, made_of)
    lower_case = isinstance(tokenizer, WordPiece) and tokenizer.lower_case
    window = read_window(folder, config, window=made_of.window, lower_case=lower_case)
    modules = read_modules(top, hidden=made_of.hidden)
    if modules.pooling is None and made_of.causal:
        raise UsageError(f"{top}/modules.json not found; expected how a decoder's token vectors are pooled")
    dim = modules.dense[-1].out if modules.dense else made_of.hidden
    prompts, default_prompt = read_prompts(top)
    return Checkpoint(
        made_of=dataclasses.replace(made_of, window=window),
        tokenizer=tokenizer,
        pooling=modules.pooling or "mean",
        modules=modules,
        prompts=prompts,
        default_prompt=default_prompt,
        matryoshka_dims=read_matryoshka(top, config, dim=dim),
        weights=read_weights(folder, expected=made_of.weight_shapes(), prefixes=made_of.prefixes),
    )


def _read_tokenizer(folder: Path, made_of: Architecture) -> WordPiece | HostTokenizer:
    """In the graph where it is BERT's and so exact there; else on the host, by a tokenizer.json."""
    described = (folder / "tokenizer.json").exists()
    if not described and not (folder / "vocab.txt").exists() and made_of.family not in ("bert", "distilbert"):
        return read_host_tokenizer(folder, size=made_of.vocab_size)  # says what is missing
    try:
        return read_wordpiece(folder, size=made_of.vocab_size)
    except UsageError:
        if not described:
            raise
        return read_host_tokenizer(folder, size=made_of.vocab_size)
