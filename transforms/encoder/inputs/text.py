"""Models that take texts: as strings, or as the token ids that a tokenizer of theirs makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.encoder.card import read_card
from transforms.encoder.config import ModelConfig
from transforms.encoder.inputs.ids import IdsFunction
from transforms.encoder.inputs.protocol import ModelInput
from transforms.encoder.inputs.rows import as_rows, padded
from transforms.encoder.inputs.tokenizers import (
    GraphTokenizer,
    HostTokenizer,
    Tokenizer,
    as_ids,
    prompted,
)
from transforms.encoder.messages import model_error
from transforms.encoder.signature import EMBED_IDS, described, takes_ids, tensors
from transforms.modality import Modality
from transforms.modality.text import Text
from transforms.texts import Refusal

_SAMPLE = "embedbeam warms the model up with this sentence"


def text_input(tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig) -> ModelInput:
    """The input of a text model, by what it takes and what lies beside it.

    Raises:
      UsageError: it takes neither strings nor what the preprocessor or the tokenizer makes.
    """
    if config.preprocessor is not None:
        from transforms.encoder.inputs.preprocessed import PreprocessedInput

        return PreprocessedInput(tf, function, signature, config)
    signatures = dict(getattr(loaded, "signatures", None) or {})
    card = read_card(config.folder, config.handle) if config.folder else None
    if card is not None and card.tokenizer is not None and takes_ids(tf, function):
        windows = (
            card.max_tokens or max_tokens(loaded),
            IdsFunction(tf, function, config.handle, signature).width,
        )
        window = min((n for n in windows if n is not None), default=None)
        by_host = HostTokenizer(card.tokenizer, window, config.handle)
        return TokenizedInput(tf, function, by_host, signature, config)
    # Another signature, or another output, may be more than what embed_ids does.
    plain = signature in ("serving_default", "default") and config.output is None
    if plain and {"tokenize", EMBED_IDS} <= signatures.keys():
        call = string_input(tf, signatures["tokenize"], config.handle, "tokenize")[1]
        in_graph = GraphTokenizer(call, max_tokens(loaded))
        return TokenizedInput(tf, signatures[EMBED_IDS], in_graph, EMBED_IDS, config)
    return StringInput(tf, loaded, function, signature, config)


class StringInput:
    """One string tensor [n]; see ModelInput."""

    modality: Modality = Text()
    sample = _SAMPLE
    prepares = False

    def __init__(self, tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig):
        """Checks what the function takes.

        Raises:
          UsageError: it is not one string tensor with a free first dimension.
        """
        self.described, self._function = string_input(tf, function, config.handle, signature)
        counting = dict(getattr(loaded, "signatures", None) or {}).get("count_tokens")
        self.can_count = counting is not None
        if counting is not None:
            _, self._counts = string_input(tf, counting, config.handle, "count_tokens")
        self.window, self._prompt = max_tokens(loaded), config.prompt

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(prompted(payloads, self._prompt))

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        counts: np.ndarray = next(iter(self._counts(prompted(payloads, self._prompt)).values())).numpy()
        return counts

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        return prompted(payloads, self._prompt), {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        return self._function(prepared), None


class TokenizedInput:
    """Token ids that a tokenizer makes, once: what was counted is what the model gets; see ModelInput.

    Payloads are texts, or the ids that `tokenize` made of them.
    """

    modality: Modality = Text()
    sample = _SAMPLE
    can_count, prepares = True, True

    def __init__(self, tf: Any, function: Any, tokenizer: Tokenizer, signature: str, config: ModelConfig):
        self._function = IdsFunction(tf, function, config.handle, signature)
        self._tokenizer, self._prompt = tokenizer, config.prompt
        self.described = f"text: string [n], as {self._function.described}"
        self.window = tokenizer.window

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(prompted(payloads, self._prompt))

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.tokenize(payloads)[0]

    def tokenize(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array]:
        """Tokens of texts before any cut, and their ids, list<int32>; those of longer texts are cut."""
        return self._tokenizer(prompted(payloads, self._prompt))

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        ids = as_ids(payloads, lambda texts: self.tokenize(texts)[1])
        return padded(ids, width=self._function.width), {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        return self._function(as_rows(prepared))


def string_input(
    tf: Any, function: Any, handle: str, signature: str
) -> tuple[str, Callable[[Sequence[Any]], Any]]:
    """Checks that the function takes one string [n] and returns (what it takes, how to call it)."""
    specs, by_name = tensors(tf, function)
    takes = f"signature {signature} takes ({described(specs) or 'nothing'}), expected one string tensor [n]"
    if [spec.dtype for spec in specs.values()] != [tf.string]:
        ids = "; its token ids may come from a `preprocessor`" if takes_ids(tf, function) else ""
        raise model_error(
            handle, f"{takes}: choose a text model, another `signature`, or the `modality` that fits{ids}"
        )
    [(name, spec)] = specs.items()
    if spec.shape.rank is not None and spec.shape.as_list() not in ([None], [None, None], [None, 1]):
        raise model_error(handle, f"{takes} with a free first dimension")
    row = [1] if spec.shape.rank == 2 else []

    def call(texts: Sequence[Any]) -> Any:
        tensor = tf.constant(texts, dtype=tf.string, shape=[len(texts), *row])
        return function(**{name: tensor}) if by_name else function(tensor)

    return f"{name}: string [n]", call


def max_tokens(loaded: Any) -> int | None:
    """The window that the model states, in tokens."""
    value = getattr(loaded, "max_tokens", None)
    return None if value is None or callable(value) else int(value)
