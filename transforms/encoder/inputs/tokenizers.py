"""Tokenizers of text models: a signature of the model, or the Rust library beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from transforms.encoder.messages import first_line, model_error
from transforms.extras import check_extra
from transforms.modality.tokens import as_lists, lists


class Tokenizer(Protocol):
    """Texts to token ids. Thread-safe.

    Attributes:
      window: most ids of a text, special ones included; longer texts are cut. None: they are not.
    """

    window: int | None

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, pa.Array]:
        """Numbers of tokens before any cut, int64 [n], and ids after it, list<int32> [n]."""


class GraphTokenizer:
    """The model's signature tokenize: text -> ids int32 [tokens], lengths int32 [n], tokens int32 [n]."""

    def __init__(self, function: Callable[[Sequence[str]], Any], window: int | None):
        self._function, self.window = function, window

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, pa.Array]:
        made = self._function(texts)
        return made["tokens"].numpy().astype(np.int64), as_lists(made["ids"].numpy(), made["lengths"].numpy())


class HostTokenizer:
    """A tokenizer.json, cut by the library that its format is of, which leaves Python free meanwhile."""

    def __init__(self, file: Path, window: int | None, handle: str):
        """Reads the file.

        Raises:
          UsageError: the library is not installed, or it cannot read the file.
        """
        check_extra("tokenizers", "tokenizers", what="the model's tokenizer", argument="model")
        import tokenizers

        try:
            # Of two, one cuts: the library cuts as it encodes, and then nobody knows what there was before.
            self._whole, self._cutting = (tokenizers.Tokenizer.from_file(str(file)) for _ in range(2))
        except Exception as e:  # the library raises nothing but Exception
            raise model_error(handle, f"its {file.name} cannot be read: {first_line(e)}") from e
        for one in (self._whole, self._cutting):
            one.no_padding()
            one.no_truncation()
        self.window = window
        if window is not None:
            self._cutting.enable_truncation(window)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, pa.Array]:
        encoded = self._whole.encode_batch_fast(list(texts))
        ids = [one.ids for one in encoded]
        tokens = np.fromiter(map(len, ids), np.int64, len(ids))
        for i in np.flatnonzero(tokens > (self.window or tokens.max(initial=0))).tolist():
            ids[i] = self._cutting.encode(texts[i]).ids
        flat = np.concatenate([np.array(one, np.int32) for one in (*ids, [])])
        return tokens, as_lists(flat, np.fromiter(map(len, ids), np.int64, len(ids)))


def as_ids(payloads: Sequence[Any], tokenize: Callable[[Sequence[str]], pa.Array]) -> list[Any]:
    """The payloads' ids, int32: of texts what `tokenize` makes of them."""
    ids = list(payloads)
    if texts := [i for i, payload in enumerate(payloads) if isinstance(payload, str)]:
        made = lists(tokenize([payloads[i] for i in texts]))
        for i, of_text in zip(texts, made, strict=True):
            ids[i] = of_text
    return ids


def prompted(texts: Sequence[str], prompt: str | None) -> Sequence[str]:
    """The texts, each behind the prompt."""
    return [prompt + text for text in texts] if prompt else texts
