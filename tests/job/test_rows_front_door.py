"""Rows through the real console script: each command in a fresh process, on one small job."""

import json
import os
import shutil
import sys
from pathlib import Path

import jobs
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
TEXTS = {"fish": "the {} fish swims in the river", "bird": "a {} bird flies over the house"}


def in_order(output):
    from transforms.output.reader import open_output

    return [row for block in open_output(str(output)).rows(["doc_id"]) for row in block.to_pylist()]


@pytest.fixture(scope="module")
def embedbeam():
    """Runs the console script as installed; returns what it says as JSON."""
    script = Path(sys.executable).with_name("embedbeam")

    def run(*arguments, cwd):
        done = jobs.run(script, *arguments, "--json", "--quiet", cwd=cwd)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def job(embedbeam, model, tmp_path_factory):
    """A folder with `out`: 60 texts of two kinds, embedded by the real command."""
    folder = tmp_path_factory.mktemp("rows")
    records = [
        {"id": f"{kind}{i}", "text": text.format(f"number {i}"), "kind": kind}
        for i in range(30)
        for kind, text in TEXTS.items()
    ]
    jobs.write_jsonl(folder / "docs.jsonl", records)
    flags = ["--id-field=id", "--keep-field=kind", "--keep-text", f"--model={model}"]
    embedbeam("embed", "--input=docs.jsonl", "--output=out", *flags, cwd=folder)
    return folder


def test_the_job_wrote_its_report(job):
    page = (job / "out" / "_report.html").read_text(encoding="utf-8")
    assert "60" in page
    assert "<script" in page
    assert sorted(os.listdir(job / "out"))[:3] == ["_SUCCESS", "_embedbeam", "_report.html"]


def test_report(job, embedbeam):
    made = embedbeam("report", "out", "--to=page.html", cwd=job)
    assert made["report"] == "page.html"
    assert (job / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_search_and_neighbors(job, embedbeam):
    found = embedbeam(
        "search", "out", "the number 7 fish swims in the river", "--filter=kind = 'fish'", cwd=job
    )
    assert found["results"][0]["doc_id"] == "fish7"
    assert found["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert {one["kind"] for one in found["results"]} == {"fish"}
    near = embedbeam("neighbors", "out", "fish7", "--k=3", "--index", cwd=job)
    (row,) = near["rows"]
    assert (row["doc_id"], len(row["results"])) == ("fish7", 3)
    assert "fish7" not in {one["doc_id"] for one in row["results"]}


def test_map_and_projector(job, embedbeam):
    made = embedbeam("map", "out", "--method=pca", "--color=kind", cwd=job)
    assert {Path(made[name]).name for name in ("parquet", "png", "html")} == {
        "pca.parquet",
        "pca.png",
        "pca.html",
    }
    places = pq.read_table(job / "out" / "_map" / "pca.parquet")
    assert places.column_names == ["doc_id", "kind", "x", "y", "cluster"]
    assert places["doc_id"].to_pylist() == [row["doc_id"] for row in in_order(job / "out")]
    embedbeam("projector", "out", "--to=projector", cwd=job)
    assert len((job / "projector" / "tensors.tsv").read_text().splitlines()) == 60


def test_evaluate(job, embedbeam):
    query = {"query": "the number 7 fish swims in the river", "doc_id": "fish7"}
    jobs.write_jsonl(job / "queries.jsonl", [query])
    said = embedbeam("evaluate", "out", "--queries=queries.jsonl", cwd=job)
    measured = {name: one["outputs"][0]["value"] for name, one in said["retrieval"]["metrics"].items()}
    assert measured == {"nDCG@10": 1.0, "recall@10": 1.0, "MRR@10": 1.0}
    assert said["retrieval"]["queries"] == 1


def test_train_and_predict(job, embedbeam):
    embedbeam("train", "out", "--label=kind", "--to=head", "--epochs=3", cwd=job)
    embedbeam("predict", "out", "--head=head", "--to=labels.parquet", cwd=job)
    labels = pq.read_table(job / "labels.parquet")
    assert labels["doc_id"].to_pylist() == [row["doc_id"] for row in in_order(job / "out")]
    assert set(labels["label"].to_pylist()) <= {"fish", "bird"}


def test_readers_see_nothing_but_rows(job):
    """After all this: what was made later lies under names that Arrow, Spark and DuckDB skip."""
    assert len(jobs.rows(job / "out")) == 60
    shutil.rmtree(job / "head")
