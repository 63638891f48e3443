"""Which rows of each class are kept for windows that lack them, and how they are read."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic import clouds, write_output
from pipeline.training.balance import choose_reserve
from pipeline.training.order import Piece, around
from pipeline.training.reading import FAR, read_pieces
from pipeline.training.sources import OutputSource
from transforms.output.reader import open_output

SEEDS = st.integers(0, 2**32 - 1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.integers(1, 5), st.data())
def test_pieces_have_the_places_and_few_rows_more(parts, gap, data):
    total = sum(parts)
    some = data.draw(st.lists(st.integers(0, total - 1), unique=True, min_size=1, max_size=total))
    places = np.array(sorted(some), np.int64)
    pieces, own = around(parts, places, gap)
    starts = np.cumsum([0, *parts])
    rows = np.concatenate([np.empty(0, int), *(starts[p.part] + np.arange(p.low, p.high) for p in pieces)])
    assert rows[own].tolist() == places.tolist()
    assert all(0 <= piece.low < piece.high <= parts[piece.part] for piece in pieces)
    left_out = np.setdiff1d(rows, places)
    assert all(np.abs(places - row).min() < gap for row in left_out)
    assert list(pieces) == sorted(pieces)


@given(
    st.lists(st.integers(-1, 3), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(0),
)
def test_of_each_class_as_many_as_are_wanted_or_all(codes, each, run, seed):
    codes = np.array(codes, np.int32)
    places = choose_reserve(codes, 4, each, np.random.default_rng(seed), run)
    assert (np.diff(places) > 0).all()
    for code in range(4):
        assert (codes[places] == code).sum() == min(each, (codes == code).sum())
    assert (codes[places] >= 0).all()


def test_a_frequent_class_is_taken_from_few_runs_and_rows_of_even_runs_are_as_likely():
    codes = np.arange(1000) % 2
    drawn = [choose_reserve(codes, 2, 20, np.random.default_rng(seed), 50) for seed in range(500)]
    assert all(len(np.unique(places // 50)) == 1 for places in drawn)
    runs = np.bincount(np.concatenate(drawn) // 50, minlength=20)
    assert 400 < runs.min() <= runs.max() < 1800  # 1,000 each
    within = np.bincount(np.concatenate(drawn) % 50, minlength=50)
    assert 320 < within.min() <= within.max() < 480  # 400 each


def test_a_part_is_opened_again_behind_rows_that_nobody_wants(tmp_path, monkeypatch):
    write_output(str(tmp_path / "out"), clouds(40_000, 4, shards=2), dim=4, kept=[["kind", "int64"]])
    output = open_output(str(tmp_path / "out"))
    source = OutputSource(output, ["embedding", "doc_id"])
    opened = []
    read = source.read
    monkeypatch.setattr(source, "read", lambda part, first: opened.append(first) or read(part, first))
    rows = source.parts[0]
    pieces = [Piece(0, 10, 20), Piece(0, 30, 40), Piece(0, rows - 5, rows)]
    assert rows - 5 - 40 > FAR
    found = [block["doc_id"].to_pylist() for block in read_pieces(source, pieces, streams=2, ahead=2)]
    blocks = output.part(output.receipts[0].part, ["doc_id"])
    ids = [doc_id for block in blocks for doc_id in block.column(0).to_pylist()]
    assert [*itertools.chain(*found)] == ids[10:20] + ids[30:40] + ids[-5:]
    assert opened == [10, rows - 5]
