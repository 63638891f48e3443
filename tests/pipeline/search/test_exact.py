"""Exact search: what it finds is what sorting all rows gives, whatever the blocks, the format or the type."""

import itertools
import unittest.mock

import numpy as np
import outputs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search import exact
from pipeline.search.exact import Best, nearest, parts_of, unit
from transforms.output.reader import open_output


def sorted_rows(scores, k):
    """Places and scores by plain sorting, equal ones in the order of the rows."""
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(scores, places, axis=1)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=40),
    st.integers(1, 6),
    st.lists(st.integers(1, 9), min_size=1),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_blocks_in_any_order_give_what_sorting_gives(rows, k, sizes, lanes, random):
    scores = np.array(rows, np.float32).T  # three questions; few values, so many are equal
    ends = itertools.takewhile(lambda end: end < len(rows), itertools.accumulate(itertools.cycle(sizes)))
    bounds = [0, *ends, len(rows)]
    blocks = list(itertools.pairwise(bounds))
    random.shuffle(blocks)
    bests = [Best(3, k) for _ in range(lanes)]
    with unittest.mock.patch.object(exact, "_RUN", 4):
        for low, high in blocks:
            best = random.choice(bests)
            best.add(scores[:2, low:high], np.arange(low, high))
            best.add(scores[2:, low:high], np.arange(low, high), 2)
    best = Best.of(bests)
    places, values = sorted_rows(scores, k)
    assert best.places[:, : len(rows)].tolist() == places.tolist()
    assert best.scores[:, : len(rows)].tolist() == values.tolist()
    assert (best.places[:, len(rows) :] == -1).all()


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("form", ["parquet", "tfrecord"])
def test_as_sorting_all_rows(tmp_path, monkeypatch, kind, form):
    monkeypatch.setattr(exact, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(exact, "TILE", 3)
    outputs.make(tmp_path / "out", dim=8, vector_dtype=kind, output_format=form)
    output = open_output(str(tmp_path / "out"))
    rows = np.concatenate([vectors for _, vectors in output.vectors()])
    questions = np.random.default_rng(9).standard_normal((10, 8)).astype(np.float32)
    for metric, scores in {
        "cosine": unit(questions) @ unit(rows).T,
        "dot": questions @ rows.T,
    }.items():
        best = nearest(output, questions, 11, metric=metric)
        expected = np.take_along_axis(scores, best.places, axis=1)
        np.testing.assert_allclose(best.scores, expected, atol=1e-5)
        np.testing.assert_allclose(best.scores, sorted_rows(scores, 11)[1], atol=1e-5)
        assert all(len(set(places)) == 11 for places in best.places.tolist())


def test_parts_and_masks(tmp_path):
    made = outputs.make(tmp_path / "out", shards=4, per_shard=5)
    output = open_output(str(made.path))
    parts = parts_of(output)
    assert [(part.first, part.rows) for part in parts] == [(0, 5), (5, 5), (10, 5), (15, 5)]
    told = []
    best = nearest(
        output,
        np.ones((1, 3), np.float32),
        20,
        keep=lambda part: np.arange(part.rows) == part.first // 5 if part.first else np.zeros(5, bool),
        seen=told.append,
    )
    assert sorted(best.places[0].tolist()) == [-1] * 17 + [6, 12, 18]
    assert sum(told) == 20
    only = nearest(output, np.ones((1, 3), np.float32), 5, parts=parts[2:3])
    assert sorted(only.places[0].tolist()) == [10, 11, 12, 13, 14]


def test_vectors_of_length_zero_are_like_nothing():
    assert unit(np.array([[0.0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
    ]


def test_without_own_rows():
    best = Best(2, 3)
    best.scores[:], best.places[:] = [[3, 2, 1], [3, 2, 1]], [[0, 4, 5], [6, 7, 8]]
    left = best.without(np.array([[0], [1]]), 2)
    assert left.places.tolist() == [[4, 5], [6, 7]]
    assert left.scores.tolist() == [[2, 1], [3, 2]]
    same = best.without(np.array([4, 6, 8]), 2)  # all rows of one document
    assert same.places[0].tolist() == [0, 5]
    assert same.places[1, 0] == 7


def test_reading_ahead_ends_with_who_reads(tmp_path):
    """Who stops in the middle leaves no thread behind; an error of a thread comes out where it is read."""
    import threading

    from transforms.errors import EmbedbeamError

    made = outputs.make(tmp_path / "out", shards=4)
    output = open_output(str(made.path))
    blocks = exact.blocks_of(output, "cosine")
    next(blocks)
    blocks.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("embedbeam reads")]
    (made.path / parts_of(output)[2].name).write_bytes(b"no Parquet")
    with pytest.raises((EmbedbeamError, OSError, ValueError)):
        nearest(output, np.ones((1, 3), np.float32), 2)
