"""EmbedDocuments over recordings and rows."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pytest
import sounds
import tables
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from transforms.embed_documents import EmbedDocuments

_SEEN: dict[str, list] = {}


def _see(element, name):
    _SEEN[name].append(element)


def collected(documents, transform):
    _SEEN.update(rows=[], letters=[])
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        result = pipeline | beam.Create(documents, reshuffle=False) | transform
        _ = result.embeddings | "See rows" >> beam.Map(_see, "rows")
        _ = result.dead_letters | "See letters" >> beam.Map(_see, "letters")
    return _SEEN["rows"], _SEEN["letters"]


@pytest.mark.slow
def test_recordings_in_chunks_of_seconds(tmp_path):
    model = sounds.save(sounds.Yamnet(), tmp_path / "m")
    transform = EmbedDocuments(
        model,
        model_output="output_1",
        modality="audio",
        long_documents="chunks",
        payload={"window_seconds": 2.0},
    )
    found, dead = collected([("a", sounds.encoded(sounds.wave(5))), ("b", b"no sound")], transform)
    spans = sorted((one.doc_id, one.chunk, one.start, one.end) for one in found)
    assert spans == [("a", 0, 0.0, 2.0), ("a", 1, 2.0, 4.0), ("a", 2, 4.0, 5.0)]
    assert [(letter.doc_id, letter.kind) for letter in dead] == [("b", "not audio")]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "weights"), [("mean", [2, 2, 1]), ("truncate", [1, 0, 0])])
def test_a_long_recording_is_the_mean_by_seconds_or_its_first_window(tmp_path, mode, weights):
    model = sounds.save(sounds.Clips(), tmp_path / "m")
    transform = EmbedDocuments(
        model, modality="audio", long_documents=mode, payload={"window_seconds": 2.0, "sample_rate": 16_000}
    )
    samples = np.random.default_rng(3).integers(-9000, 9000, 80_000).astype(np.int16)
    samples[32_000:64_000] //= 4  # else windows of noise are much the same
    samples[64_000:] //= 30
    found, dead = collected([("a", sounds.encoded(samples, subtype="PCM_16"))], transform)
    loaded = tf.saved_model.load(model)
    windows = [samples[a:b] / np.float32(32_768) for a, b in ((0, 32_000), (32_000, 64_000), (64_000, None))]
    vectors = [loaded.signatures["serving_default"](tf.constant(w[None]))["embedding"][0] for w in windows]
    ((row,), []) = found, dead
    assert row.vector == pytest.approx(np.average(vectors, axis=0, weights=weights), rel=1e-5)


@pytest.mark.slow
def test_rows_are_dicts(tmp_path):
    model = tables.features_model(tmp_path / "m")
    rows = tables.rows(5)
    documents = [(row["id"], row) for row in rows] + [("bad", {"age": "old"})]
    found, dead = collected(documents, EmbedDocuments(model, modality="tabular"))
    assert sorted(one.doc_id for one in found) == [row["id"] for row in rows]
    assert all(np.isfinite(one.vector).all() for one in found)
    assert [letter.doc_id for letter in dead] == ["bad"]
