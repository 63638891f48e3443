"""Vectors of an earlier output, taken over by the real command: the rows are those of a fresh run."""

import json
import random

import jobs
import numpy as np
import pytest

from transforms.output.reader import open_output


def record(number, text=None):
    return {"id": f"d{number}", "text": text or f"text of {number} " + "word " * (number % 40), "n": number}


def embed(model, output, source, *flags):
    command = [*jobs.EMBED, "--input", source, "--output", output, "--model", model, "--id-field=id"]
    done = jobs.run(*command, "--keep-field=n", "--shard-bytes=4000", "--max-dead-letters=100%", *flags)
    assert done.returncode == 0, done.stderr
    return done


def table(path, *without):
    import pyarrow as pa

    found = pa.Table.from_batches(open_output(str(path)).rows())
    return found.drop_columns(list(without)).to_pylist()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reuse")
    last = [*map(record, range(200, 300)), {"id": "x", "text": 1}]
    old = {"a.jsonl": [*map(record, range(200))], "b.jsonl": last}
    shuffled = random.Random(1)
    moved = [*map(record, range(200, 290))]
    shuffled.shuffle(moved)
    changed = {5: "changed", 77: "too", 150: "and this"}
    new = {
        "a.jsonl": [record(i, changed.get(i)) for i in range(200) if i % 50 != 3],
        "c.jsonl": [record(1000), *moved, {"id": "y", "text": None}, {**record(7), "id": "again"}],
    }
    for name, files in (("old", old), ("new", new)):
        for file, records in files.items():
            jobs.write_jsonl(folder / name / file, records)
    return folder


KINDS = {
    "plain": (),
    "float16": ("--vector-dtype=float16", "--keep-text"),
    "int8": ("--vector-dtype=int8",),
    "ubinary": ("--vector-dtype=ubinary", "--output-format=tfrecord"),
    "chunks": ("--long-documents=chunks", "--max-tokens=9", "--chunk-overlap=2", "--keep-text"),
    "mean": ("--max-tokens=9", "--chunk-overlap=2", "--output-format=tfrecord"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_are_those_of_a_fresh_run(model, corpus, tmp_path, kind):
    flags = KINDS[kind]
    embed(model, tmp_path / "old", corpus / "old", *flags, "--quiet")
    embed(model, tmp_path / "fresh", corpus / "new", *flags, "--quiet")
    embed(model, tmp_path / "new", corpus / "new", *flags, "--reuse", tmp_path / "old", "--quiet")
    vectors = ("embedding", "scale") if kind == "int8" else ("embedding",)
    assert table(tmp_path / "new", *vectors) == table(tmp_path / "fresh", *vectors)
    rows = {name: table(tmp_path / name) for name in ("old", "fresh", "new")}
    for mine, fresh in zip(rows["new"], rows["fresh"], strict=True):
        np.testing.assert_allclose(mine["embedding"], fresh["embedding"], atol=1e-6)
    taken = {(row["fingerprint"], row.get("chunk")): [row[name] for name in vectors] for row in rows["old"]}
    for row in rows["new"]:
        key = row["fingerprint"], row.get("chunk")
        assert [row[name] for name in vectors] == taken.get(key, [row[name] for name in vectors])
    manifest = json.loads((tmp_path / "new" / "_embedbeam" / "manifest.json").read_bytes())
    embedded = {"d5", "d77", "d150", "d1000"}
    documents = {row["doc_id"] for row in rows["new"]}
    assert manifest["reused"] == len(documents - embedded)
    done = jobs.run(*jobs.EMBED[:-1], "verify", tmp_path / "new")
    assert done.returncode == 0, done.stdout + done.stderr
