"""sample_rows: any row as likely as another, the same rows for a seed, and of Parquet only what is needed."""

import numpy as np
import outputs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import clouds, write_output
from transforms.errors import UsageError
from transforms.output.reader import open_output
from transforms.output.sample import CHARACTERS, sample_rows


@pytest.fixture(scope="module", params=["parquet", "tfrecord"])
def output(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "out"
    write_output(
        str(path), clouds(1000, 8, shards=3), dim=8, kept=[["kind", "int64"]], output_format=request.param
    )
    return open_output(str(path))


def all_rows(output):
    return [row for block in output.rows(["doc_id", "kind", "embedding"]) for row in block.to_pylist()]


@settings(max_examples=20)
@given(count=st.integers(0, 1100), seed=st.integers(0, 2**32))
def test_rows_of_the_output_in_its_order(output, count, seed):
    rows = sample_rows(output, count, seed, ["doc_id", "kind", "embedding"]).to_pylist()
    by_id = {row["doc_id"]: i for i, row in enumerate(all_rows(output))}
    places = [by_id[row["doc_id"]] for row in rows]
    assert len(places) == min(count, 1000)
    assert places == sorted(set(places))
    every = all_rows(output)
    assert rows == [every[place] for place in places]
    again = sample_rows(output, count, seed, ["doc_id", "kind", "embedding"])
    assert again.to_pylist() == rows


def test_each_row_is_as_likely_as_another(output):
    """Of 400 samples of a tenth each row is in 40, give or take: five standard deviations are 30."""
    counts = {row["doc_id"]: 0 for row in all_rows(output)}
    for seed in range(400):
        for doc_id in sample_rows(output, 100, seed, ["doc_id"])["doc_id"].to_pylist():
            counts[doc_id] += 1
    assert sum(counts.values()) == 40_000
    assert 10 < min(counts.values()) <= max(counts.values()) < 70
    assert np.std(list(counts.values())) == pytest.approx(6, abs=1)


def test_only_row_groups_that_hold_a_row_are_read(tmp_path, monkeypatch):
    path = tmp_path / "out"
    made = outputs.make(path, shards=2, per_shard=40)
    for receipt in open_output(str(path)).receipts:
        table = pq.read_table(path / receipt.part)
        pq.write_table(table, path / receipt.part, row_group_size=4)
    read = []
    iterate = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **kwargs: read.append(kwargs["row_groups"]) or iterate(self, *args, **kwargs),
    )
    (row,) = sample_rows(open_output(str(path)), 1, 7, ["doc_id"]).to_pylist()
    place = [one.doc_id for shard in made.shards for one in made.rows[shard]].index(row["doc_id"])
    assert read == [[place % 40 // 4]]


def test_a_column_that_is_not_there(output):
    with pytest.raises(UsageError, match="no column 'nose'; there are doc_id, embedding"):
        sample_rows(output, 5, 0, ["nose"])


@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_of_long_texts_the_beginning(tmp_path, kind):
    texts = ["é" * (CHARACTERS + 5), "short", "x" * CHARACTERS]
    rows = {"doc_id": ["i" * 5000, "b", "c"], "vectors": np.eye(3), "text": texts, "title": texts}
    head = {"dim": 3, "keep_text": True, "kept": [["title", "string"]], "output_format": kind}
    write_output(str(tmp_path / "out"), [[rows]], **head)
    found = sample_rows(open_output(str(tmp_path / "out")), 3, 0, ["doc_id", "text", "title"]).to_pydict()
    cut = [text[:CHARACTERS] for text in texts]
    assert found == {"doc_id": rows["doc_id"], "text": cut, "title": cut}
