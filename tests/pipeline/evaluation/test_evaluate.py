"""`evaluate` on outputs whose right answers are known, and on jobs of real SavedModels."""

import json

import jobs
import numpy as np
import outputs
import pytest

from benchmarks.synthetic import write_output
from pipeline.evaluation.retrieval import rankings
from transforms.output.reader import open_output


def write(path, vectors, kept=None, ids=None, **head):
    vectors = np.asarray(vectors, np.float32)
    ids = ids or [f"d{i}" for i in range(len(vectors))]
    fields = {"kept": [[name, "string"] for name in kept]} if kept else {}
    block = {"doc_id": ids, "vectors": vectors, **(kept or {})}
    write_output(str(path), [[block]], dim=vectors.shape[1], **fields, **head)
    return path


def write_lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory, save_model):
    """The outputs of two models over the same documents, and the texts; only the models' windows differ."""
    from pipeline import embed

    folder = tmp_path_factory.mktemp("jobs")
    documents = jobs.documents(40)
    jobs.write_jsonl(folder / "in.jsonl", documents)
    for name, model in (("a", save_model()), ("b", save_model(window=32))):
        embed(
            input=str(folder / "in.jsonl"), output=str(folder / name), model=model, id_field="id", quiet=True
        )
    return folder, {one["id"]: one["text"] for one in documents}


def test_retrieval_of_two_models_by_the_real_command(two_jobs):
    """A document's own text finds it first with either model."""
    folder, texts = two_jobs
    rows = [{"query": texts[f"d{i}"], "doc_id": f"d{i}"} for i in range(6)]
    rows += [{"query": texts["d6"], "doc_id": "d6"}, {"query": texts["d6"], "doc_id": "gone"}]
    rows += [{"query": "nowhere", "doc_id": "gone too"}]
    queries = write_lines(folder / "q.jsonl", rows)
    done = jobs.run(
        jobs.PYTHON, "-m", "pipeline", "evaluate", folder / "a", folder / "b", "--queries", queries, "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [one["output"] for one in said["outputs"]] == [str(folder / "a"), str(folder / "b")]
    found = said["retrieval"]
    assert {name: found[name] for name in ("queries", "queries_left_out", "unknown_ids", "k")} == {
        "queries": 7,
        "queries_left_out": 1,
        "unknown_ids": 2,
        "k": 10,
    }
    one = {"value": 1.0, "low": 1.0, "high": 1.0}
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["metrics"] == {
        name: {"outputs": [one, one], "difference": none} for name in ("nDCG@10", "recall@10", "MRR@10")
    }


def test_the_table(cli, two_jobs, tmp_path):
    """Relevance that is not the nearest: what the measures say is what the ranking is."""
    folder, texts = two_jobs
    queries = tmp_path / "q.csv"
    queries.write_text(f'query,doc_id,relevance\n"{texts["d0"]}",d0,0\n"{texts["d0"]}",d1,1\n')
    code, words, err = cli("evaluate", folder / "a", "--queries", queries, "--k", 40)
    assert code == 0, err
    [asked] = [row for row in jobs.rows(folder / "a") if row["doc_id"] == "d0"]
    [ranked] = rankings(open_output(str(folder / "a")), np.array([asked["embedding"]], np.float32), 40)
    rank = ranked.index("d1") + 1
    lines = [line.split() for line in words.splitlines()]
    assert ["MRR@40", f"{1 / rank:.4f}"] in lines
    assert ["nDCG@40", f"{1 / np.log2(rank + 1):.4f}"] in lines
    assert ["recall@40", "1.0000"] in lines


def test_pairs_of_texts_and_of_documents_agree(cli, two_jobs, tmp_path):
    folder, texts = two_jobs
    random = np.random.default_rng(0)
    vectors = {row["doc_id"]: np.array(row["embedding"]) for row in jobs.rows(folder / "a")}
    pairs = [(f"d{i}", f"d{j}") for i, j in random.integers(0, 40, (30, 2)) if i != j]
    scores = [float(vectors[a] @ vectors[b]) ** 3 for a, b in pairs]  # the same order
    by_id = [{"doc_id1": a, "doc_id2": b, "score": s} for (a, b), s in zip(pairs, scores, strict=True)]
    by_text = [
        {"text1": texts[a], "text2": texts[b], "score": s} for (a, b), s in zip(pairs, scores, strict=True)
    ]
    found = []
    for rows in ([*by_id, {"doc_id1": "d1", "doc_id2": "gone", "score": 1}], by_text):
        code, words, err = cli(
            "evaluate",
            folder / "a",
            folder / "b",
            "--pairs",
            write_lines(tmp_path / "p.jsonl", rows),
            "--json",
        )
        assert code == 0, err
        found.append(json.loads(words)["pairs"])
    assert found[0]["pairs_left_out"] == 1
    assert found[0]["metrics"]["Spearman"]["outputs"][0]["value"] == pytest.approx(1, abs=1e-3)
    for one in zip(*(f["metrics"]["Spearman"]["outputs"] for f in found), strict=True):
        assert one[0]["value"] == pytest.approx(one[1]["value"], abs=5e-3)
    difference = found[0]["metrics"]["Spearman"]["difference"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_labels(cli, tmp_path):
    """One output knows the classes, the other one guesses: the difference says so, and is the same twice."""
    random = np.random.default_rng(0)
    kind = random.integers(3, size=200)
    kept = {"kind": [None if i == 0 else "rare" if i == 1 else f"k{one}" for i, one in enumerate(kind)]}
    good = write(tmp_path / "good", np.eye(8)[kind] + 0.05 * random.standard_normal((200, 8)), kept)
    bad = write(tmp_path / "bad", random.standard_normal((200, 8)), kept)
    said = [cli("evaluate", good, bad, "--label", "kind", "--json")[1] for _ in range(2)]
    assert said[0] == said[1]
    found = json.loads(said[0])["labels"]
    counts = np.bincount(kind[2:])
    assert (found["documents"], found["classes"], found["classes_left_out"]) == (198, 3, 1)
    assert found["without_label"] == 1
    assert found["largest_class"] == pytest.approx(counts.max() / 198, abs=1e-6)
    for name in ("10-NN accuracy", "linear probe accuracy"):
        first, second = found["metrics"][name]["outputs"]
        assert first == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert 0.2 < second["value"] < 0.5
        difference = found["metrics"][name]["difference"]
        assert difference["value"] == pytest.approx(second["value"] - 1, abs=1e-6)
        assert difference["high"] < -0.4


def test_a_document_of_many_chunks_is_ranked_once(tmp_path):
    """Its nearest chunk tells; chunks that crowd out others do not."""
    made = outputs.make(tmp_path / "out", shards=1, per_shard=4, long_documents="chunks")
    write(tmp_path / "many", np.eye(3)[[0] * 30 + [1, 2]] + [[0.1, 0, 0]], ids=["big"] * 30 + ["b", "c"])
    [ranked] = rankings(open_output(str(tmp_path / "many")), np.array([[1, 0.5, 0.1]], np.float32), 3)
    assert ranked == ["big", "b", "c"]
    assert len(rankings(open_output(str(made.path)), np.eye(3, dtype=np.float32), 10)[0]) == 4


@pytest.mark.parametrize("apart", [False, True])
def test_few_documents_of_many_chunks_are_ranked_in_one_pass(tmp_path, monkeypatch, apart):
    """Against a ranking of all rows; where rows of a document lie apart, more passes are needed."""
    from pipeline.evaluation import retrieval

    random = np.random.default_rng(0)
    vectors = random.standard_normal((20_000, 4))
    number = random.integers(6, size=20_000)
    ids = [f"d{n}" for n in (number if apart else np.sort(number)).tolist()]
    output = open_output(str(write(tmp_path / "out", vectors, ids=ids)))
    asked = []
    search = retrieval._nearest_documents
    monkeypatch.setattr(
        retrieval, "_nearest_documents", lambda *a: asked.append((len(a[1]), a[3])) or search(*a)
    )
    queries = random.standard_normal((5, 4)).astype(np.float32)
    found = rankings(output, queries, 10)
    near = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ queries.T
    for scores, ranked in zip(near.T, found, strict=True):
        assert ranked == list(dict.fromkeys(ids[row] for row in np.argsort(-scores)))
    assert asked[0] == (5, 10)
    if not apart:
        assert asked == [(5, 10)]


def test_mistakes(cli, two_jobs, tmp_path):
    folder, texts = two_jobs
    out = folder / "a"
    one_class = write(tmp_path / "one", np.eye(3)[[0] * 20], {"kind": ["same"] * 20})

    def error(*arguments, code=2):
        got, _, err = cli("evaluate", *arguments, "--quiet")
        assert got == code
        [line] = err.strip().splitlines()
        return line.removeprefix("embedbeam: error: ")

    assert error(out) == "nothing to evaluate: give --queries FILE, --pairs FILE or --label FIELD"
    assert "no column 'topic'; there are doc_id" in error(out, "--label", "topic")
    assert "kind: 1 classes have at least 5 documents in a sample of 20" in error(
        one_class, "--label", "kind"
    )
    nowhere = write_lines(tmp_path / "n.jsonl", [{"query": "x", "doc_id": "gone"}])
    assert f"none of its 1 ids is in {out}, e.g. 'gone'" in error(out, "--queries", nowhere)
    columns = write_lines(tmp_path / "c.jsonl", [{"question": "x", "doc_id": "d1"}])
    assert "expected columns query, doc_id; it has question, doc_id" in error(out, "--queries", columns)
    assert "expected a .jsonl, .csv or .parquet" in error(out, "--queries", tmp_path / "q.txt")
    assert "cannot be read: No such file" in error(out, "--queries", tmp_path / "none.csv")
    for line, reason in ((b"{", "is not JSON: "), (b"\xff", "is not JSON: "), (b"[1]", "is no JSON object")):
        bad = tmp_path / "b.jsonl"
        bad.write_bytes(b'{"query": "x", "doc_id": "d1"}\n\n' + line + b"\n")
        assert f"cannot be read: line 3 {reason}" in error(out, "--queries", bad)
    half = write_lines(tmp_path / "h.jsonl", [{"query": "x", "doc_id": "d1", "relevance": 0.5}])
    assert "row 1: relevance 0.5: expected 0, 1, 2, ..." in error(out, "--queries", half)
    zero = write_lines(tmp_path / "z.jsonl", [{"query": "x", "doc_id": "d1", "relevance": 0}])
    assert "no query has a relevant document" in error(out, "--queries", zero)
    alike = [{"doc_id1": "d1", "doc_id2": f"d{i}", "score": 1} for i in range(5)]
    assert "all scores are alike" in error(out, "--pairs", write_lines(tmp_path / "s.jsonl", alike))
    assert "0 of 1 pairs are in the output" in error(
        out, "--pairs", write_lines(tmp_path / "g.jsonl", [{"doc_id1": "x", "doc_id2": "y", "score": 1}])
    )
    unmeasured = [{"doc_id1": "d1", "doc_id2": f"d{i}", "score": i if i else "nan"} for i in range(5)]
    assert "row 1: score 'nan': expected a number" in error(
        out, "--pairs", write_lines(tmp_path / "u.jsonl", unmeasured)
    )
    endless = write_lines(tmp_path / "e.jsonl", [{"query": "x", "doc_id": "d1", "relevance": float("inf")}])
    assert "row 1: relevance inf: expected a number" in error(out, "--queries", endless)
    longer = tmp_path / "longer.csv"
    longer.write_text("query,doc_id\nx, y,d1\n")
    assert "row 1 has more cells than the header" in error(out, "--queries", longer)
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("doc_id1,text1,text2,score\nd1,a,b,1\n")
    assert "at least three pairs" in error(out, "--pairs", mixed)
    large = tmp_path / "large.csv"
    large.write_text(f"query,doc_id\n{'x' * 200_000},gone\n")
    assert "none of its 1 ids" in error(out, "--queries", large)
    assert "--k 41" in error(out, "--queries", nowhere, "--k", 41)
    assert "seed -1: expected a number from 0" in error(out, "--queries", nowhere, "--seed=-1")
    known = write_lines(tmp_path / "k.jsonl", [{"query": texts["d1"], "doc_id": "d1"}])
    other = json.loads((folder / "b/_embedbeam/plan.jsonl").read_text().splitlines()[0])["model"]
    assert "another model" in error(out, "--queries", known, "--model", other)
