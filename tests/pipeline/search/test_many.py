"""Many questions: a scan of the parts, merged block by block, is what one search over all rows finds."""

import argparse

import numpy as np
import outputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam import Pipeline
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.run.screen import Screen
from pipeline.scan.steps import build_scan
from pipeline.scan.work import Scan
from pipeline.search import many, queries
from pipeline.search.exact import nearest
from pipeline.search.many import Nearest, answer
from pipeline.search.queries import Queries, find_queries
from transforms.errors import UsageError
from transforms.output.reader import open_output


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    made = outputs.make(tmp_path_factory.mktemp("many") / "out", shards=4, per_shard=25, dim=4)
    return open_output(str(made.path))


@pytest.fixture
def args(monkeypatch):
    monkeypatch.setattr(many, "QUESTIONS", 8)  # so that there are several blocks of questions
    given = argparse.Namespace(
        k=3, metric="cosine", filter=None, index=False, index_folder=None, screen=Screen(quiet=True)
    )
    vars(given).update(runner="DirectRunner", shared_filesystem=False, beam_args=[])
    yield given
    given.screen.close()


@pytest.fixture
def asked(tmp_path):
    vectors = np.random.default_rng(3).standard_normal((30, 4)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    pq.write_table(
        pa.table({"id": [f"q{i}" for i in range(30)], "embedding": column}), tmp_path / "q.parquet"
    )
    return tmp_path / "q.parquet", vectors


def expected(output, ids, best):
    names = [name for block, _ in output.vectors() for name in block]
    return [
        {
            "query_id": one,
            "rank": rank,
            "doc_id": names[place],
            "score": pytest.approx(float(score), abs=1e-6),
        }
        for one, places, scores in zip(ids, best.places, best.scores, strict=True)
        for rank, (place, score) in enumerate(zip(places, scores, strict=True), 1)
    ]


def test_vectors_of_a_file(output, args, asked, tmp_path):
    path, vectors = asked
    found = find_queries(output, str(path), str(tmp_path / "to"), args)
    record = answer(output, found, str(tmp_path / "to"), args, name="search")
    assert (record["questions"], record["rows"]) == (30, 90)
    rows = pq.read_table(tmp_path / "to").to_pylist()
    assert rows == expected(output, [f"q{i}" for i in range(30)], nearest(output, vectors, 3))
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["nearest.parquet"]


def test_a_run_that_was_killed_is_gone_on_with(output, args, asked, tmp_path, monkeypatch):
    path, vectors = asked
    found, to = find_queries(output, str(path), "", args), tmp_path / "to"
    part, done = Nearest.part, []

    def fails(self, output, name):
        done.append(name)
        if len(done) == 3:
            raise KeyboardInterrupt
        return part(self, output, name)

    monkeypatch.setattr(Nearest, "part", fails)
    with pytest.raises(KeyboardInterrupt):
        answer(output, found, str(to), args, name="search")
    answer(output, found, str(to), args, name="search")
    assert done[2:4] == [done[2]] * 2  # the third again, and the fourth
    assert len(done) == 5
    rows = pq.read_table(to / "nearest.parquet").to_pylist()
    assert rows == expected(output, [f"q{i}" for i in range(30)], nearest(output, vectors, 3))


def test_all_rows_besides_themselves(output, args, tmp_path):
    rows = Queries(output.folder.path, output.plan.job, output.dim)
    answer(output, rows, str(tmp_path), args, name="neighbors", own=True)
    found = pq.read_table(tmp_path / "nearest.parquet").to_pylist()
    ids, vectors = zip(*output.vectors(), strict=True)
    names = [name for block in ids for name in block]
    best = nearest(output, np.concatenate(vectors), 4)
    assert best.places[:, 0].tolist() == list(range(100))  # each is nearest to itself
    best.places, best.scores = best.places[:, 1:], best.scores[:, 1:]
    assert found == expected(output, names, best)

    args.index = True
    answer(output, rows, str(tmp_path), args, name="neighbors", own=True)
    by_index = pq.read_table(tmp_path / "nearest.parquet").to_pylist()
    assert not [row for row in by_index if row["query_id"] == row["doc_id"]]
    pairs = [{(row["query_id"], row["doc_id"]) for row in rows} for rows in (found, by_index)]
    assert len(pairs[0] & pairs[1]) / len(pairs[0]) >= 0.9


def test_as_a_beam_job(output, asked, tmp_path):
    path, _ = asked
    work = Nearest(Queries(str(path), None, 4), 3, "cosine", "doc_id LIKE '%7'", "search")
    scan = Scan(output.folder.path, output.plan.job, str(tmp_path / "to"), work)
    with Pipeline(runner=FnApiRunner()) as root:
        build_scan(root, scan, scan.left(output.receipts))
    assert scan.left(output.receipts) == []
    table = pq.read_table(tmp_path / "to" / f"part-{output.receipts[1].shard_id}.parquet")
    places = [one[0] for one in table.column("places").to_pylist()]
    assert set(places) <= {32, 42}  # of the second part: rows 7 and 17
    assert len(places) == 30
    assert {one[2] for one in table.column("places").to_pylist()} == {-1}


def test_any_list_of_numbers_is_a_vector(output, args, tmp_path):
    path = str(tmp_path / "v.parquet")
    pq.write_table(pa.table({"embedding": [[1.0, 0, 0, 0], [0, 1, 0, 0]]}), path)
    [(ids, vectors)] = find_queries(output, path, "", args).blocks(10)
    assert ids.to_pylist() == ["0", "1"]
    assert vectors.tolist() == np.eye(4)[:2].tolist()
    for wrong in ([[1.0, 2.0]], [[1.0, 2, 3, 4], None]):
        pq.write_table(pa.table({"embedding": pa.array(wrong, pa.list_(pa.float64()))}), path)
        with pytest.raises(UsageError, match="a vector has not 4 numbers"):
            list(find_queries(output, path, "", args).blocks(10))
    pq.write_table(pa.table({"embedding": [[1.0, 2, 3, float("nan")]]}), path)
    with pytest.raises(UsageError, match="holds NaN"):
        list(find_queries(output, path, "", args).blocks(10))
    pq.write_table(pa.table({"embedding": ["text"]}), path)
    with pytest.raises(UsageError, match="its column embedding is string; expected lists of numbers"):
        find_queries(output, path, "", args)


def test_another_jobs_rows(output, args, tmp_path):
    """The rows of another output are questions, too, if the same model made them."""
    same = outputs.make(tmp_path / "same", shards=1, per_shard=5, dim=4)
    found = find_queries(output, str(same.path), "", args)
    assert (found.job, sum(len(ids) for ids, _ in found.blocks(2))) == (same.job, 5)
    other = outputs.make(tmp_path / "other", shards=1, dim=4, model="x", model_digest="1" * 64)
    with pytest.raises(
        UsageError, match=r"of x \(digest 1{16}…\), and .* of m \(digest 0{16}…\): they cannot be"
    ):
        find_queries(output, str(other.path), "", args)
    part = outputs.make(tmp_path / "part", shards=2, dim=4, leave=1)
    with pytest.raises(UsageError, match="has not finished"):
        find_queries(output, str(part.path), "", args)


def test_blocks_of_a_size(output):
    rows = Queries(output.folder.path, output.plan.job, output.dim)
    blocks = list(rows.blocks(30))
    assert [len(ids) for ids, _ in blocks] == [30, 30, 30, 10]
    whole = [name for block, _ in output.vectors() for name in block]
    assert [name for ids, _ in blocks for name in ids.to_pylist()] == whole
    assert queries.QUERIES == "_queries"
