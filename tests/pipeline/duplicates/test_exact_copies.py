"""Exact copies: each document's owner is the first in the plan's order with the same payload."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.read import Column
from pipeline.options.options import Options
from pipeline.plan.plan import make_plan, read_options
from transforms.modality.text import TEXT
from transforms.output.buckets import Buckets
from transforms.steps.shards import ReadConfig

# A record: a text, or none, which makes a dead letter.
FILES = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d e", None]), max_size=8), min_size=1, max_size=4)


def found(files, folder, **more):
    """Duplicates of texts in so many files; shards are tiny."""
    source = Path(folder) / "in"
    source.mkdir()
    for number, texts in enumerate(files):
        lines = [json.dumps({} if text is None else {"text": text}) + "\n" for text in texts]
        (source / f"{number}.jsonl").write_text("".join(lines))
    options = Options(input=source, output="-", shard_bytes=30)
    plan = make_plan(options)
    (Path(folder) / "spilled").mkdir()
    config = ReadConfig(read_options(options, TEXT))
    return find_duplicates(plan.shards, config, f"{folder}/spilled", **more)


@settings(max_examples=40)
@given(files=FILES)
def test_owners_are_the_first_of_each_text_in_the_order_of_the_plan(files):
    with tempfile.TemporaryDirectory() as folder:
        duplicates = found(files, folder)
        texts = [text for some in files for text in some]
        first: dict[str, int] = {}
        expected = [-1 if text is None else first.setdefault(text, i) for i, text in enumerate(texts)]
        assert duplicates.owners.tolist() == expected
        assert duplicates.similarity.tolist() == [float(text is not None) for text in texts]
        heard = [0]
        for shard in range(len(duplicates.corpus.offsets) - 1):
            for ordinals, block in duplicates.corpus.shard(shard):
                assert [texts[i] for i in ordinals] == block.payloads.to_pylist()
                assert ordinals[0] >= heard[-1]
                heard.append(ordinals[-1])


def test_each_block_is_heard_with_its_ordinals(tmp_path):
    heard = []

    def hear(ordinals, block):
        heard.extend(zip(ordinals.tolist(), block.payloads.to_pylist(), strict=True))

    found([["x", None, "y"], ["x"]], tmp_path, hear=hear)
    assert heard == [(0, "x"), (2, "y"), (3, "x")]


@given(
    rows=st.lists(st.tuples(*[st.integers(0, 2**64 - 1) | st.integers(0, 2)] * 2)), parts=st.integers(1, 3)
)
def test_buckets_give_rows_back_in_order(rows, parts):
    with tempfile.TemporaryDirectory() as folder:
        buckets = Buckets(folder, "rows", 2)
        for part in range(parts):
            some = np.array(rows[part::parts], np.uint64).reshape(-1, 2)
            buckets.add(some[:, 0], some[:, 1])
        assert buckets.count == len(rows)
        given_back = [tuple(row) for block in buckets.in_order() for row in block.T.tolist()]
    assert given_back == sorted(rows)


def test_buckets_spill_what_is_more_than_they_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.output.buckets._HELD", 100)
    buckets, keys = (
        Buckets(str(tmp_path), "rows", 2),
        np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64),
    )
    for some in np.split(keys, 25):
        buckets.add(some, some ^ np.uint64(1))
    assert len(list(tmp_path.iterdir())) > 100
    rows = np.concatenate(list(buckets.in_order()), axis=1)
    assert rows[0].tolist() == sorted(keys.tolist())
    assert np.array_equal(rows[1], rows[0] ^ np.uint64(1))


@given(given=st.dictionaries(st.integers(0, 40), st.integers(1, 99)), more=st.integers(0, 5))
def test_a_column_has_zeros_where_nothing_was_given(given, more):
    ordinals = np.array(sorted(given), np.int64)
    count = (int(ordinals[-1]) + 1 if given else 0) + more
    with tempfile.TemporaryDirectory() as folder:
        column = Column(f"{folder}/numbers")
        for some in np.array_split(ordinals, 3):
            column.add(some, np.array([given[i] for i in some.tolist()], np.int64))
        assert column.done(count).tolist() == [given.get(i, 0) for i in range(count)]
