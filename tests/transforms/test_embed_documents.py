from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.transforms.window import FixedWindows, IntervalWindow, SlidingWindows, TimestampedValue
from fakes import load_fake, vector_of
from models import save_hash_model

import transforms
from transforms import DeadLetter, Document, EmbedDocuments
from transforms.embed_documents import as_document
from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.steps.encoder import SharedEncoder
from transforms.steps.merge import merge_vectors

_SEEN: dict[str, list[Any]] = {}


def _see(element: Any, name: str, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam) -> None:
    _SEEN.setdefault(name, []).append((element, timestamp.micros / 1e6, window))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    _SEEN.clear()


def embed(documents: list[Any], transform: EmbedDocuments, *between: beam.PTransform) -> None:
    with TestPipeline(runner=FnApiRunner()) as p:
        collection = p | beam.Create(documents, reshuffle=False)
        for step in between:
            collection |= step
        result = collection | transform
        _ = result.embeddings | "See rows" >> beam.Map(_see, "rows")
        _ = result.dead_letters | "See letters" >> beam.Map(_see, "letters")


def seen(name: str) -> list[Any]:
    return [element for element, _, _ in _SEEN.get(name, [])]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_hash_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(model: str) -> HubEncoder:
    return HubEncoder(ModelConfig(model))


def test_pairs_and_documents(model: str, encoder: HubEncoder) -> None:
    pairs = [(f"doc{i}", " ".join(["word"] * (i % 7 + 1) + [str(i)])) for i in range(50)]
    documents = [Document(*pair, kept={"n": 1}) if i % 2 else pair for i, pair in enumerate(pairs)]
    embed(documents, EmbedDocuments(model, batch_tokens=20))
    rows = {row.doc_id: row for row in seen("rows")}
    assert len(rows) == len(seen("rows")) == 50
    for i, (doc_id, text) in enumerate(pairs):
        row = rows[doc_id]
        np.testing.assert_array_equal(row.vector, encoder.embed([text])[0])
        assert (row.document.payload, row.document.kept) == (text, {"n": 1} if i % 2 else {})
        assert (row.tokens, row.tokens_dropped, row.chunk) == (len(text.split()), 0, None)
    assert seen("letters") == []


def test_dead_letters(model: str) -> None:
    documents = [
        ("a", "fine"),
        ("b", " \n"),
        ("c", "POISON here"),
        ("d", "NOTANUMBER"),
        ("e", 7),
        ("f", "ok"),
    ]
    embed(documents, EmbedDocuments(model))
    assert sorted(row.doc_id for row in seen("rows")) == ["a", "f"]
    refused = ("the model refuses it", "InvalidArgumentError: assertion failed: [refused text]")
    assert sorted(seen("letters"), key=lambda letter: letter.doc_id) == [
        DeadLetter("b", "", 0, "read", "blank text", "", " \n", 1),
        DeadLetter("c", "", 0, "embed", *refused, "POISON here", 2),
        DeadLetter("d", "", 0, "embed", "the model gives NaN or infinity", "", "NOTANUMBER", 3),
        DeadLetter("e", "", 0, "read", "field 'payload' is int, expected string", "", "7", 4),
    ]


def test_what_is_no_document() -> None:
    with pytest.raises(TypeError, match=r"Document or \(doc_id, text\) elements, got str"):
        as_document("a text")
    with pytest.raises(TypeError, match="doc_id 7 is int, expected str"):
        as_document((7, "a text"))


def test_windows_and_timestamps_come_back(model: str) -> None:
    documents = [TimestampedValue((f"d{t}", " " if t % 5 == 0 else f"at {t}"), t) for t in range(40)]
    embed(documents, EmbedDocuments(model, batch_tokens=7), beam.WindowInto(FixedWindows(3)))
    got = {e.doc_id: (t, w) for name in ("rows", "letters") for e, t, w in _SEEN[name]}
    assert got == {f"d{t}": (t, IntervalWindow(t // 3 * 3, t // 3 * 3 + 3)) for t in range(40)}
    assert sorted(letter.doc_id for letter in seen("letters")) == sorted(f"d{t}" for t in range(0, 40, 5))


def test_a_document_in_two_windows_comes_back_in_both(model: str) -> None:
    documents = [TimestampedValue(("d", "text"), 5), TimestampedValue(("e", ""), 5)]
    embed(documents, EmbedDocuments(model), beam.WindowInto(SlidingWindows(4, 2)))
    windows = [IntervalWindow(2, 6), IntervalWindow(4, 8)]
    for name in ("rows", "letters"):
        assert sorted(w for _, _, w in _SEEN[name]) == windows
        assert {t for _, t, _ in _SEEN[name]} == {5}


LONG = " ".join(f"w{i}" for i in range(40))  # the model's window is 16 words


def spans() -> list[str]:
    words = LONG.split()
    return [" ".join(words[i : i + 16]) for i in (0, 16, 32)]


def test_a_row_a_chunk(model: str, encoder: HubEncoder) -> None:
    embed([("long", LONG), ("short", "a b")], EmbedDocuments(model, long_documents="chunks", chunk_overlap=0))
    rows = sorted(seen("rows"), key=lambda row: (row.doc_id, row.chunk))
    assert [(r.doc_id, r.chunk, r.document.payload[r.start : r.end], r.tokens, r.last) for r in rows] == [
        ("long", 0, spans()[0], 16, False),
        ("long", 1, spans()[1], 16, False),
        ("long", 2, spans()[2], 8, True),
        ("short", 0, "a b", 2, True),
    ]
    for row, text in zip(rows, [*spans(), "a b"], strict=True):
        np.testing.assert_array_equal(row.vector, encoder.embed([text])[0])


def test_long_documents_are_merged_or_truncated(model: str, encoder: HubEncoder) -> None:
    embed([("long", LONG)], EmbedDocuments(model, chunk_overlap=0))
    (row,) = seen("rows")
    owners = np.zeros(3, np.int64)
    merged = merge_vectors(encoder.embed(spans()), np.array([16, 16, 8]), owners, unit_length=True)
    np.testing.assert_array_equal(row.vector, merged[0])
    assert (row.tokens, row.tokens_dropped) == (40, 0)
    _SEEN.clear()
    embed([("long", LONG)], EmbedDocuments(model, long_documents="truncate", chunk_overlap=0))
    (row,) = seen("rows")
    assert (row.tokens, row.tokens_dropped) == (40, 24)


def test_two_models_in_one_pipeline(model: str, tmp_path: Path, encoder: HubEncoder) -> None:
    other = save_hash_model(tmp_path, window=4)
    with TestPipeline(runner=FnApiRunner()) as p:
        documents = p | beam.Create([("a", LONG)])
        for name, handle in (("one", model), ("two", other)):
            result = documents | name >> EmbedDocuments(handle, long_documents="chunks", chunk_overlap=0)
            _ = result.embeddings | f"See {name}" >> beam.Map(_see, name)
    assert [len(seen(name)) for name in ("one", "two")] == [3, 10]


def test_an_empty_collection(model: str) -> None:
    embed([], EmbedDocuments(model))
    assert _SEEN == {}


@pytest.mark.parametrize("element", ["ab", {"doc_id": "a", "text": "b"}, ("a", "b", "c"), ["a", "b"], None])
def test_elements_that_are_no_documents(model: str, element: Any) -> None:
    message = f"EmbedDocuments takes Document or .doc_id, text. elements, got {type(element).__name__}"
    with pytest.raises(TypeError, match=message):
        embed([element], EmbedDocuments(model))


def test_a_missing_model_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match=f"model.? {tmp_path}/no: no such file or folder; expected a SavedModel"
    ):
        embed([("a", "b")], EmbedDocuments(f"{tmp_path}/no"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_documents": "cut"}, "^long_documents='cut': expected mean, truncate or chunks$"),
        ({"batch_tokens": 0}, "^batch_tokens must be at least 1, and chunk_overlap at least 0$"),
        ({"chunk_overlap": -1}, "^batch_tokens must be at least 1, and chunk_overlap at least 0$"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedDocuments("m", **options)


def test_a_model_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any Encoder will do where the model is not the point."""
    own = lambda config: SharedEncoder(config, load_fake)  # noqa: E731
    monkeypatch.setattr("transforms.embed_documents.SharedEncoder", own)
    embed([("a", "one two")], EmbedDocuments("fake"))
    assert [(r.doc_id, r.vector.tolist(), r.tokens) for r in seen("rows")] == [
        ("a", vector_of("one two").tolist(), 4)
    ]


def test_the_package_gives_its_names_lazily() -> None:
    assert transforms.EmbedDocuments is EmbedDocuments
    with pytest.raises(AttributeError, match="module 'transforms' has no attribute 'Nothing'"):
        _ = transforms.Nothing
