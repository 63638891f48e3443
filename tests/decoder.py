"""A small decoder as a SavedModel: token ids to hidden states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

DIM = 16


class Decoder(tf.Module):
    """A GPT of one layer: causal attention, and learned places; hidden states out."""

    def __init__(self, vocab: int = 50, window: int = 24):
        super().__init__()
        random = np.random.default_rng(6)

        def weights(*shape: int) -> tf.Variable:
            return tf.Variable(random.normal(size=shape).astype(np.float32) / 4)

        self.table, self.places = weights(vocab, DIM), weights(window, DIM)
        self.qkv, self.out = weights(DIM, 3 * DIM), weights(DIM, DIM)
        self.max_tokens = tf.Variable(window, trainable=False)

    def states(self, ids, mask):
        n = tf.shape(ids)[1]
        x = tf.gather(self.table, ids) + self.places[:n]
        q, k, v = tf.split(x @ self.qkv, 3, axis=-1)
        causal = tf.linalg.band_part(tf.ones([n, n]), -1, 0) * tf.cast(mask, tf.float32)[:, None, :]
        scores = q @ tf.linalg.matrix_transpose(k) / float(np.sqrt(DIM)) - 1e9 * (1 - causal)
        return x + tf.nn.softmax(scores) @ v @ self.out

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int64, name="input_ids"),
            tf.TensorSpec([None, None], tf.int64, name="attention_mask"),
        ]
    )
    def serve(self, input_ids, attention_mask):
        return {"last_hidden_state": self.states(input_ids, attention_mask)}


def save_decoder(folder: Path) -> str:
    """As exports of GPT-like models: input_ids and attention_mask in, last_hidden_state out."""
    model = Decoder()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    return str(folder)
