"""Pairs of models as TF Hub's BERT: a preprocessor makes tensors of texts, an encoder vectors of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.encoder.config import ModelConfig
from transforms.encoder.inputs.preprocessor import Preprocessor
from transforms.encoder.inputs.rows import Rows, as_rows
from transforms.encoder.inputs.tokenizers import as_ids, prompted
from transforms.encoder.signature import described, tensors
from transforms.errors import UsageError
from transforms.modality import Modality
from transforms.modality.text import Text
from transforms.texts import Refusal


class PreprocessedInput:
    """What a preprocessor makes of texts, cut to the longest of the mini-batch; see ModelInput."""

    modality: Modality = Text()
    sample = "embedbeam warms the model up with this sentence"
    can_count, prepares = True, True

    def __init__(self, tf: Any, function: Any, signature: str, config: ModelConfig):
        """Loads the preprocessor and holds what it makes against what the encoder takes.

        Raises:
          UsageError: it is no preprocessor, not this encoder's, or makes more tokens than that takes.
        """
        assert config.preprocessor is not None
        self._tf, self._function, self._prompt = tf, function, config.prompt
        self._specs, self._by_name = tensors(tf, function)
        self._preprocessor = Preprocessor(tf, config.preprocessor, config.seq_length)
        self._in_steps = self._preprocessor.in_steps
        made = self._columns([""])
        takes = f"the encoder's {signature} takes ({described(self._specs)})"
        gives = "it gives (" + ", ".join(f"{n}: {c.dtype} {list(c.shape)}" for n, c in sorted(made.items()))
        if self._specs.keys() - made.keys() or not self._specs:
            reason = f"{gives}), and {takes}: expected the preprocessor that goes with the model"
            raise self._preprocessor.error(reason)
        masks = [name for name in made if "mask" in name]
        if len(masks) != 1:
            raise self._preprocessor.error(f"{gives}), expected one mask of what is no padding")
        self._mask = masks[0]
        self.window = self._width = made[self._mask].shape[1]
        fixed = [spec.shape[1] for spec in self._specs.values() if spec.shape.rank == 2]
        if wrong := [width for width in fixed if width not in (None, self._width)]:
            reason = f"{takes}, expected {wrong[0]}"
            raise UsageError(f"seq_length {self._width}: {reason}", argument="seq_length")
        self._special = int(made[self._mask].sum())
        self.described = f"text: string [n], preprocessed to {described(self._specs)}"

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(prompted(payloads, self._prompt))

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.tokenize(payloads)[0]

    def tokenize(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
        """Tokens of texts, and the ids that the preprocessor's second step takes, if it has one.

        One of a single step does not tell by how much a text is too long: the count of a text that fills the
        window is an estimate.
        """
        if self._in_steps:
            ids = self._pieces(payloads)
            return np.diff(ids.offsets.to_numpy()).astype(np.int64) + self._special, ids
        tokens = self._columns(payloads)[self._mask].sum(axis=1, dtype=np.int64)
        beyond = np.maximum(self.estimate(payloads), self._width + 1)
        return np.where(tokens < self._width, tokens, beyond), None

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        return Rows(self._columns(payloads)), {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        columns = as_rows(prepared).columns
        mask = columns[self._mask]
        longest = max(1, int(mask.sum(axis=1).max()))
        fed = {}
        for name, spec in self._specs.items():
            cut = columns[name].shape == mask.shape and (spec.shape.rank is None or spec.shape[1] is None)
            fed[name] = self._tf.constant(columns[name][:, :longest] if cut else columns[name], spec.dtype)
        width = max(tensor.shape[1] for tensor in fed.values())
        outputs = self._function(**fed) if self._by_name else self._function(*fed.values())
        return outputs, mask[:, :width]

    def _pieces(self, texts: Sequence[str]) -> pa.Array:
        return self._preprocessor.pieces(prompted(texts, self._prompt))

    def _columns(self, payloads: Sequence[Any]) -> dict[str, np.ndarray]:
        """Of texts, or of ids that `tokenize` made."""
        if self._in_steps:
            return self._preprocessor.packed(as_ids(payloads, self._pieces))
        return self._preprocessor.whole(prompted(payloads, self._prompt))
