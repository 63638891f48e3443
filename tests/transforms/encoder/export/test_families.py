"""Each architecture, its weights at random, against sentence-transformers' own ids and vectors."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES, GOLDEN, POOLINGS, family_texts, write_family
from tokenizers import Tokenizer

from transforms.encoder.export.blocks.layout import Layout
from transforms.encoder.export.build import IdEncoder, TextEncoder
from transforms.encoder.export.checkpoint import Checkpoint, read_checkpoint
from transforms.encoder.export.head import Head
from transforms.encoder.export.sentence import Modules
from transforms.encoder.export.wordpiece import WordPiece

IDS = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)]


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def golden(family) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "families" / f"{family}.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def checkpoint(family, tmp_path_factory) -> Checkpoint:
    return read_checkpoint(write_family(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope="module")
def encoder(checkpoint) -> IdEncoder:
    kind = TextEncoder if isinstance(checkpoint.tokenizer, WordPiece) else IdEncoder
    return kind(checkpoint, precision="float32")


def tokens_of(checkpoint: Checkpoint, encoder: IdEncoder, texts: list[str]) -> list[list[int]]:
    """As the graph cuts them, or as a host does that is given tokenizer.json and max_tokens."""
    if isinstance(encoder, TextEncoder):
        return encoder.tokenize(tf.constant(texts)).to_list()
    tokenizer = Tokenizer.from_str(json.dumps(checkpoint.tokenizer.content))
    tokenizer.enable_truncation(checkpoint.max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def rows_of(golden) -> list[list[int]]:
    return [part.tolist() for part in np.split(golden["ids"], np.cumsum(golden["lengths"])[:-1])]


def mini_batches(rows: list[list[int]], size: int = 24) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Short texts with short ones, as the job has them; the two long ones together."""
    short, long = rows[:-2], rows[-2:]
    parts = [*(short[i : i + size] for i in range(0, len(short), size)), long]
    return [flat(part) for part in parts]


def flat(rows: list[list[int]]) -> tuple[tf.Tensor, tf.Tensor]:
    """What embed_ids takes."""
    ids = [i for row in rows for i in row]
    return tf.constant(ids, tf.int32), tf.constant([*map(len, rows)], tf.int32)


def worst_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / norms).min())


def test_the_set_is_what_it_says(family, golden):
    texts = family_texts()
    assert len(texts) == len(golden["lengths"]) >= 100
    assert golden["lengths"].max() == FAMILIES[family].window
    assert (golden["lengths"] == golden["lengths"].max()).sum() >= 1
    assert len(golden["ids"]) == golden["lengths"].sum()


def test_token_ids_are_identical(checkpoint, encoder, golden):
    texts = family_texts()
    for text, found, expected in zip(
        texts, tokens_of(checkpoint, encoder, texts), rows_of(golden), strict=True
    ):
        assert found == expected, ascii(text[:80])


def test_vectors_are_the_references(family, checkpoint, encoder, golden):
    """All three poolings of one run of the layers: mean, CLS and last."""
    made_of = checkpoint.made_of
    modules, names = checkpoint.modules, {"mean": "mean", "cls": "cls", "lasttoken": "last"}
    heads = {name: Head(modules, pooling=names[name], dim=checkpoint.dim) for name in POOLINGS}

    @tf.function(input_signature=IDS)
    def embed(ids, lengths):
        layout = Layout(lengths, heads=made_of.heads, key_heads=made_of.key_heads)
        rows = encoder._transformer(ids, layout)
        return {name: head(rows, layout) for name, head in heads.items()}

    parts = [embed(ids, lengths) for ids, lengths in mini_batches(rows_of(golden))]
    for name in POOLINGS:
        found = np.concatenate([part[name].numpy() for part in parts])
        assert worst_cosine(found, golden[name]) >= 0.99999, name
        np.testing.assert_allclose(found, golden[name], atol=2e-4)
        assert np.abs(found - golden[name]).mean() < 1e-5


def test_the_weights_tell_texts_apart(golden):
    """A reference that gives all texts one vector would prove nothing."""
    for name in POOLINGS:
        distinct = golden[name][:: len(golden[name]) // 16]
        cosines = distinct @ distinct.T - np.eye(len(distinct))
        assert cosines.mean() < 0.95, name


def test_prompts_stand_before_the_text(checkpoint, encoder, golden):
    texts = family_texts()[:8]
    for name, prompt in checkpoint.prompts.items():
        rows = tokens_of(checkpoint, encoder, [prompt + text for text in texts])
        ids, lengths = flat(rows)
        found = encoder.embed_ids(ids, lengths)["embedding"]
        assert worst_cosine(found.numpy(), golden[f"prompt_{name}"]) >= 0.99999
        if isinstance(encoder, TextEncoder):
            asked = encoder.signatures()[name](tf.constant(texts))["embedding"]
            np.testing.assert_allclose(asked, found, atol=1e-6)


def test_half_precision_is_close(checkpoint, golden):
    texts = slice(0, 48)
    for precision, least in (("bfloat16", 0.99), ("float16", 0.9999)):
        half = IdEncoder(checkpoint, precision=precision)
        rows = rows_of(golden)[texts]
        ids, lengths = flat(rows)
        found = half.embed_ids(ids, lengths)["embedding"]
        assert found.dtype == tf.float32
        expected = golden[{"last": "lasttoken"}.get(checkpoint.pooling, checkpoint.pooling)][texts]
        assert worst_cosine(found.numpy(), expected) >= least, precision


def test_no_text_and_plain_vectors(checkpoint):
    plain = dataclasses.replace(checkpoint, modules=Modules())
    encoder = IdEncoder(plain, precision="float32")
    nothing = encoder.embed_ids(tf.constant([], tf.int32), tf.constant([], tf.int32))["embedding"]
    assert nothing.shape == [0, checkpoint.made_of.hidden]
