"""Another model over the documents of an output: its rows are those of a fresh run over the inputs."""

import datetime
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import image_models
import jobs
import numpy as np
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stores

from transforms.output.reader import open_output

MANY = "--max-dead-letters=50%"


@pytest.fixture(scope="module")
def other(save_model):
    """Another model: its window is larger, so long documents have other vectors."""
    return save_model(window=32)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, corpus, other):
    """What the other model makes of the inputs of `finished`."""
    from pipeline import embed

    output = tmp_path_factory.mktemp("fresh") / "out"
    embed(input=str(corpus), output=str(output), model=other, **jobs.CORPUS_OPTIONS)
    return output


def embed(folder, model, **options):
    from pipeline import embed

    embed(output=str(folder), model=model, quiet=True, **options)
    return folder


def table(path, *columns):
    """Rows of an output by id, without its vectors if columns are named."""
    blocks = open_output(str(path)).rows(["doc_id", *columns] if columns else None)
    return sorted((row for block in blocks for row in block.to_pylist()), key=lambda row: row["doc_id"])


def test_from_rows_by_the_command(finished, fresh, other, tmp_path, cli):
    """As installed: ids, kept fields, texts, sources and positions as they were; vectors of the new model."""
    script = Path(sys.executable).with_name("embedbeam")
    command = [
        script,
        "migrate",
        finished,
        f"--model={other}",
        f"--output={tmp_path / 'new'}",
        MANY,
        "--json",
    ]
    done = jobs.run(*command)
    assert done.returncode == 0, done.stderr
    dead = len(jobs.letters(finished))
    [said] = done.stderr.splitlines()
    assert f"{dead} documents are dead letters of {finished} and have no row there; --from-inputs" in said
    assert json.loads(done.stdout)["documents"] == 300 - dead
    assert jobs.rows(tmp_path / "new") == jobs.rows(fresh)
    old = {row["doc_id"]: row["embedding"] for row in jobs.rows(finished)}
    changed = [row for row in jobs.rows(fresh) if row["embedding"] != old[row["doc_id"]]]
    assert 0 < len(changed) < len(old)
    code, out, err = cli(*command[1:])
    assert (code, err, json.loads(out)["run"]["documents"]) == (0, "", 0)


def test_from_inputs(finished, fresh, other, tmp_path, cli):
    """Dead letters get their chance again; here they die again."""
    done = cli("migrate", finished, f"--model={other}", f"--output={tmp_path / 'new'}", MANY, "--from-inputs")
    assert done[0] == 0, done[2]
    assert jobs.rows(tmp_path / "new") == jobs.rows(fresh)
    assert jobs.letters(tmp_path / "new") == jobs.letters(fresh)
    assert (
        f"{len(jobs.letters(fresh))} documents that are dead letters of {finished} are read again" in done[2]
    )


TYPES = {
    "flag": pa.array([True, False, None] * 10),
    "day": pa.array([datetime.date(2020, 1, 1 + i % 20) for i in range(30)]),
    "small": pa.array(range(30), pa.uint8()),
    "ratio": pa.array([i / 3 for i in range(30)], pa.float32()),
    "blob": pa.array([bytes([i, 255]) for i in range(30)]),
    "tags": pa.array([[f"t{i}"] for i in range(30)]),
    "never": pa.array([None] * 30, pa.int64()),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    path = tmp_path_factory.mktemp("typed") / "in.parquet"
    columns = {"id": [f"d{i:02}" for i in range(30)], "text": [f"text {i} " + "x " * i for i in range(30)]}
    pq.write_table(pa.table(columns | TYPES), path, row_group_size=10)
    return path


@pytest.mark.parametrize("format", ["parquet", "tfrecord", "gzip"])
def test_kept_fields_of_all_types(format, typed, model, other, tmp_path, cli):
    how = (
        {"output_format": format}
        if format != "gzip"
        else {"output_format": "tfrecord", "tfrecord_gzip": True}
    )
    options = {
        "input": str(typed),
        "id_field": "id",
        "keep_field": list(TYPES),
        **how,
        "vector_dtype": "int8",
    }
    old = embed(tmp_path / "old", model, **options, keep_text=True, shard_bytes=2000)
    code, _, err = cli("migrate", old, f"--model={other}", f"--output={tmp_path / 'new'}", "--quiet")
    assert (code, err) == (0, "")
    new = open_output(str(tmp_path / "new"))
    assert {name: new.job[name] for name in how} == how
    assert (new.job["vector_dtype"], new.count) == ("int8", 30)
    kept = ("source", "position", "text", *TYPES)
    if format == "parquet":
        assert table(new.folder.path, *kept) == table(old, *kept)
        assert new.arrow.equals(open_output(str(old)).arrow)
    else:  # the files' own values: an Example has no booleans and no dates
        for row, was in zip(table(new.folder.path, *kept), table(old, *kept), strict=True):
            assert row == was | {name: was[name] and as_stored(was[name]) for name in ("flag", "day")}
    vectors = ("embedding", "scale")
    fresh = embed(tmp_path / "fresh", other, **options)
    assert table(new.folder.path, *vectors) == table(fresh, *vectors)


def as_stored(value):
    return int(value) if isinstance(value, bool) else str(value)


def test_the_commands_options_win(finished, other, tmp_path, cli):
    more = ["--dim=4", "--vector-dtype=float16", "--output-format=tfrecord", "--limit=50"]
    (tmp_path / "current").symlink_to(finished)
    command = ["migrate", tmp_path / "current", f"--model={other}", f"--output={tmp_path / 'new'}", *more]
    assert cli(*command, "--quiet") == (0, "", "")
    new = open_output(str(tmp_path / "new"))
    assert (new.dim, new.job["vector_dtype"], new.format, new.count) == (4, "float16", "tfrecord", 50)
    assert new.job["input"] == [f"{finished}/part-*.parquet"]  # wherever the link points to next time
    code, _, err = cli(*command, "--dim=5")
    assert (code, "--dim: 4 there, 5 here" in err) == (2, True)


def test_chunks_have_no_whole_texts(corpus, model, other, tmp_path, cli):
    options = jobs.CORPUS_OPTIONS | {"input": str(corpus), "long_documents": "chunks", "chunk_overlap": 2}
    old = embed(tmp_path / "old", model, **options)
    fresh = embed(tmp_path / "fresh", other, **options)
    code, _, err = cli("migrate", old, f"--model={other}", f"--output={tmp_path / 'new'}", MANY)
    assert code == 0, err
    assert f"the rows of {old} are chunks, which do not hold whole texts: its inputs are read" in err
    assert jobs.rows(tmp_path / "new") == jobs.rows(fresh)
    assert jobs.letters(tmp_path / "new") == jobs.letters(fresh)


@pytest.fixture
def moved(corpus, model, tmp_path):
    """An output whose texts were not kept, and its inputs, which a test may change."""
    shutil.copytree(corpus, tmp_path / "in")
    options = jobs.CORPUS_OPTIONS | {"keep_text": False}
    return embed(tmp_path / "old", model, input=str(tmp_path / "in"), **options)


def test_inputs_that_are_not_what_they_were(moved, other, tmp_path, cli):
    command = ["migrate", moved, f"--model={other}", f"--output={tmp_path / 'new'}", MANY]
    lines = (tmp_path / "in" / "a.jsonl").read_text().splitlines()
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", [*lines, {"id": "late", "text": "a late one", "n": 1}])
    (tmp_path / "in" / "b.jsonl").unlink()
    jobs.write_jsonl(tmp_path / "in" / "z.jsonl", [{"id": "z", "text": "a new file", "n": 1}])
    code, out, err = cli(*command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    names = {name: str(tmp_path / "in" / f"{name}.jsonl") for name in "abz"}
    assert (
        f"1 have changed, e.g. {names['a']}; 1 are gone, e.g. {names['b']}; 1 came, e.g. {names['z']}" in err
    )
    assert "--take-changes" in err
    assert not (tmp_path / "new").exists()
    assert cli(*command, "--dry-run")[0] == 2
    code, out, err = cli(*command, "--take-changes")
    assert code == 0, err
    ids = {row["doc_id"] for row in jobs.rows(tmp_path / "new")}
    assert {"late", "z", "a1", "c1"} <= ids
    assert not {one for one in ids if one.startswith("b")}
    code, _, err = cli(*command, "--take-changes")  # nothing is left to do
    assert (code, "changed" in err) == (0, False)


def test_a_limit(moved, other, tmp_path, cli):
    """Fewer documents than the earlier job read: files that are not reached are not gone."""
    command = ["migrate", moved, f"--model={other}", f"--output={tmp_path / 'new'}", MANY, "--limit=10"]
    assert cli(*command, "--quiet") == (0, "", "")
    assert {letter["source"] for letter in table(tmp_path / "new", "source")} == {"a.jsonl"}


def test_mistakes(copy_of, other, tmp_path, cli):
    def refused(*arguments, old=copy_of, output=tmp_path / "new"):
        code, out, err = cli("migrate", old, f"--model={other}", f"--output={output}", MANY, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert not (tmp_path / "new").exists()
        return err

    assert "no job here" in refused(old=tmp_path)
    assert "is OLD itself; expected another folder" in refused("--overwrite", output=copy_of)
    (tmp_path / "link").symlink_to(copy_of.name)
    assert "is OLD itself" in refused(output=f"{tmp_path}/link/")
    code, _, err = cli("migrate", copy_of, f"--output={tmp_path / 'new'}")
    assert (code, "--model" in err) == (2, True)
    part = sorted(copy_of.glob("part-*"))[1]
    size = part.stat().st_size
    os.truncate(part, size - 1)
    assert f"{part.name} has {size - 1:,} bytes, expected {size:,}: it is damaged" in refused()
    part.unlink()
    assert f"{part.name} is missing" in refused()
    (copy_of / "_SUCCESS").unlink()
    said = refused()
    assert "the job has not finished, so some texts are not there: run it again, or --from-inputs" in said
    done = cli("migrate", copy_of, f"--model={other}", f"--output={tmp_path / 'new'}", MANY, "--from-inputs")
    assert done[0] == 0


def test_damage_that_no_size_tells(copy_of, other, tmp_path, cli):
    """A part whose bytes are others fails the job, which names it; nothing of it becomes a row."""
    for part in copy_of.glob("part-*"):
        data = bytearray(part.read_bytes())
        data[4:-400] = bytes(len(data) - 404)  # all but the footer
        part.write_bytes(data)
    code, _, err = cli("migrate", copy_of, f"--model={other}", f"--output={tmp_path / 'new'}", "--quiet")
    assert (code, "part-" in err) == (1, True)


def test_images_are_read_again(tmp_path, cli):
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(pictures.jpeg(number, 160, 120))
    model = image_models.save_small(tmp_path / "model")
    old = embed(tmp_path / "old", model, input=str(tmp_path / "in"))
    command = ["migrate", old, f"--model={model}", f"--output={tmp_path / 'new'}", "--image-resize=crop"]
    assert cli(*command, "--quiet") == (0, "", "")
    fresh = embed(tmp_path / "fresh", model, input=str(tmp_path / "in"), image_resize="crop")
    assert jobs.rows(tmp_path / "new") == jobs.rows(fresh)
    assert not np.allclose(*([row["embedding"] for row in jobs.rows(one)] for one in (old, fresh)))


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), [("rename plan", 1), ("rename part", 2)])
def test_killed_and_gone_on(point, count, finished, fresh, other, tmp_path, cli):
    command = ["migrate", finished, f"--model={other}", f"--output={tmp_path / 'new'}", "--shard-bytes=9000"]
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, count, *command)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    before = jobs.files(tmp_path / "new")
    assert cli(*command, "--quiet") == (0, "", "")
    assert before.items() <= jobs.files(tmp_path / "new").items()
    assert jobs.rows(tmp_path / "new") == jobs.rows(fresh)


@pytest.mark.stores
@pytest.mark.slow
def test_in_a_store(finished, fresh, other, tmp_path, monkeypatch):
    """OLD and OUT in S3: the rows are those of the disk's."""
    with stores.s3_server() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        store.put_folder("old", finished)
        flags = [f"--model={other}", f"--output={store.url('new')}", *store.flags(), "--quiet"]
        done = jobs.run(jobs.PYTHON, "-m", "pipeline", "migrate", store.url("old"), *flags)
        assert (done.returncode, done.stderr) == (0, "")
        for name, data in store.objects().items():
            if name.startswith("new/part-"):
                (tmp_path / name.removeprefix("new/")).write_bytes(data)
    assert jobs.rows(tmp_path) == jobs.rows(fresh)
