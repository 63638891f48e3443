"""The same BERT as its textbook has it: every text padded to the longest of its mini-batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tensorflow as tf

from transforms.encoder.export.checkpoint import Checkpoint, read_checkpoint
from transforms.encoder.export.minilm import find_minilm_checkpoint
from transforms.encoder.export.tokenizer import BertTokenizer


class PaddedBert(tf.Module):
    """String [n] -> float32 [n, dim], with mean pooling; padded rows go through every layer."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._config = checkpoint.made_of
        self._weights = {
            name: tf.Variable(value, trainable=False) for name, value in checkpoint.weights.items()
        }
        self._tokenizer = BertTokenizer(
            checkpoint.tokenizer.vocab,
            lower_case=checkpoint.tokenizer.lower_case,
            strip_accents=checkpoint.tokenizer.strip_accents,
            max_tokens=checkpoint.max_tokens,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self._tokenizer.tokenize(text)
        ids = tokens.to_tensor()
        mask = tf.sequence_mask(tokens.row_lengths(), tf.shape(ids)[1], dtype=tf.float32)
        w = self._weights
        x = tf.gather(w["embeddings.word_embeddings.weight"], ids)
        x += w["embeddings.position_embeddings.weight"][: tf.shape(ids)[1]]
        x += w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(len(self._config.layers)):
            x = self._layer(x, mask, f"encoder.layer.{i}")
        pooled = tf.einsum("nlh,nl->nh", x, mask) / tf.reduce_sum(mask, axis=1, keepdims=True)
        return {"embedding": tf.math.l2_normalize(pooled, axis=-1)}

    def _layer(self, x: tf.Tensor, mask: tf.Tensor, name: str) -> tf.Tensor:
        heads, width = self._config.heads, self._config.hidden // self._config.heads
        shape = tf.shape(x)

        def split(y: tf.Tensor) -> tf.Tensor:
            return tf.transpose(tf.reshape(y, [shape[0], shape[1], heads, width]), [0, 2, 1, 3])

        q, k, v = (
            split(self._dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = tf.matmul(q, k, transpose_b=True) / math.sqrt(width)
        scores += (1.0 - mask[:, tf.newaxis, tf.newaxis, :]) * -1e9
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
        attended = self._dense(tf.reshape(mixed, shape), f"{name}.attention.output.dense")
        x = self._norm(x + attended, f"{name}.attention.output.LayerNorm")
        inner = tf.nn.gelu(self._dense(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.matmul(x, self._weights[f"{name}.weight"], transpose_b=True) + self._weights[f"{name}.bias"]

    def _norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        gain, offset = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return tf.nn.batch_normalization(x, mean, variance, offset, gain, self._config.epsilon)


def save_padded(folder: Path) -> Path:
    """Saves MiniLM padded, once."""
    if not folder.exists():
        model: Any = PaddedBert(read_checkpoint(find_minilm_checkpoint()))
        tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    return folder
