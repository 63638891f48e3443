"""What `--reuse` says beforehand, and of what is damaged or not there: through the console script."""

import json
import shutil
import sys
from pathlib import Path

import jobs
import pytest

from transforms.output import layout
from transforms.output.reader import open_output

SCRIPT = Path(sys.executable).with_name("embedbeam")
FLAGS = ["--id-field=id", "--shard-bytes=2000", "--max-dead-letters=100%"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, model):
    """A folder with the input `in`, whose file c has a dead letter, and the output `old` of it."""
    folder = tmp_path_factory.mktemp("foreseen")
    for name in "abc":
        records = [{"id": f"{name}{i}", "text": f"text {name} {i}"} for i in range(100)]
        jobs.write_jsonl(folder / "in" / f"{name}.jsonl", records + ["{broken"] * (name == "c"))
    done = embed(folder, model, "--output=old", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


def embed(folder, model, *flags):
    return jobs.run(SCRIPT, "embed", "--input=in", f"--model={model}", *FLAGS, *flags, cwd=folder)


def foreseen(folder, model, *flags):
    done = embed(folder, model, "--output=new", "--dry-run", "--json", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "new").exists()
    found = json.loads(done.stdout)
    return found["shards"], found["reuse"]


def sound(folder):
    """Receipts of the shards of `old` that have no dead letters."""
    return [one for one in open_output(str(folder / "old")).receipts if not one.dead_letters]


def test_what_is_the_very_same_is_counted_and_then_taken_over(home, model, tmp_path):
    whole = sound(home)
    shards, reuse = foreseen(home, model, "--reuse=old")
    documents = sum(one.documents for one in whole)
    fits = {"previous": "old", "fits": True, "differing": [], "unreadable": 0}
    assert reuse == [fits | {"shards": len(whole), "documents": documents}]
    assert 0 < len(whole) < shards
    done = embed(home, model, "--output=new", "--dry-run", "--reuse=old")
    count = f"{len(whole)} of {shards} shards ({documents} documents)"
    assert done.stdout.splitlines()[-1] == (
        f"reuse      old: its vectors fit; {count} are the very same and taken over whole, of the others the "
        "documents that it has"
    )
    done = embed(home, model, f"--output={tmp_path}/new", "--reuse=old", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    linked = [one for one in whole if (tmp_path / "new" / one.part).samefile(home / "old" / one.part)]
    assert linked == whole
    others = {one.part for one in open_output(f"{tmp_path}/new").receipts} - {one.part for one in whole}
    assert not any((tmp_path / "new" / one).samefile(home / "old" / one) for one in others)


def test_a_file_that_changed(home, model, tmp_path):
    shutil.copytree(home / "in", tmp_path / "in")  # with the times of their last change
    done = embed(tmp_path, model, "--output=old", "--quiet")
    assert done.returncode == 0, done.stderr
    records = [{"id": f"b{i}", "text": f"TEXT b {i}"} for i in range(100)]
    jobs.write_jsonl(tmp_path / "in" / "b.jsonl", records)
    left = [one for one in sound(tmp_path) if one.shard_id not in shards_of(tmp_path, "b.jsonl")]
    _, [one] = foreseen(tmp_path, model, "--reuse=old")
    assert (one["shards"], one["documents"]) == (len(left), sum(one.documents for one in left))
    assert 0 < len(left) < len(sound(tmp_path))


def shards_of(folder, source):
    """Ids of the shards that have something of a file."""
    plan = open_output(str(folder / "old")).plan
    return {one.shard_id for one in plan.shards if any(piece.source == source for piece in one.slices)}


def test_what_differs(home, model, save_model):
    _, [one] = foreseen(home, model, "--reuse=old", "--vector-dtype=float16")
    assert (one["fits"], one["shards"]) == (False, 0)
    assert one["differing"] == ["vector_dtype float32, not float16"]
    done = embed(home, model, "--output=new", "--dry-run", "--reuse=old", "--vector-dtype=float16")
    said = "reuse      old: none of its vectors fit: it has vector_dtype float32, not float16"
    assert done.stdout.splitlines()[-1] == said
    _, [one] = foreseen(home, save_model(window=8), "--reuse=old")
    assert one["fits"] is False
    assert one["differing"][0].startswith("model_digest ")
    _, [one] = foreseen(home, "https://example.invalid/model.tar.gz", "--reuse=old")
    assert (one["fits"], one["differing"]) == (None, [])
    # Vectors fit, and rows do not: what is kept is read anew.
    _, [one] = foreseen(home, model, "--reuse=old", "--keep-text")
    assert (one["fits"], one["shards"], one["documents"]) == (True, 0, 0)


def test_the_first_that_has_a_shard_has_it(home, model):
    _, [first, second] = foreseen(home, model, "--reuse=old", "--reuse=./old")
    assert (first["shards"], second["shards"], second["fits"]) == (len(sound(home)), 0, True)


@pytest.mark.slow
def test_receipts_that_cannot_be_read_are_said_once_and_their_shards_embedded_anew(home, model, tmp_path):
    shutil.copytree(home / "in", tmp_path / "in")
    shutil.copytree(home / "old", tmp_path / "old", copy_function=shutil.copy2)
    output = open_output(str(tmp_path / "old"))
    first, second, *left = sorted(output.receipts, key=lambda one: one.shard_id)
    receipts = [tmp_path / "old" / layout.receipt(one.shard_id) for one in (first, second)]
    receipts[0].write_bytes(receipts[0].read_bytes()[:100])
    receipts[1].write_bytes(b"")
    _, [one] = foreseen(tmp_path, model, "--reuse=old")
    assert (one["unreadable"], one["fits"]) == (2, True)
    done = embed(tmp_path, model, "--output=new", "--reuse=old")
    assert done.returncode == 0, done.stderr
    said = f"embedbeam: reuse old: 2 receipts cannot be read, e.g. {receipts[0]}; what these shards have is"
    assert [line for line in done.stderr.splitlines() if "receipt" in line or "finished" in line] == [
        f"{said} embedded anew"
    ]
    assert jobs.manifest(tmp_path / "new")["reused"] == sum(one.rows for one in left)
    assert jobs.rows(tmp_path / "new") == jobs.rows(home / "old")
    assert jobs.run(SCRIPT, "verify", tmp_path / "new").returncode == 0
    # The job's own receipts have other rules.
    done = jobs.run(SCRIPT, "verify", tmp_path / "old")
    assert (done.returncode, done.stdout.count("not a receipt")) == (1, 2)
    done = jobs.run(SCRIPT, "search", "old", "text", cwd=tmp_path)
    assert (done.returncode, "not a receipt" in done.stderr) == (1, True)


def test_a_previous_that_is_not_there(home, model):
    for flags in ([], ["--dry-run"]):
        done = embed(home, model, "--output=new", "--reuse=nowhere", *flags)
        expected = "no job here: expected the output folder of `embedbeam embed`\n"
        assert (done.returncode, done.stderr) == (2, f"embedbeam: error: --reuse {home}/nowhere: {expected}")
        assert not (home / "new").exists()
