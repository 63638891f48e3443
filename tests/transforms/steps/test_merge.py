import dataclasses
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from apache_beam.transforms.window import IntervalWindow
from fakes import FakeEncoder, chunks, document, letters_of, one_run, rows_of, run, shared, whole
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transforms.blocks import ChunkBlock, DeadLetters, EmbeddedBatch, RowBlock, Run
from transforms.elements import DeadLetter, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.steps.config import EmbedConfig
from transforms.steps.merge import _MergeFn, merge_vectors

floats = st.floats(-100, 100, width=32)


def merged(vectors: np.ndarray, weights: Sequence[int], *, unit_length: bool = False) -> np.ndarray:
    """The vector of one document."""
    owners = np.zeros(len(vectors), np.int64)
    (got,) = merge_vectors(vectors, np.array(weights), owners, unit_length=unit_length)
    return got


@given(
    vectors=hnp.arrays(np.float32, st.tuples(st.integers(2, 6), st.just(4)), elements=floats),
    data=st.data(),
)
def test_merge_is_the_weighted_mean(vectors: np.ndarray, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 512), min_size=len(vectors), max_size=len(vectors)))
    wide = vectors.astype(np.float64)
    reference = (wide * np.array(weights)[:, None]).sum(axis=0) / sum(weights)
    got = merged(vectors, weights)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference, rtol=1e-6, atol=1e-6)


@given(angles=st.lists(st.floats(0, 1.5), min_size=2, max_size=6), data=st.data())
def test_vectors_of_unit_length_give_one_of_unit_length(angles: list[float], data: st.DataObject) -> None:
    """Within what bfloat16 can tell of their length, too: it is the model's matter, not the document's."""
    weights = data.draw(st.lists(st.integers(1, 512), min_size=len(angles), max_size=len(angles)))
    lengths = data.draw(st.lists(st.floats(0.996, 1.004), min_size=len(angles), max_size=len(angles)))
    vectors = np.array(
        [[n * np.cos(a), n * np.sin(a)] for a, n in zip(angles, lengths, strict=True)], np.float32
    )
    mean = np.average(vectors.astype(np.float64), axis=0, weights=weights)
    got = merged(vectors, weights, unit_length=True)
    np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=1e-6)


def test_opposite_unit_vectors_have_no_direction() -> None:
    assert merged(np.array([[1, 0], [-1, 0]], np.float32), [1, 1], unit_length=True).tolist() == [0, 0]


def test_weights_of_zero() -> None:
    assert merged(np.array([[2, 0], [0, 4]], np.float32), [0, 0]).tolist() == [1, 2]


def test_a_document_of_one_chunk_keeps_its_vector_among_others() -> None:
    vectors = np.array([[0.3, 0.1], [2, 0], [0, 4], [7, 7]], np.float32)
    owners = np.array([0, 2, 2, 5])
    got = merge_vectors(vectors, np.array([9, 3, 1, 2]), owners, unit_length=False)
    assert got.tolist() == [vectors[0].tolist(), [1.5, 1.0], [7, 7]]


def window_of(*counts: int, number: int = 0, first: int = 0, **fields: Any) -> ChunkBlock:
    """Documents of so many chunks, of 1, 2, 3, ... tokens each."""
    parts = []
    for index, count in enumerate(counts, first):
        of = [(f"{index}.{n}", n + 1) for n in range(count)]
        parts.append((document(index, " ".join(text for text, _ in of), **fields), of))
    return chunks(*parts, number=number)


def vector(text: str) -> list[float]:
    index, number = map(int, text.split("."))
    return [index * 10 + 2, number * 7 + 2]


def batch(*runs: Run, failures: dict[int, tuple[str, str]] | None = None) -> EmbeddedBatch:
    texts = [t for r in runs for t in r.window.payloads.take(r.chunks).to_pylist()]
    return EmbeddedBatch(runs, np.array([vector(text) for text in texts], np.float32), failures or {})


def row(index: int, count: int) -> tuple[Any, ...]:
    """The merged row by hand; weights are the chunks' tokens, 1, 2, 3, ..."""
    weights = np.arange(1, count + 1, dtype=np.float64)
    mean = np.average([vector(f"{index}.{n}") for n in range(count)], axis=0, weights=weights)
    tokens = count * (count + 1) // 2
    return (f"doc{index}", mean.astype(np.float32).tolist(), tokens, 0, None, None, None, None)


def merge_fn(mode: str = "mean", **config: Any) -> _MergeFn:
    return _MergeFn(shared(FakeEncoder()), EmbedConfig(mode, **config))


def plain(elements: Sequence[Any]) -> list[Any]:
    return [one for e in letters_of(elements) for one in (rows_of(e) if isinstance(e, RowBlock) else [e])]


REFUSED = ("the model refuses it", "why")


def letter(index: int, payload: str) -> DeadLetter:
    return DeadLetter(f"doc{index}", "", 0, "embed", *REFUSED, payload, index)


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=8), data=st.data())
def test_input_order_whatever_order_the_chunks_come_in(counts: list[int], data: st.DataObject) -> None:
    window = window_of(*counts)
    arriving = data.draw(st.permutations(range(len(window.costs))))
    batches = []
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        batches.append(batch(one_run(window, arriving[:size])))
        arriving = arriving[size:]
    marker = EndOfShard("s", len(counts))
    got = run(merge_fn(), [*batches, marker])
    assert plain(got) == [*(row(i, count) for i, count in enumerate(counts)), marker]
    assert [e.documents for e in got[:-1]] == [len(counts)]


def test_rows_come_as_soon_as_their_window_is_whole_and_a_mini_batch_may_span_two() -> None:
    fn = merge_fn()
    fn.setup()
    fn.start_bundle()
    one, two = window_of(1, 2), window_of(1, number=1, first=2)
    assert plain(list(fn.process(batch(one_run(one, [2, 1]))))) == []
    assert plain(list(fn.process(batch(one_run(one, [0]), one_run(two))))) == [
        row(0, 1),
        row(1, 2),
        row(2, 1),
    ]


def test_a_row_a_chunk() -> None:
    doc = document(0, "abcdef", source="f", position=9)
    window = chunks((doc, [("abcd", 5), ("cdef", 6)]), (document(1, "x"), [("x", 1)]))
    vectors = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    (got,) = run(merge_fn("chunks", keep_payload=True), [EmbeddedBatch((one_run(window),), vectors, {})])
    assert rows_of(got) == [
        ("doc0", [1, 2], 5, 0, "abcd", 0, 0, 4),
        ("doc0", [3, 4], 6, 0, "cdef", 1, 2, 6),
        ("doc1", [5, 6], 1, 0, "x", 0, 0, 1),
    ]
    assert got.columns.column("position").to_pylist() == [9, 9, 0]
    assert got.documents == 2


def test_the_text_is_kept_where_it_is_asked_for() -> None:
    window = window_of(2)
    (got,) = run(merge_fn(keep_payload=True), [batch(one_run(window))])
    assert got.payloads.to_pylist() == ["0.0 0.1"]
    (got,) = run(merge_fn(), [batch(one_run(window))])
    assert got.payloads is None
    assert "payload" not in got.columns.schema.names


def test_chunks_of_a_model_that_cannot_count_weigh_their_characters() -> None:
    window = chunks((document(0, "abcd"), [("abc", 1), ("d", 1)]))
    window = dataclasses.replace(window, tokens=None, document_tokens=None, dropped=None)
    vectors = np.array([[4, 0], [0, 8]], np.float32)
    (got,) = run(merge_fn(), [EmbeddedBatch((one_run(window),), vectors, {})])
    assert rows_of(got) == [("doc0", [3, 2], None, None, None, None, None, None)]


@pytest.mark.parametrize("mode", ["mean", "chunks"])
def test_a_document_dies_once_whichever_of_its_chunks_do(mode: str) -> None:
    window = window_of(4, 1)
    elements = [
        batch(one_run(window, [2, 4]), failures={0: REFUSED}),
        batch(one_run(window, [0, 1, 3]), failures={2: ("other", "")}),
    ]
    rows, letters = run(merge_fn(mode), elements)
    assert [r[0] for r in rows_of(rows)] == ["doc1"]
    assert rows.documents == 1
    assert letters.letters == (letter(0, "0.0 0.1 0.2 0.3"),)


def test_a_window_of_which_nothing_is_left() -> None:
    window = window_of(1, 1)
    got = run(merge_fn(), [batch(one_run(window), failures={0: REFUSED, 1: REFUSED})])
    assert plain(got) == [letter(0, "0.0"), letter(1, "1.0")]


def test_letters_of_earlier_steps_pass_at_once() -> None:
    fn = merge_fn()
    fn.setup()
    fn.start_bundle()
    assert list(fn.process(batch(one_run(window_of(2), [0])))) == []
    letters = DeadLetters("s", (DeadLetter("x", "", 0, "read", "blank text"),))
    assert list(fn.process(letters)) == [letters]


def test_the_next_shard_begins_anew() -> None:
    first, second = window_of(2), window_of(1)
    markers = EndOfShard("a", 1), EndOfShard("b", 1)
    got = run(merge_fn(), [batch(one_run(first)), markers[0], batch(one_run(second)), markers[1]])
    assert plain(got) == [row(0, 2), markers[0], row(0, 1), markers[1]]


def test_a_failed_shard_leaves_nothing() -> None:
    failed = ShardFailed("a", "f.gz", None, "truncated")
    elements = [
        batch(one_run(window_of(1, 2), [1])),
        failed,
        batch(one_run(window_of(1))),
        EndOfShard("b", 1),
    ]
    assert plain(run(merge_fn(), elements)) == [failed, row(0, 1), EndOfShard("b", 1)]


TWO = window_of(2)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([batch(one_run(TWO, [0])), EndOfShard("s", 1)], "shard s: 1 chunks were not embedded"),
        ([batch(one_run(TWO, [0])), batch(one_run(TWO, [0]))], "shard s: a chunk was embedded twice"),
        ([batch(one_run(TWO, [1]))], "end of a bundle: 1 chunks were not embedded"),
    ],
)
def test_books_that_do_not_balance(elements: list[Any], message: str) -> None:
    with pytest.raises(LedgerError, match=f"^{message}"):
        run(merge_fn(), elements)


def test_nothing_is_kept_after_a_window() -> None:
    fn = merge_fn()
    fn.setup()
    fn.start_bundle()
    window = window_of(3)
    elements = [batch(one_run(window, [i])) for i in range(3)]
    gone = [weakref.ref(b.vectors) for b in elements]
    del window
    while elements:
        list(fn.process(elements.pop(0)))
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert fn._open == {}


def test_documents_of_a_users_pipeline_keep_their_origins() -> None:
    origin = (3, IntervalWindow(0, 10))
    (got,) = run(
        merge_fn(),
        [EmbeddedBatch((one_run(whole(document(5, origin=origin))),), np.ones((1, 2), np.float32), {})],
    )
    assert [(o.document.doc_id, o.timestamp, o.window) for o in got.origins] == [("doc5", *origin)]
