"""Real SavedModels of random weights in the forms that TF Hub has of text models."""

from __future__ import annotations

import json
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text
import tf_keras
from decoder import DIM, save_decoder  # noqa: F401  a text model's saver like those below

WORDS = ["the", "a", "cat", "dog", "runs", "over", "house", "moon", "light", "night", "river", "old", "new"]
WORDS += ["small", "tree", "##s", "##ing", "##ed", "un", "##known"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]


def words_of(text: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.split(tf.strings.lower(text))


def save_nnlm(folder: Path) -> str:
    """As nnlm-en-dim128/2: called with strings; the sum of a text's words by the root of their number."""

    class Nnlm(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.Variable(tf.random.stateless_normal([100, DIM], [1, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, text):
            ids = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, words_of(text), 100)
            weights = tf.math.rsqrt(tf.maximum(tf.cast(ids.row_lengths(), tf.float32), 1.0))
            return tf.reduce_sum(tf.gather(self.table, ids), axis=1) * weights[:, None]

    model = Nnlm()
    tf.saved_model.save(model, str(folder))
    return str(folder)


def save_elmo(folder: Path) -> str:
    """As elmo/3: TF1 Hub's format, a signature `default` with several outputs and one of token lists."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, [None], "text")
        tokens = v1.strings.split(text, result_type="RaggedTensor").to_tensor("")
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(tokens, ""), tf.int32), 1)
        table = v1.get_variable("table", [100, DIM], initializer=v1.random_normal_initializer(seed=3))
        embedded = tf.gather(table, tf.strings.to_hash_bucket_fast(tokens, 100))
        lstm = tf.tanh(tf.cumsum(embedded, axis=1))
        mask = tf.sequence_mask(lengths, dtype=tf.float32)[:, :, None]
        total = tf.reduce_sum(lstm * mask, 1) / tf.maximum(tf.cast(lengths[:, None], tf.float32), 1.0)
        outputs = {"word_emb": embedded, "lstm_outputs1": lstm, "elmo": embedded + lstm, "default": total}
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"text": text}, outputs)
        builder.add_meta_graph_and_variables(session, [], signature_def_map={"default": signature})
        builder.save()
    Path(folder, "tfhub_module.pb").write_bytes(b"\x08\x03")  # the format's number
    return str(folder)


class _Pack(tf.train.Checkpoint):
    """As TF Hub's bert_pack_inputs: ids of segments to [n, seq_length], whose length may be given."""

    def __init__(self, length: int):
        super().__init__()

        @tf.function(autograph=False)
        def call(inputs, seq_length=length):
            segments = [s.merge_dims(1, -1) if s.ragged_rank > 1 else s for s in inputs]
            segments = tf_text.RoundRobinTrimmer(seq_length - len(segments) - 1).trim(segments)
            ids, types = tf_text.combine_segments(segments, VOCAB.index("[CLS]"), VOCAB.index("[SEP]"))
            ids, mask = tf_text.pad_model_inputs(ids, seq_length)
            types, _ = tf_text.pad_model_inputs(types, seq_length)
            return {
                "input_word_ids": ids,
                "input_mask": tf.cast(mask, tf.int32),
                "input_type_ids": types,
            }

        self.__call__ = call
        for ragged_rank in (1, 2):
            for given in ({}, {"seq_length": tf.TensorSpec([], tf.int32)}):
                call.get_concrete_function(
                    [tf.RaggedTensorSpec([None] * (ragged_rank + 1), tf.int32)], **given
                )


def save_preprocessor(folder: Path, *, length: int = 32, in_steps: bool = True) -> str:
    """As bert_en_uncased_preprocess/3: a Keras model with `tokenize` and `bert_pack_inputs` beside it."""
    vocab = Path(f"{folder}.vocab.txt")
    vocab.write_text("\n".join(VOCAB))

    class Tokenize(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self._words = tf_text.BertTokenizer(str(vocab), token_out_type=tf.int32, lower_case=True)

        def call(self, text):
            return self._words.tokenize(text)

    class Pack(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.packed = _Pack(length)

        def call(self, tokens):
            return self.packed.__call__([tokens])

    text = tf_keras.Input([], dtype=tf.string, name="text")
    tokens, pack = Tokenize()(text), Pack()
    model = tf_keras.Model(text, pack(tokens))
    if in_steps:
        model.tokenize = tf_keras.Model(text, tokens)
        model.bert_pack_inputs = pack.packed
    model.save(str(folder), include_optimizer=False, save_format="tf")
    return str(folder)


def save_encoder(folder: Path, *, length: int | None = None) -> str:
    """As bert_en_uncased_L-12_H-768_A-12/4: a Keras model of a dict of tensors, with dicts and lists out."""

    class Bert(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            dense = tf_keras.layers.Dense
            made = {"kernel_initializer": tf_keras.initializers.RandomNormal(0, 0.5, seed=4)}
            self.table = tf_keras.layers.Embedding(
                len(VOCAB), DIM, embeddings_initializer=tf_keras.initializers.RandomNormal(seed=5)
            )
            self.query, self.pool = dense(DIM, **made), dense(DIM, activation="tanh", **made)

        def call(self, inputs):
            ids, mask = inputs["input_word_ids"], tf.cast(inputs["input_mask"], tf.float32)
            places = tf.sin(tf.cast(tf.range(tf.shape(ids)[1]), tf.float32))
            embedded = 20.0 * self.table(ids + 0 * inputs["input_type_ids"]) + places[None, :, None]
            scores = tf.einsum("nid,njd->nij", self.query(embedded), embedded)
            attended = tf.nn.softmax(scores - 1e9 * (1 - mask[:, None, :]))
            last = embedded + tf.einsum("nij,njd->nid", attended, embedded)
            pooled = self.pool(last[:, 0] / 10)
            return {
                "pooled_output": pooled,
                "sequence_output": last,
                "encoder_outputs": [embedded, last],
                "default": pooled,
            }

    names = ("input_word_ids", "input_mask", "input_type_ids")
    inputs = {name: tf_keras.Input([length], dtype=tf.int32, name=name) for name in names}
    tf_keras.Model(inputs, Bert()(inputs)).save(str(folder), include_optimizer=False, save_format="tf")
    return str(folder)


class IdModel(tf.Module):
    """As `export` makes them: embed_ids, and serving_default, count_tokens, tokenize or a tokenizer.json."""

    def __init__(self, window: int):
        super().__init__()
        self.max_tokens = tf.Variable(window, trainable=False)
        self.table = tf.Variable(tf.random.stateless_normal([1000, DIM], [7, 8]))
        self.window = window

    def embed(self, ids, lengths):
        rows = tf.RaggedTensor.from_row_lengths(tf.gather(self.table, ids), lengths)
        return tf.math.l2_normalize(tf.reduce_mean(rows, axis=1), axis=1)

    def cut(self, text):
        ids = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, words_of(text), 1000)
        ids = tf.cast(ids, tf.int32)
        marks = tf.fill([tf.shape(text)[0], 1], 2)
        return tf.concat([marks, ids[:, : self.window - 2], marks + 1], axis=1), ids.row_lengths() + 2

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name=name) for name in ("ids", "lengths")])
    def embed_ids(self, ids, lengths):
        return {"embedding": self.embed(ids, lengths)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(self, text):
        ids, _ = self.cut(text)
        return {"embedding": self.embed(ids.values, ids.row_lengths())}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def tokenize(self, text):
        ids, tokens = self.cut(text)
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        return {"ids": ids.values, "lengths": lengths, "tokens": tf.cast(tokens, tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def count(self, text):
        return {"tokens": self.tokenize(text)["tokens"]}


PROMPTS = {"query": "find this : ", "passage": "read this : "}


def save_id_model(folder: Path, *, host: bool = False, window: int = 12, ids: bool = True) -> str:
    """A model that takes ids: of its own graph, or of a tokenizer.json beside it.

    Args:
      host: whether the tokenizer lies beside it.
      ids: whether it says so at all; without, it takes strings alone.
    """
    model = IdModel(window)
    strings = {"serving_default": model.serve, "count_tokens": model.count}
    by_ids = {"embed_ids": model.embed_ids} | ({} if host else {"tokenize": model.tokenize})
    tf.saved_model.save(model, str(folder), signatures=({} if host else strings) | (by_ids if ids else {}))
    extra = Path(folder, "assets.extra")
    extra.mkdir(exist_ok=True)
    card = {"family": "test", "max_tokens": window, "prompts": PROMPTS, "default_prompt": None}
    extra.joinpath("embedbeam.json").write_text(json.dumps(card))
    if host:
        word_tokenizer().save(str(extra / "tokenizer.json"))
    return str(folder)


def word_tokenizer():
    """A tokenizer of the Rust library: words and pieces of VOCAB, [CLS] and [SEP] around them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(VOCAB)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return made
