"""Every snippet of docs/recipes.md does what it says on an output whose vectors are known."""

import json
import re

import jobs
import numpy as np
import outputs
import pytest

from pipeline.search.exact import unit

PAGE = (jobs.ROOT / "docs" / "recipes.md").read_text()
SNIPPETS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.S | re.M))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return outputs.make(tmp_path_factory.mktemp("recipes") / "out")


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """Runs the snippet under a title; returns its names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").symlink_to(made.path)

    def of(title):
        names = {}
        exec(SNIPPETS[title], names)
        return names

    return of


@pytest.fixture(scope="module")
def expected(made):
    """Vectors by id."""
    return {row.doc_id: row.vector for shard in made.shards for row in made.rows[shard]}


def test_each_has_a_test():
    assert set(SNIPPETS) == {"pandas", "Polars", "DuckDB", "FAISS", "Elasticsearch, OpenSearch"}
    assert PAGE.count("```python") == len(SNIPPETS)


def test_pandas(run, expected):
    rows = run("pandas")["rows"]
    assert {i: v.tolist() for i, v in zip(rows.doc_id, rows.embedding, strict=True)} == expected


def test_polars(run, expected):
    names = run("Polars")
    assert names["matrix"].dtype == np.float32
    assert dict(zip(names["rows"]["doc_id"], names["matrix"].tolist(), strict=True)) == expected


def test_duckdb(run, expected):
    found = run("DuckDB")["nearest"]
    ids, vectors = list(expected), unit(np.array(list(expected.values()), np.float32))
    cosines = vectors @ vectors[ids.index(min(ids))]
    assert [one for one, _ in found] == [ids[i] for i in np.argsort(-cosines)[:3]]
    np.testing.assert_allclose([cosine for _, cosine in found], np.sort(cosines)[::-1][:3], atol=1e-5)


def test_faiss(run, expected):
    names = run("FAISS")
    assert names["ids"] == list(expected)
    vectors = unit(np.array(list(expected.values()), np.float32))
    _, found = names["index"].search(vectors, 1)
    assert found.ravel().tolist() == list(range(len(expected)))


def test_elasticsearch(run, expected, tmp_path):
    run("Elasticsearch, OpenSearch")
    data = (tmp_path / "bulk.ndjson").read_text()
    assert data.endswith("\n")  # the bulk API wants it
    lines = [json.loads(line) for line in data.splitlines()]
    heads, bodies = lines[::2], lines[1::2]
    assert all(set(head) == {"index"} and head["index"]["_index"] == "documents" for head in heads)
    assert {h["index"]["_id"]: b["embedding"] for h, b in zip(heads, bodies, strict=True)} == expected
