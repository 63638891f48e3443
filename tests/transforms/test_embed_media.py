"""EmbedDocuments over recordings and rows."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pytest
import sounds
import tables
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that

from transforms.embed_documents import EmbedDocuments


def collected(documents, transform):
    found, dead = [], []
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create(documents) | transform
        assert_that(result.embeddings, found.extend, label="embeddings")
        assert_that(result.dead_letters, dead.extend, label="dead")
    return found, dead


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
def test_rows_are_dicts(tmp_path):
    model = tables.features_model(tmp_path / "m")
    rows = tables.rows(5)
    documents = [(row["id"], row) for row in rows] + [("bad", {"age": "old"})]
    found, dead = collected(documents, EmbedDocuments(model, modality="tabular"))
    assert sorted(one.doc_id for one in found) == [row["id"] for row in rows]
    assert all(np.isfinite(one.vector).all() for one in found)
    assert [letter.doc_id for letter in dead] == ["bad"]
