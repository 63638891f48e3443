"""What people do with the vectors where these lie in an object store: as with the same folder on a disk."""

import json
import shutil
import sys
from pathlib import Path

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions

import embedbeam
from pipeline.diff import STATES
from transforms.storage.files import use_options

pytestmark = [pytest.mark.stores, pytest.mark.slow]
TEXTS = {"fish": "the {} fish swims in the river", "bird": "a {} bird flies over the house"}
QUESTION = "the number 7 fish swims in the river"
# What is done to an output, and what its folder has then; each in a fresh process on the store.
COMMANDS = {
    "report": (["report"], ["_report.html"]),
    "map": (["map", "--method=pca", "--color=kind"], ["_map/pca.parquet", "_map/pca.png", "_map/pca.html"]),
    "projector": (["projector"], ["_projector/tensors.tsv", "_projector/metadata.tsv"]),
    "cluster": (["cluster", "--k=2"], ["_clusters/_clusters.json"]),
    "verify": (["verify"], []),
    "search": (["search", QUESTION, "--k=3", "--filter=kind = 'fish'"], []),
    "index": (["neighbors", "fish7", "--index", "--k=3"], ["_index/index.json"]),
    "evaluate": (["evaluate", "--label=kind"], []),
}


@pytest.fixture(scope="module")
def local(tmp_path_factory, model):
    """A folder with `out`: 60 texts of two kinds."""
    folder = tmp_path_factory.mktemp("rows")
    jobs.write_jsonl(folder / "docs.jsonl", [
        {"id": f"{kind}{i}", "text": text.format(f"number {i}"), "kind": kind}
        for i in range(30)
        for kind, text in TEXTS.items()
    ])  # fmt: skip
    flags = ["--id-field=id", "--keep-field=kind", "--keep-text", "--shard-bytes=1500", "--quiet"]
    command = [*jobs.EMBED, "--input", folder / "docs.jsonl", "--output", folder / "out", "--model", model]
    done = jobs.run(*command, *flags)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request, local):
    """The same output in a store, as out/."""
    with stores.server(request.param) as store:
        store.put_folder("out", local / "out")
        yield store
    use_options(PipelineOptions([]))


def run(store, command, output, *more):
    name, *arguments = command
    script = Path(sys.executable).with_name("embedbeam")
    flags = store.flags() if "://" in str(output) else []
    done = jobs.run(script, name, output, *arguments, *more, *flags, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_as_on_a_disk(store, local, tmp_path, name):
    command, made = COMMANDS[name]
    shutil.copytree(local / "out", tmp_path / "out")
    here = run(store, command, tmp_path / "out")
    there = run(store, command, store.url("out"))
    as_text = json.dumps(there).replace(store.url("out"), str(tmp_path / "out"))
    assert set(json.loads(as_text)) == set(here)
    for key in ("results", "rows", "label", "clusters", "committed", "balanced", "points"):
        assert json.loads(as_text).get(key) == here.get(key)
    objects = store.objects()
    for path in made:
        mine, its = (tmp_path / "out" / path).read_bytes(), objects[f"out/{path}"]
        if path.endswith(".parquet"):
            assert pq.read_table(pa.BufferReader(its)) == pq.read_table(pa.BufferReader(mine))
        elif path.endswith((".png", ".tsv")):
            assert its == mine
    assert not [key for key in objects if key.endswith(".tmp")]


def test_the_current_one(store, local, cli):
    """Published under a name, found through it, and not written through it."""
    current = store.url("current")
    told = run(store, ["publish", f"--to={current}"], store.url("out"))
    assert (told["output"], told["rows"], told["changed"]) == (store.url("out"), 60, True)
    found = run(store, ["search", QUESTION, "--k=3"], current)
    assert found["results"][0]["doc_id"] == "fish7"
    code, out, _ = cli("report", current, *store.flags(), "--json")
    assert (code, json.loads(out)["report"]) == (0, store.url("out/_report.html"))
    command = ["embed", "--input", local / "docs.jsonl", "--output", current, "--overwrite", "--quiet"]
    code, _, err = cli(*command, *store.flags(), "--model", local)
    refused = f"--output {current}: is the name of the current output, which `embedbeam publish` made; "
    assert (code, err) == (2, f"embedbeam: error: {refused}write to a new folder, and publish that\n")


def test_a_head_is_trained_on_rows_of_a_store_and_labels_them(store, local, tmp_path):
    head, there, here = tmp_path / "head", store.url("labels.parquet"), tmp_path / "labels.parquet"
    run(store, ["train", "--label=kind", "--epochs=3", f"--to={head}"], store.url("out"))
    store.put_folder("head", head)
    run(store, ["predict", f"--head={store.url('head')}", f"--to={there}"], store.url("out"))
    run(store, ["predict", f"--head={head}", f"--to={here}"], local / "out")
    table = pq.read_table(pa.BufferReader(store.objects()["labels.parquet"]))
    assert table == pq.read_table(here)
    assert sorted(table["doc_id"].to_pylist()) == sorted(f"{kind}{i}" for kind in TEXTS for i in range(30))
    again = jobs.run(
        *(jobs.EMBED[0], "-m", "pipeline", "predict", store.url("out"), f"--head={head}", f"--to={there}"),
        *store.flags(),
    )
    assert (again.returncode, f"{there} exists already" in again.stderr) == (2, True)


def test_mini_batches(store, local):
    how = {"batch_size": 16, "columns": ["doc_id", "kind"], "seed": 3, "framework": "numpy"}
    use_options(PipelineOptions(store.flags()))
    for more in ({}, {"shuffle": True}, {"shuffle": True, "balance": "kind"}):
        here, there = (
            list(embedbeam.batches(path, **how, **more)) for path in (str(local / "out"), store.url("out"))
        )
        assert len(here) == len(there) == 4
        for mine, its in zip(here, there, strict=True):
            assert mine.keys() == its.keys()
            assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_documents_are_forgotten(store, local, tmp_path):
    """The same bytes as on a disk; the folder's other objects are not touched."""
    shutil.copytree(local / "out", tmp_path / "out")
    (tmp_path / "out" / "_map").mkdir()
    (tmp_path / "out" / "_map" / "pca.html").write_text("fish7")
    store.put_folder("gone", tmp_path / "out")
    (tmp_path / "ids").write_text("fish7\nbird22\nfish29\nnobody\n")
    here = run(store, ["forget", f"--ids={tmp_path / 'ids'}"], tmp_path / "out")
    there = run(store, ["forget", f"--ids={tmp_path / 'ids'}"], store.url("gone"))
    assert there | {"output": ""} == here | {"output": ""}
    assert (here["documents"], here["not_found"], here["deleted"]) == (3, 1, ["_map"])
    objects = {key.removeprefix("gone/"): data for key, data in store.objects().items() if "gone/" in key}
    timed = ("_embedbeam/lock", "_embedbeam/forgotten.jsonl", "_report.html")
    files = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert objects.keys() - set(timed) == files.keys() - set(timed)
    assert all(objects[name] == data for name, data in files.items() if name not in timed)
    assert b"number 22 bird" not in b"".join(objects.values())
    assert run(store, ["verify"], store.url("gone"))["forgotten"] == 3
    again = run(store, ["forget"], store.url("gone"))
    assert (again["documents"], again["resumed"]) == (0, False)
    changes = store.url("changes.parquet")
    made = run(store, ["diff", store.url("gone"), f"--to={changes}"], store.url("out"))
    assert [made[state] for state in STATES] == [57, 0, 0, 0, 3, 0, 0]
    rows = pq.read_table(pa.BufferReader(store.objects()["changes.parquet"])).to_pylist()
    assert sorted((row["doc_id"], row["state"]) for row in rows) == [
        ("bird22", "removed"), ("fish29", "removed"), ("fish7", "removed")
    ]  # fmt: skip
