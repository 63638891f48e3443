"""Preprocessors as TF Hub's BERT has them: SavedModels that make an encoder's tensors of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.encoder.config import ModelConfig
from transforms.encoder.messages import first_line
from transforms.encoder.signature import own_call, pick_signature, tensors
from transforms.errors import UsageError
from transforms.modality.tokens import as_lists


class Preprocessor:
    """Texts to tensors by name, [n, positions]. Thread-safe.

    Attributes:
      in_steps: whether it does its work in two steps, `tokenize` and `bert_pack_inputs`, of which the second
        makes as many positions as are wanted.
    """

    def __init__(self, tf: Any, folder: str, seq_length: int | None):
        """Loads it.

        Raises:
          UsageError: it cannot be loaded, does not take texts, or does not make `seq_length` positions.
        """
        import tensorflow_hub as hub

        self._tf, self._folder, self._length = tf, folder, {}
        try:
            self._loaded = hub.load(folder)
        except Exception as e:  # a broken SavedModel raises many kinds
            raise self.error(f"cannot be loaded: {first_line(e)}") from e
        self._tokenize: Any = own_call(tf, getattr(self._loaded, "tokenize", None))
        self._pack: Any = getattr(self._loaded, "bert_pack_inputs", None)
        self.in_steps = self._tokenize is not None and callable(self._pack)
        self._whole: Any = own_call(tf, self._loaded)
        if self._whole is None:
            _, self._whole = pick_signature(tf, self._loaded, ModelConfig(folder))
        specs, self._by_name = tensors(tf, self._whole)
        if [spec.dtype for spec in specs.values()] != [tf.string]:
            raise self.error("takes no texts: expected a model that makes the encoder's input of strings")
        (self._text,) = specs
        if seq_length is not None:
            if not self.in_steps:
                raise UsageError(
                    f"seq_length {seq_length}: the preprocessor has no tokenize and bert_pack_inputs, which "
                    "other lengths are made with; leave it out",
                    argument="seq_length",
                )
            self._length = {"seq_length": tf.constant(seq_length, tf.int32)}

    def error(self, reason: str) -> UsageError:
        return UsageError(f"preprocessor {self._folder}: {reason}", argument="preprocessor")

    def whole(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """All at once."""
        tensor = self._tf.constant(texts, self._tf.string)
        return self._arrays(self._whole(**{self._text: tensor}) if self._by_name else self._whole(tensor))

    def pieces(self, texts: Sequence[str]) -> pa.Array:
        """The first step: token ids without special ones, list<int32> [n]."""
        tokens: Any = self._tokenize(self._tf.constant(texts, self._tf.string))
        tokens = tokens.merge_dims(1, -1) if tokens.ragged_rank > 1 else tokens  # words of pieces
        return as_lists(tokens.values.numpy().astype(np.int32), tokens.row_lengths().numpy())

    def packed(self, ids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The second step."""
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.concatenate([*ids, np.empty(0, np.int32)]).astype(np.int32)
        ragged = self._tf.RaggedTensor.from_row_lengths(flat, lengths)
        return self._arrays(self._pack([ragged], **self._length))

    def _arrays(self, outputs: Any) -> dict[str, np.ndarray]:
        if not isinstance(outputs, dict):
            raise self.error("gives no tensors by name, which the encoder would take")
        return {name: tensor.numpy() for name, tensor in outputs.items() if hasattr(tensor, "numpy")}
