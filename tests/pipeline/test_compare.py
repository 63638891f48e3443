"""What `compare` measures, held against NumPy; and the real command on jobs of real SavedModels."""

import json
import sys
from pathlib import Path

import jobs
import numpy as np
import outputs
import pyarrow.parquet as pq
import pytest
import rows
import stores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pipeline.compare import compare
from transforms.elements import EndOfShard, Shard, Slice
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.output.reader import open_output, row_schema
from transforms.output.shard import ShardWriter, WriteConfig


def write(path, documents, *, shards=2, **head):
    """An output of documents: id to vectors, of which each is a row (a chunk, if there may be several)."""
    head = outputs.HEAD | {"dim": len(next(iter(documents.values()))[0])} | head
    folder, schema, ids = Folder(str(path)), row_schema(head), [f"{i:016x}" for i in range(shards)]
    planned = [Shard(one, (Slice(f"/in/{one}", one, "jsonl", bytes=100),)) for one in ids]
    folder.create_new(layout.PLAN, plan_file.to_bytes(head, planned))
    job, named = plan_file.job_of(folder) or "", list(documents)
    for number, shard_id in enumerate(ids):
        config = WriteConfig(str(path), job, head["output_format"], schema, {}, head["tfrecord_gzip"])
        writer = ShardWriter(shard_id, folder, config)
        mine = named[number::shards]
        some = [
            rows.Row(one, vector, chunk=chunk, text=f"text of {one}")
            for one in mine
            for chunk, vector in enumerate(documents[one])
        ]
        if some:
            writer.add_rows(rows.block(some, schema, shard_id=shard_id, documents=len(mine)))
        writer.commit(EndOfShard(shard_id, len(mine)))
    outputs.finish(folder, job)
    return open_output(str(path))


def by_hand(old, new, doc_ids, k):
    """Overlap of each of these documents, and Spearman's correlation of their similarities."""
    both = sorted(old.keys() & new.keys())
    found, similar = [], []
    for documents in (old, new):
        means = {one: np.sum(np.asarray(documents[one], np.float32), axis=0) for one in both}
        unit = {one: vector / np.linalg.norm(vector) for one, vector in means.items()}
        near = {}
        for one in doc_ids:
            others = sorted((x for x in both if x != one), key=lambda x: -float(unit[one] @ unit[x]))
            near[one] = set(others[:k])
        found.append(near)
        stacked = np.stack([unit[one] for one in doc_ids])
        similar.append((stacked @ stacked.T)[np.triu_indices(len(doc_ids), 1)])
    overlaps = [len(found[0][one] & found[1][one]) / k for one in doc_ids]
    return overlaps, spearmanr(*similar).statistic if len(similar[0]) > 1 else None


def drawn(seed, names, dim, chunks):
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal((random.integers(1, 5) if chunks else 1, dim)).tolist() for name in names
    }


NAMES = [f"d{i}" for i in range(30)]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.tuples(st.permutations(NAMES), st.permutations(NAMES)),
    sizes=st.tuples(st.integers(20, 30), st.integers(20, 30)),
    chunks=st.tuples(st.booleans(), st.booleans()),
    dims=st.tuples(st.sampled_from([4, 8]), st.sampled_from([4, 8])),
    seed=st.integers(0, 2**32 - 1),
    sample=st.integers(1, 40),
    k=st.integers(1, 5),
    data=st.data(),
)
def test_as_by_hand(tmp_path_factory, names, sizes, chunks, dims, seed, sample, k, data):
    folder, made, opened = tmp_path_factory.mktemp("compare"), [], []
    for i, one in enumerate(names):
        made.append(drawn([seed, i], one[: sizes[i]], dims[i], chunks[i]))
        head = {"long_documents": "chunks"} if chunks[i] else {}
        head["output_format"] = data.draw(st.sampled_from(["parquet", "tfrecord"]))
        opened.append(write(folder / str(i), made[i], **head))
    record = compare(*opened, sample=sample, k=k, seed=seed, to=str(folder / "rows.parquet"))
    both = made[0].keys() & made[1].keys()
    assert record["documents"] == {"old": sizes[0], "new": sizes[1], "both": len(both)}
    table = pq.read_table(folder / "rows.parquet").to_pydict()
    assert len(set(table["doc_id"])) == len(table["doc_id"]) == min(sample, len(both))
    assert set(table["doc_id"]) <= both
    overlaps, correlation = by_hand(*made, table["doc_id"], k)
    assert table["overlap"] == pytest.approx(overlaps)
    assert record["overlap"]["value"] == pytest.approx(np.mean(overlaps), abs=1e-6)
    assert record["rank_correlation"] == (correlation and pytest.approx(correlation, abs=2e-3))
    assert ("cosine" in table) == (dims[0] == dims[1])
    if dims[0] == dims[1]:
        sums = [[np.sum(one[name], axis=0) for name in table["doc_id"]] for one in made]
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(*sums, strict=True)]
        assert table["cosine"] == pytest.approx(cosines, abs=1e-5)
    worst = [one["overlap"] for one in record["worst"]]
    assert worst == pytest.approx(sorted(overlaps)[: len(worst)], abs=1e-6)
    assert compare(*opened, sample=sample, k=k, seed=seed) == {
        name: value for name, value in record.items() if name != "rows"
    }


def test_another_seed_is_another_sample(tmp_path):
    output = write(tmp_path / "out", drawn(1, NAMES, 4, False))
    samples = []
    for seed in (0, 0, 1):
        compare(output, output, sample=10, k=3, seed=seed, to=str(tmp_path / "rows.parquet"))
        samples.append(pq.read_table(tmp_path / "rows.parquet")["doc_id"].to_pylist())
    assert samples[0] == samples[1] != samples[2]


def test_known_pairs(tmp_path):
    """Cosines that are known: 1 became 0, 0 became 1, and 0.6 stayed."""
    old = {"a": [[1, 0]], "b": [[2, 0]], "c": [[0, 1]], "d": [[0.6, 0.8]]}
    new = {"a": [[1, 0]], "b": [[0, 1]], "c": [[3, 0]], "d": [[0.6, 0.8]]}
    opened = [write(tmp_path / name, one) for name, one in (("old", old), ("new", new))]
    pairs = jobs.write_jsonl(tmp_path / "pairs.jsonl", [
        {"doc_id1": one, "doc_id2": other, "score": score}
        for one, other, score in (("a", "b", 3), ("a", "c", 1), ("a", "d", 2), ("a", "gone", 0))
    ])  # fmt: skip
    found = compare(*opened, sample=9, k=1, seed=0, pairs=str(pairs))["pairs"]
    assert (found["pairs"], found["left_out"]) == (3, 1)
    means = [round(one["value"], 4) for one in found["cosine"]["outputs"]]
    assert means == [0.5333, 0.5333]
    assert [one["value"] for one in found["spearman"]["outputs"]] == [1, -1]
    changes = {one["doc_id2"]: (one["old"], one["new"]) for one in found["most_changed"]}
    assert changes == {"b": (1, 0), "c": (0, 1), "d": (pytest.approx(0.6), pytest.approx(0.6))}
    assert found["most_changed"][-1]["doc_id2"] == "d"
    assert (found["change"]["p5"], found["change"]["p50"]) == (pytest.approx(-0.9), pytest.approx(0))


@pytest.fixture(scope="module")
def two(tmp_path_factory, save_model):
    """The outputs of two real models over the same documents; one keeps the text, the other writes chunks."""
    from pipeline import embed

    folder = tmp_path_factory.mktemp("two")
    jobs.write_jsonl(folder / "in.jsonl", [
        {"id": f"d{i}", "text": f"document {i} " + "and more words " * (i % 15)} for i in range(60)
    ])  # fmt: skip
    common = {"input": str(folder / "in.jsonl"), "id_field": "id", "quiet": True}
    embed(**common, output=str(folder / "old"), model=save_model(), keep_text=True)
    embed(**common, output=str(folder / "new"), model=save_model(window=32), long_documents="chunks")
    return folder


def test_the_command(two):
    """As installed, in a fresh process: the figures of the library's function, and the file."""
    script = Path(sys.executable).with_name("embedbeam")
    ask = ["compare", "old", "new", "--sample=20", "--k=5", "--seed=3", "--to=rows.parquet", "--json"]
    done = jobs.run(script, *ask, cwd=two)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["documents"] == {"old": 60, "new": 60, "both": 60}
    assert said["differing"] == ["long_documents", "model_digest"]
    old, new = (open_output(str(two / name)) for name in ("old", "new"))
    made = compare(old, new, sample=20, k=5, seed=3)
    assert {name: said[name] for name in made} == made
    table = pq.read_table(two / "rows.parquet")
    assert table.column_names == ["doc_id", "overlap", "cosine", "text"]
    assert all(
        text.startswith(f"document {one[1:]} ")
        for one, text in zip(*(table[n].to_pylist() for n in ("doc_id", "text")), strict=True)
    )


def test_in_words(cli, two):
    code, out, err = cli("compare", two / "old", two / "old", "--sample=20", "--k=5")
    assert (code, err) == (0, "")
    assert "the jobs differ in nothing that changes vectors\n60 documents are in both" in out
    assert "neighbour overlap at 5            1.0000 [1.0000, 1.0000]" in out
    assert "rank correlation of similarities  1.0000" in out


def test_mistakes(cli, two, tmp_path):
    def refused(*arguments):
        code, out, err = cli("compare", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "--k 60: 60 documents are in both outputs; ask for less than that" in refused(
        two / "old", two / "new", "--k=60"
    )
    other = write(tmp_path / "other", {"x": [[1.0, 0]], "y": [[0.0, 1]]})
    assert "no id is in both outputs: OLD's look like 'd" in refused(two / "old", other.folder.path)
    outputs.make(tmp_path / "part", leave=1)
    assert "the job has not finished" in refused(tmp_path / "part", two / "new")
    assert "the job has not finished" in refused(two / "new", tmp_path / "part")
    assert "no job here" in refused(tmp_path, two / "new")
    pairs = jobs.write_jsonl(tmp_path / "p.jsonl", [{"doc_id1": "nope", "doc_id2": "nix"}])
    said = refused(two / "old", two / "new", "--pairs", pairs)
    assert "none of its 1 pairs is in both outputs, e.g. 'nope' and 'nix'" in said
    jobs.write_jsonl(pairs, [{"one": "d1", "two": "d2"}])
    assert "expected columns doc_id1, doc_id2" in refused(two / "old", two / "new", "--pairs", pairs)


@pytest.mark.stores
@pytest.mark.slow
def test_in_a_store(two, monkeypatch):
    """Both outputs and --to in S3: the figures are those of the disk's."""
    with stores.s3_server() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        for name in ("old", "new"):
            store.put_folder(name, two / name)
        to = store.url("rows.parquet")
        ask = ["compare", store.url("old"), store.url("new"), "--sample=20", "--k=5", f"--to={to}", "--json"]
        done = jobs.run(jobs.PYTHON, "-m", "pipeline", *ask, *store.flags(), "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
        assert "rows.parquet" in store.objects()
    here = compare(*(open_output(str(two / name)) for name in ("old", "new")), sample=20, k=5, seed=0)
    said = json.loads(done.stdout)
    assert {name: said[name] for name in here} == here
