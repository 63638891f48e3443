"""The exported MiniLM against sentence-transformers' own ids and vectors (tests/make_golden.py)."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_text  # noqa: F401  registers the tokenizer's ops
from golden.texts import golden_texts

from transforms.encoder.export import ensure_minilm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).resolve().parents[3] / "golden" / "minilm.npz") as stored:
        return dict(stored)


def _load(precision: str):
    cache = Path(os.environ.get("EMBEDBEAM_CACHE") or Path.home() / ".cache" / "embedbeam")
    return hub.load(str(ensure_minilm(cache, precision=precision)))


@pytest.fixture(scope="module")
def minilm():
    return _load("float32")


def _embed(model, texts: list[str], *, size: int = 16) -> np.ndarray:
    parts = [model(tf.constant(texts[i : i + size])).numpy() for i in range(0, len(texts), size)]
    return np.concatenate(parts)


def _cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


def test_the_set_is_what_it_says(golden):
    texts = golden_texts()
    assert len(texts) == len(golden["vectors"]) == len(golden["lengths"]) >= 220
    assert golden["lengths"].max() == 256


def test_token_ids_are_identical(minilm, golden):
    found = minilm.tokenize(tf.constant(golden_texts()))
    np.testing.assert_array_equal(found.row_lengths(), golden["lengths"])
    np.testing.assert_array_equal(found.values, golden["ids"])


def test_vectors_are_the_references(minilm, golden):
    found = _embed(minilm, golden_texts())
    cosines = _cosines(found, golden["vectors"])
    assert cosines.min() >= 0.999999, golden_texts()[cosines.argmin()][:80]
    np.testing.assert_allclose(found, golden["vectors"], atol=1e-5)


def test_bfloat16_stays_close(golden):
    texts = golden_texts()[::5]
    assert _cosines(_embed(_load("bfloat16"), texts), golden["vectors"][::5]).min() >= 0.999
