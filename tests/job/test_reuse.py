"""Vectors of an earlier output, taken over by the real command: the rows are those of a fresh run."""

import json
import random
import shutil

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


@pytest.fixture(scope="module")
def old(model, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("previous") / "old"
    embed(model, output, corpus / "old", "--quiet")
    return output


def again(model, corpus, output, previous, *flags):
    """Exit code, what is said, and how many documents were reused."""
    command = [*jobs.EMBED, "--input", corpus / "old", "--output", output, "--model", model, "--id-field=id"]
    flags = ["--keep-field=n", "--shard-bytes=4000", "--max-dead-letters=100%", *flags]
    done = jobs.run(*command, *flags, *(f"--reuse={one}" for one in previous))
    manifest = output / "_embedbeam" / "manifest.json"
    return done, json.loads(manifest.read_bytes())["reused"] if manifest.exists() else None


def test_what_does_not_fit_is_said_and_nothing_of_it_is_used(model, corpus, old, tmp_path):
    done, reused = again(model, corpus, tmp_path / "new", [old], "--vector-dtype=float16")
    assert (done.returncode, reused) == (0, 0)
    assert f"reuse {old}: none of its vectors fit: it has vector_dtype float32, not float16" in done.stderr


def test_no_output_and_the_own_one(model, corpus, old, tmp_path):
    done, _ = again(model, corpus, tmp_path / "new", [tmp_path])
    assert (done.returncode, "no job here" in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)
    done, _ = again(model, corpus, tmp_path / "new", [tmp_path / "new"])
    assert (done.returncode, "is the job's own output" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_and_damaged_one_serves_what_is_sound(model, corpus, old, tmp_path):
    shutil.copytree(old, tmp_path / "old")
    output = open_output(str(tmp_path / "old"))
    lost, damaged, *left = (receipt for receipt in output.receipts if receipt.part)
    (tmp_path / "old" / "_SUCCESS").unlink()
    (tmp_path / "old" / "_embedbeam" / "receipts" / f"{lost.shard_id}.json").unlink()
    part = tmp_path / "old" / damaged.part
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    done, reused = again(model, corpus, tmp_path / "new", [tmp_path / "old"])
    assert done.returncode == 0, done.stderr
    assert f"has not finished; its {len(output.receipts) - 1} committed shards serve" in done.stderr
    assert reused == sum(receipt.rows for receipt in left)
    assert f"of these {reused} documents have the vectors of an earlier output" in done.stdout + done.stderr
    assert table(tmp_path / "new") == table(old)


def test_of_two_outputs_each_serves_what_it_has(model, corpus, old, tmp_path):
    jobs.write_jsonl(tmp_path / "in" / "z.jsonl", [record(5, "changed"), record(1000)])
    embed(model, tmp_path / "other", tmp_path / "in", "--quiet", "--output-format=tfrecord")
    embed(model, tmp_path / "new", corpus / "new", "--quiet", "--reuse", old, "--reuse", tmp_path / "other")
    manifest = json.loads((tmp_path / "new" / "_embedbeam" / "manifest.json").read_bytes())
    assert manifest["reused"] == manifest["rows"] - 2  # d77 and d150


def test_a_shard_of_the_very_same_input_is_taken_over_whole(model, corpus, old, tmp_path, cli):
    """By one more name of its part file; what changed, died or is damaged is read."""
    flags = ["--id-field=id", "--keep-field=n", "--shard-bytes=4000", "--max-dead-letters=100%", "--quiet"]
    command = ["embed", f"--input={corpus / 'old'}", f"--model={model}", *flags]
    earlier = shutil.copytree(old, tmp_path / "old")
    receipts = [one for one in open_output(str(old)).receipts if one.part and not one.dead_letters]
    damaged = earlier / receipts[1].part
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    new = tmp_path / "new"
    assert cli(*command, f"--reuse={earlier}", f"--output={new}") == (0, "", "")
    linked = {one.part for one in receipts if (new / one.part).samefile(earlier / one.part)}
    assert linked == {one.part for one in receipts} - {damaged.name}
    assert table(new) == table(old)
    assert jobs.letters(new) == jobs.letters(old)
    # A day later the parts are still those of the first job, and say so.
    third = tmp_path / "third"
    assert cli(*command, f"--reuse={new}", f"--output={third}", "--trace") == (0, "", "")
    first, own = (open_output(str(path)).plan.job for path in (earlier, third))
    by = {one.part: one.written_by for one in open_output(str(third)).receipts}
    assert {by[part] for part in linked} == {first}
    assert by[damaged.name] == own
    assert table(third) == table(old)
    assert cli("verify", third)[0] == 0
    manifest = jobs.manifest(third)
    assert (manifest["reused"], manifest["embedded"]) == (manifest["rows"], 0)
    assert jobs.temporaries(third) == jobs.temporaries(new) == []


def test_other_rows_of_the_same_documents_are_not_taken_over(model, corpus, old, tmp_path, cli):
    """A field that is kept no more; a file that was written again with the same text."""
    flags = ["--id-field=id", "--shard-bytes=4000", "--max-dead-letters=100%", "--quiet"]
    command = ["embed", f"--model={model}", f"--reuse={old}", *flags]
    assert cli(*command, f"--input={corpus / 'old'}", f"--output={tmp_path / 'new'}") == (0, "", "")
    assert table(tmp_path / "new") == table(old, "n")
    assert {one["written_by"] for one in jobs.receipts(tmp_path / "new")} == {""}
    again = shutil.copytree(corpus / "old", tmp_path / "in", copy_function=shutil.copyfile)
    command += ["--keep-field=n", f"--input={again}", f"--output={tmp_path / 'newer'}"]
    assert cli(*command) == (0, "", "")
    assert table(tmp_path / "newer") == table(old)
    assert {one["written_by"] for one in jobs.receipts(tmp_path / "newer")} == {""}
    assert jobs.manifest(tmp_path / "newer")["reused"] == jobs.manifest(old)["rows"]


def test_the_shards_are_cut_as_they_were(model, tmp_path, cli):
    """A corpus that grew by a little has its old shards."""
    for number in range(4):
        jobs.write_jsonl(tmp_path / "in" / f"{number}.jsonl", [record(number * 1000 + i) for i in range(900)])
    command = ["embed", f"--input={tmp_path / 'in'}", f"--model={model}", "--id-field=id", "--quiet"]
    assert cli(*command, f"--output={tmp_path / 'old'}") == (0, "", "")
    jobs.write_jsonl(tmp_path / "in" / "9.jsonl", [record(9000 + i) for i in range(2000)])
    assert cli(*command, f"--output={tmp_path / 'new'}", f"--reuse={tmp_path / 'old'}") == (0, "", "")
    shards = {name: jobs.manifest(tmp_path / name)["options"]["shard_bytes"] for name in ("old", "new")}
    assert shards["old"] == shards["new"]
    taken = [one for one in jobs.receipts(tmp_path / "new") if one["written_by"]]
    assert len(taken) == len(jobs.receipts(tmp_path / "old"))
    assert jobs.manifest(tmp_path / "new")["embedded"] == 2000
