"""Small real SavedModels for tests: hub.load loads them like any other."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

DIM = 8


class HashModel(tf.Module):
    """A vector that depends on the text alone; words are tokens. Can be told to refuse texts.

    A text with POISON raises, one with NOTANUMBER gives NaN, and a mini-batch of more than `fits` rows runs
    out of memory.
    """

    def __init__(self, *, window: int | None = 16, fits: int | None = None, breaks: bool = False):
        super().__init__()
        self._fits = fits
        self._calls = tf.Variable(0, trainable=False) if breaks else None  # it works once
        if window:
            self.max_tokens = tf.Variable(window, dtype=tf.int32, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text):
        n = tf.shape(text)[0]
        refused = tf.reduce_any(tf.strings.regex_full_match(text, "(?s).*POISON.*"))
        checks = [tf.debugging.Assert(tf.logical_not(refused), ["refused text"])]
        if self._calls is not None:
            checks.append(tf.debugging.Assert(self._calls.assign_add(1) <= 1, ["broken model"]))
        if self._fits:
            # Asks for 2^50 bytes where the mini-batch is too large, as a real model would ask for too many.
            rows = tf.where(n > self._fits, tf.constant(2**48, tf.int64), tf.constant(1, tf.int64))
            checks.append(tf.reduce_sum(tf.random.uniform(tf.reshape(rows, [1]))))
        with tf.control_dependencies(checks):
            columns = [
                tf.strings.to_hash_bucket_fast(tf.strings.join([text, str(i)]), 1000) for i in range(DIM)
            ]
        # In float64, whose last bits differ with the size of the mini-batch: those are rounded away.
        vectors = tf.cast(tf.stack(columns, axis=1), tf.float64) / 1000 - 0.5
        vectors = tf.cast(tf.math.l2_normalize(vectors, axis=1), tf.float32)
        bad = tf.strings.regex_full_match(text, "(?s).*NOTANUMBER.*")
        return {"embedding": tf.where(bad[:, None], float("nan"), vectors)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def count(self, text):
        return {"tokens": tf.cast(tf.strings.split(text).row_lengths(), tf.int32)}


def save_hash_model(folder: Path | str, *, counts: bool = True, **kwargs) -> str:
    """Saves a HashModel as a TF Hub SavedModel and returns its path."""
    model = HashModel(**kwargs)
    signatures = {"serving_default": model.serve}
    if counts:
        signatures["count_tokens"] = model.count
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return str(folder)
