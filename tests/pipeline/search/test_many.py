"""Many questions: a scan of the parts, merged block by block, is what one search over all rows finds."""

import argparse
import shutil

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
from pipeline.search import many
from pipeline.search.exact import nearest
from pipeline.search.many import Nearest, answer
from pipeline.search.queries import Queries, find_queries, queries_of
from transforms.errors import JobFailed, UsageError
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
    record = answer(output, lambda: found, str(tmp_path / "to"), args, name="search")
    assert (record["questions"], record["rows"]) == (30, 90)
    rows = pq.read_table(tmp_path / "to").to_pylist()
    assert rows == expected(output, [f"q{i}" for i in range(30)], nearest(output, vectors, 3))
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["nearest.parquet"]


def test_a_run_that_was_killed_is_gone_on_with(output, args, asked, tmp_path, monkeypatch):
    path, vectors = asked
    found, to = find_queries(output, str(path), "", args), tmp_path / "to"
    done = killed(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        answer(output, lambda: found, str(to), args, name="search")
    answer(output, lambda: found, str(to), args, name="search")
    assert done[2:4] == [done[2]] * 2  # the third again, and the fourth
    assert len(done) == 5
    rows = pq.read_table(to / "nearest.parquet").to_pylist()
    assert rows == expected(output, [f"q{i}" for i in range(30)], nearest(output, vectors, 3))


def killed(monkeypatch, at):
    """From here on a search stops at this part; the parts that were begun."""
    part, done = Nearest.part, []

    def fails(self, output, name):
        done.append(name)
        if len(done) == at:
            raise KeyboardInterrupt
        return part(self, output, name)

    monkeypatch.setattr(Nearest, "part", fails)
    return done


def test_other_questions_after_a_kill(output, args, asked, tmp_path, monkeypatch):
    path, vectors = asked
    to = str(tmp_path / "to")
    killed(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        answer(output, lambda: find_queries(output, str(path), to, args), to, args, name="search")
    table = pq.read_table(path)
    flat = pa.array((-vectors).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, 4)
    pq.write_table(table.set_column(1, "embedding", column), path)
    answer(output, lambda: find_queries(output, str(path), to, args), to, args, name="search")
    rows = pq.read_table(to).to_pylist()
    assert rows == expected(output, [f"q{i}" for i in range(30)], nearest(output, -vectors, 3))


@pytest.mark.parametrize("own", [False, True])
def test_rows_that_came_after_a_kill(output, args, asked, tmp_path, monkeypatch, own):
    """The shard that was missing is the first: places of all other rows were others before."""
    path = tmp_path / "out"
    shutil.copytree(output.folder.path, path)
    receipt = path / "_embedbeam" / "receipts" / f"{output.receipts[0].shard_id}.json"
    receipt.rename(tmp_path / "receipt")
    killed(monkeypatch, at=3)
    to = str(tmp_path / "to")

    def search():
        there = open_output(str(path))
        find = (lambda: queries_of(there)) if own else lambda: find_queries(there, str(asked[0]), to, args)
        answer(there, find, to, args, name="search", own=own)
        return there

    with pytest.raises(KeyboardInterrupt):
        search()
    (tmp_path / "receipt").rename(receipt)
    whole = search()
    if own:
        ids = [name for block, _ in whole.vectors() for name in block]
        vectors = np.concatenate([some for _, some in whole.vectors()])
        best = nearest(whole, vectors, 4).without(np.arange(100)[:, np.newaxis], 3)
    else:
        ids, best = [f"q{i}" for i in range(30)], nearest(whole, asked[1], 3)
    assert pq.read_table(to).to_pylist() == expected(whole, ids, best)


def test_folders_that_hold_something_else(output, args, asked, tmp_path):
    """Only what a search made is deleted at its end."""
    find = lambda to: lambda: find_queries(output, str(asked[0]), to, args)  # noqa: E731
    work, labels = tmp_path / "work", tmp_path / "labels"
    outputs.make(work / "_queries", shards=1)
    (labels / "_embedbeam").mkdir(parents=True)
    (labels / "_embedbeam" / "scan.json").write_text("{}")
    for args.index in (False, True):
        for folder, name in ((work, "_queries"), (labels, "_embedbeam/scan.json")):
            with pytest.raises(UsageError, match=f"holds what no search made, e.g. {name}; choose another"):
                answer(output, find(str(folder)), str(folder), args, name="search")
    assert open_output(str(work / "_queries")).count == 20
    assert [one.name for one in labels.rglob("*.json")] == ["scan.json"]
    assert not (work / "_embedbeam").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file: is a file; expected a folder"):
        answer(output, find(""), str(tmp_path / "file"), args, name="search")


def test_a_second_search_is_kept_out_until_the_end(output, args, asked, tmp_path, monkeypatch):
    to, write = str(tmp_path / "to"), many._write

    def second(*given, **more):
        with pytest.raises(JobFailed, match="another embedbeam is writing to it"):
            answer(output, lambda: queries_of(output), to, args, name="search")
        return write(*given, **more)

    monkeypatch.setattr(many, "_write", second)
    record = answer(output, lambda: find_queries(output, str(asked[0]), to, args), to, args, name="search")
    assert record["rows"] == 90


def test_workers_must_see_the_questions(output, args, asked, tmp_path, monkeypatch):
    from pipeline.scan import run

    def prepare(options):
        raise UsageError(" ".join(options.input))

    monkeypatch.setattr(run, "prepare", prepare)
    with pytest.raises(UsageError, match=f"^{output.folder.path} {asked[0]}$"):
        answer(
            output,
            lambda: find_queries(output, str(asked[0]), "", args),
            str(tmp_path / "to"),
            args,
            name="x",
        )
    assert not (tmp_path / "to").exists()


def test_all_rows_besides_themselves(output, args, tmp_path):
    rows = queries_of(output)
    answer(output, lambda: rows, str(tmp_path), args, name="neighbors", own=True)
    found = pq.read_table(tmp_path / "nearest.parquet").to_pylist()
    ids, vectors = zip(*output.vectors(), strict=True)
    names = [name for block in ids for name in block]
    best = nearest(output, np.concatenate(vectors), 4)
    assert best.places[:, 0].tolist() == list(range(100))  # each is nearest to itself
    best.places, best.scores = best.places[:, 1:], best.scores[:, 1:]
    assert found == expected(output, names, best)

    args.index = True
    answer(output, lambda: rows, str(tmp_path), args, name="neighbors", own=True)
    by_index = pq.read_table(tmp_path / "nearest.parquet").to_pylist()
    assert not [row for row in by_index if row["query_id"] == row["doc_id"]]
    pairs = [{(row["query_id"], row["doc_id"]) for row in rows} for rows in (found, by_index)]
    assert len(pairs[0] & pairs[1]) / len(pairs[0]) >= 0.9


def test_as_a_beam_job(output, asked, tmp_path):
    path, _ = asked
    work = Nearest(Queries(str(path), None, 4, ""), 3, "cosine", "doc_id LIKE '%7'", "search")
    scan = Scan(output.folder.path, output.plan.job, "", str(tmp_path / "to"), work)
    with Pipeline(runner=FnApiRunner()) as root:
        build_scan(root, scan, scan.left(output.receipts))
    assert scan.left(output.receipts) == []
    table = pq.read_table(tmp_path / "to" / f"part-{output.receipts[1].shard_id}.parquet")
    places = [one[0] for one in table.column("places").to_pylist()]
    assert set(places) <= {7, 17}  # counted in the part
    assert len(places) == 30
    assert {one[2] for one in table.column("places").to_pylist()} == {-1}


def test_any_list_of_numbers_is_a_vector(output, args, tmp_path):
    path = str(tmp_path / "v.parquet")
    pq.write_table(pa.table({"embedding": [[1.0, 0, 0, 0], [0, 1, 0, 0]]}), path)
    [(ids, vectors)] = find_queries(output, path, "", args).blocks(10)
    assert ids.to_pylist() == ["0", "1"]
    assert vectors.tolist() == np.eye(4)[:2].tolist()
    for wrong in ([["a", "b", "c", "d"]], [[[1.0], [2.0], [3.0], [4.0]]]):
        pq.write_table(pa.table({"embedding": wrong}), path)
        with pytest.raises(UsageError, match=r"its column embedding is list<.*>; expected lists of numbers"):
            find_queries(output, path, "", args)
    pq.write_table(pa.table({"embedding": [[1.0, 2, 3, 4]], "id": [{"a": 1}]}), path)
    with pytest.raises(UsageError, match="its ids are struct<a: int64>; expected text or numbers"):
        find_queries(output, path, "", args)
    pq.write_table(pa.table({"embedding": ["text"]}), path)
    with pytest.raises(UsageError, match="its column embedding is string; expected lists of numbers"):
        find_queries(output, path, "", args)


@pytest.mark.parametrize(
    ("vectors", "length", "reason"),
    [
        ([[1.0, 2.0]], -1, "row 1: a vector of 2 numbers; expected 4 numbers"),
        ([[1.0, 2, 3, 4], None], -1, r"row 2: no vector \(null\); expected 4 numbers"),
        ([[1.0, 2, 3, 4]] * 2 + [None], 4, "row 3: its vector is null or damaged"),
        ([[1.0, 2, 3, 4], [1.0, 2, 3, float("nan")]], -1, "row 2: a vector with NaN"),
        ([[1.0, 2, 3, None]], 4, "row 1: a vector with NaN"),
        ([[1.0, 2, 3, 1e300]], -1, "row 1: a vector with NaN, infinity, null or a number too large"),
        ([], 4, "holds no question"),
        ([], -1, "holds no question"),
    ],
)
def test_vectors_that_are_none(output, args, tmp_path, vectors, length, reason):
    """Each is told with its row before anything is made."""
    path, to = str(tmp_path / "v.parquet"), str(tmp_path / "to")
    column = pa.array(vectors, pa.list_(pa.float64(), length))
    pq.write_table(pa.table({"embedding": column}), path, row_group_size=2)
    with pytest.raises(UsageError, match=f"^--queries {path}: {reason}"):
        answer(output, lambda: find_queries(output, path, to, args), to, args, name="search")
    assert not (tmp_path / "to").exists()


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
    rows = queries_of(output)
    blocks = list(rows.blocks(30))
    assert [len(ids) for ids, _ in blocks] == [30, 30, 30, 10]
    whole = [name for block, _ in output.vectors() for name in block]
    assert [name for ids, _ in blocks for name in ids.to_pylist()] == whole
