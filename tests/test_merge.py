import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from apache_beam.transforms.window import IntervalWindow
from fakes import chunk, document, finish, run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transforms.elements import Chunk, DeadLetter, EmbeddedBatch, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.steps.merge import _MergeFn, merge_vectors, rows_of

floats = st.floats(-100, 100, width=32)


@given(
    vectors=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=floats),
    data=st.data(),
)
def test_merge_is_the_weighted_mean(vectors: np.ndarray, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 512), min_size=len(vectors), max_size=len(vectors)))
    wide = vectors.astype(np.float64)
    reference = (wide * np.array(weights)[:, None]).sum(axis=0) / sum(weights)
    got = merge_vectors(vectors, weights)
    assert got.dtype == np.float32
    if not np.allclose(np.linalg.norm(wide, axis=1), 1, atol=2e-3):
        np.testing.assert_allclose(got, reference, rtol=1e-6, atol=1e-6)


@given(
    angles=st.lists(st.floats(0, 1.5), min_size=1, max_size=6),
    data=st.data(),
)
def test_vectors_of_unit_length_give_one_of_unit_length(angles: list[float], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 512), min_size=len(angles), max_size=len(angles)))
    vectors = np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)
    mean = np.average(vectors.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(merge_vectors(vectors, weights), mean / np.linalg.norm(mean), atol=1e-6)


def test_opposite_unit_vectors_have_no_direction() -> None:
    assert merge_vectors(np.array([[1, 0], [-1, 0]], np.float32), [1, 1]).tolist() == [0, 0]


def test_weights_of_zero() -> None:
    assert merge_vectors(np.array([[2, 0], [0, 4]], np.float32), [0, 0]).tolist() == [1, 2]


def chunks_of(index: int, count: int, **fields: Any) -> list[Chunk]:
    doc = document(index, f"text of {index}", **fields)
    return [chunk(doc, number=n, count=count, cost=n + 1, text=f"{index}.{n}") for n in range(count)]


def vector(c: Chunk) -> np.ndarray:
    return np.array([c.document.index * 10 + 2, c.number * 7 + 2], np.float32)


def batch(chunks: Sequence[Chunk]) -> EmbeddedBatch:
    return EmbeddedBatch(tuple(chunks), np.stack([vector(c) for c in chunks]))


def row(chunks: Sequence[Chunk]) -> tuple[Any, ...]:
    """The merged row by hand; weights are the chunks' tokens, 1, 2, 3, ..."""
    weights = np.arange(1, len(chunks) + 1, dtype=np.float64)
    mean = np.average(np.stack([vector(c) for c in chunks]).astype(np.float64), axis=0, weights=weights)
    tokens, dropped = chunks[0].document_tokens, chunks[0].dropped
    return (
        chunks[0].document.doc_id,
        mean.astype(np.float32).tolist(),
        tokens,
        dropped,
        None,
        None,
        None,
        True,
    )


def plain(elements: Sequence[Any]) -> list[Any]:
    return [
        e
        if isinstance(e, (DeadLetter, EndOfShard, ShardFailed))
        else (e.doc_id, e.vector.tolist(), e.tokens, e.tokens_dropped, e.chunk, e.start, e.end, e.last)
        for e in elements
    ]


def letter(index: int) -> DeadLetter:
    return DeadLetter(f"doc{index}", "", 0, "embed", "refused", index=index)


@given(counts=st.lists(st.integers(1, 4), max_size=8), data=st.data())
def test_input_order_whatever_order_the_chunks_come_in(counts: list[int], data: st.DataObject) -> None:
    documents = [chunks_of(i, count) for i, count in enumerate(counts)]
    arriving = data.draw(st.permutations([c for chunks in documents for c in chunks]))
    batches = []
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        batches.append(batch(arriving[:size]))
        arriving = arriving[size:]
    marker = EndOfShard("s", len(counts))
    got = run(_MergeFn("mean", ordered=True), [*batches, marker])
    assert plain(got) == [*(row(chunks) for chunks in documents), marker]


def test_rows_come_as_soon_as_their_turn_is_there() -> None:
    fn = _MergeFn("mean", ordered=True)
    fn.start_bundle()
    (a,), b, (c,) = chunks_of(0, 1), chunks_of(1, 2), chunks_of(2, 1)
    assert plain(list(fn.process(batch([c, b[1]])))) == []
    assert plain(list(fn.process(batch([a])))) == [row([a])]
    assert plain(list(fn.process(batch([b[0]])))) == [row(b), row([c])]


def test_a_row_a_chunk() -> None:
    chunks = [Chunk(document(0, "abcdef"), i, 2, i * 2, i * 2 + 4, "", 5 + i, 9, 0, 1) for i in range(2)]
    rows = rows_of(chunks, np.array([[1, 2], [3, 4]], np.float32), "chunks")
    assert plain(rows) == [
        ("doc0", [1, 2], 5, 0, 0, 0, 4, False),
        ("doc0", [3, 4], 6, 0, 1, 2, 6, True),
    ]


def test_chunks_of_a_model_that_cannot_count_weigh_their_characters() -> None:
    doc = document(0, "abcd")
    chunks = [Chunk(doc, i, 2, 0, 0, text, None, None, None, 1) for i, text in enumerate(["abc", "d"])]
    (got,) = rows_of(chunks, np.array([[4, 0], [0, 8]], np.float32), "mean")
    assert plain([got]) == [("doc0", [3, 2], None, None, None, None, None, True)]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_document_dies_once_whichever_of_its_chunks_do(ordered: bool) -> None:
    dying, good = chunks_of(0, 4), chunks_of(1, 2)
    elements = [
        batch([dying[0], good[0]]),
        letter(0),
        batch([dying[2]]),
        letter(0),
        batch([good[1], dying[3]]),
    ]
    assert plain(run(_MergeFn("mean", ordered), elements)) == [letter(0), row(good)]


def test_the_next_shard_begins_anew() -> None:
    first, second = chunks_of(0, 2, shard_id="a"), chunks_of(0, 1, shard_id="b")
    markers = EndOfShard("a", 2), EndOfShard("b", 1)
    elements = [batch(first), letter(1), markers[0], batch(second), markers[1]]
    got = run(_MergeFn("mean", ordered=True), elements)
    assert plain(got) == [row(first), letter(1), markers[0], row(second), markers[1]]


def test_a_failed_shard_leaves_nothing() -> None:
    failed = ShardFailed("a", "f.gz", None, "truncated")
    second = chunks_of(0, 1)
    elements = [batch(chunks_of(1, 2)[:1]), failed, batch(second), EndOfShard("b", 1)]
    got = run(_MergeFn("mean", ordered=True), elements)
    assert plain(got) == [failed, row(second), EndOfShard("b", 1)]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([batch(chunks_of(0, 1)), EndOfShard("s", 2)], "shard s: 2 documents read, 1 merged"),
        ([batch(chunks_of(0, 2)[:1]), EndOfShard("s", 1)], "shard s: 1 documents read, 0 merged"),
        ([batch(chunks_of(1, 1)), EndOfShard("s", 1)], "shard s: 1 documents read, 0 merged"),
        ([batch(chunks_of(0, 1)), EndOfShard("s", 0)], "shard s: 0 documents read, 1 merged"),
        ([batch(chunks_of(0, 1) * 2)], "document 'doc0': one of its chunks came twice"),
        ([batch(chunks_of(0, 1)), batch(chunks_of(0, 1))], "document 'doc0': one of its chunks came twice"),
        ([batch(chunks_of(0, 2)[:1])], "1 documents were not whole at the end of a bundle"),
        ([batch(chunks_of(1, 1))], "1 documents were not whole at the end of a bundle"),
    ],
)
def test_books_that_do_not_balance(elements: list[Any], message: str) -> None:
    with pytest.raises(LedgerError, match=f"^{message}"):
        run(_MergeFn("mean", ordered=True), elements)


def test_nothing_is_kept_after_a_shard() -> None:
    fn = _MergeFn("mean", ordered=True)
    fn.start_bundle()
    mini_batches = [batch([c]) for c in chunks_of(0, 3)]
    gone = [weakref.ref(b.vectors) for b in mini_batches]
    elements = [*mini_batches, letter(1), EndOfShard("s", 2)]
    del mini_batches
    while elements:
        list(fn.process(elements.pop(0)))
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    held = {name: value for name, value in vars(fn).items() if isinstance(value, (dict, set))}
    assert held == {"_parts": {}, "_dead": set(), "_ready": {}}


def test_what_is_whole_at_the_end_of_a_bundle_keeps_its_window() -> None:
    fn = _MergeFn("mean", ordered=False)
    fn.start_bundle()
    origin = (3, IntervalWindow(0, 10))
    (one,) = chunks_of(5, 1, origin=origin)
    fn._add(one, vector(one))
    (value,) = finish(fn)
    assert plain([value.value]) == [row([one])]
    assert (value.timestamp.micros / 1e6, value.windows) == (3, (origin[1],))
