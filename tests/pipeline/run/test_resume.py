"""A second run: goes on, refuses, starts anew; and the same bytes whatever the order."""

import json
import os
import shutil
import subprocess

import jobs
import pytest

from pipeline import embed
from pipeline.run.finish import JobFailed
from transforms.errors import UsageError

OPTIONS = {"id_field": "id", "shard_bytes": 2000, "max_dead_letters": "10%"}


@pytest.fixture
def job(tmp_path, model):
    """The options of a small job that has been finished once."""
    for name in ("a", "b"):
        records = [{"id": f"{name}{i}", "text": f"{name} {i} " + "w " * (i % 20)} for i in range(60)]
        jobs.write_jsonl(tmp_path / "in" / f"{name}.jsonl", records)
    options = {"input": f"{tmp_path}/in", "output": str(tmp_path / "out"), "model": model, **OPTIONS}
    embed(**options)
    return options


def undo(output, *shards):
    """Takes receipts and the end marks away, as if the job had died; returns how many shards are left."""
    (output / "_SUCCESS").unlink(missing_ok=True)
    (output / "_embedbeam" / "manifest.json").unlink(missing_ok=True)
    for shard in shards:
        (output / "_embedbeam" / "receipts" / f"{shard}.json").unlink()


def test_committed_shards_are_not_read_again(job, tmp_path):
    out = tmp_path / "out"
    before = jobs.files(out)
    times = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}
    victim = next(r for r in jobs.receipts(out) if "b.jsonl" in json.dumps(plan_of(out, r["shard_id"])))
    only_b = plan_of(out, victim["shard_id"])["slices"]
    assert {piece[1] for piece in only_b} == {"b.jsonl"}
    undo(out, victim["shard_id"])
    (out / victim["part"]).unlink()
    (tmp_path / "in" / "a.jsonl").write_text("changed")
    result = embed(**job)
    assert result.rows == 120
    assert jobs.files(out) == before
    changed = {p.name for p in out.glob("part-*") if p.stat().st_mtime_ns != times[p.name]}
    assert changed == {victim["part"]}


def plan_of(output, shard_id):
    lines = (output / "_embedbeam" / "plan.jsonl").read_text().splitlines()[1:]
    return next(record for record in map(json.loads, lines) if record["shard"] == shard_id)


def test_a_finished_job_reads_nothing(job, tmp_path, monkeypatch):
    from pipeline.run import launch

    shutil.rmtree(tmp_path / "in")
    monkeypatch.setattr(launch, "start_loading", lambda *_: pytest.fail("the model was loaded"))
    before = (tmp_path / "out" / "_SUCCESS").stat().st_mtime_ns
    assert embed(**job).rows == 120
    assert (tmp_path / "out" / "_SUCCESS").stat().st_mtime_ns == before


def test_another_job_is_refused(job, tmp_path, save_model):
    other = save_model(window=8)
    before = jobs.files(tmp_path / "out")
    for change, says in [
        ({"input": f"{tmp_path}/in/a*"}, f"`input`: {tmp_path}/in there, {tmp_path}/in/a* here"),
        ({"id_field": None}, "`id_field`: id there, not given here"),
        ({"text_field": "body"}, "`text_field`: text there, body here"),
        ({"keep_field": ["n"]}, "`keep_field`: not given there, n here"),
        ({"keep_text": True}, "`keep_text`: False there, True here"),
        ({"limit": 5}, "`limit`: not given there, 5 here"),
        ({"long_documents": "truncate"}, "`long_documents`: mean there, truncate here"),
        ({"chunk_overlap": 1}, "`chunk_overlap`: 32 there, 1 here"),
        ({"vector_dtype": "float16"}, "`vector_dtype`: float32 there, float16 here"),
        ({"output_format": "tfrecord"}, "`output_format`: parquet there, tfrecord here"),
        ({"batch_tokens": 77}, "`batch_tokens`: 1000 there, 77 here"),
        ({"shard_bytes": 3000}, "`shard_bytes`: 2000 there, 3000 here"),
        ({"signature": "other"}, "`signature`: not given there, other here"),
        ({"model": other}, f"({other}) here"),
    ]:
        with pytest.raises(UsageError, match="belongs to another job") as e:
            embed(**(job | change))
        assert says in str(e.value)
        assert "`overwrite`" in str(e.value)
        assert "\n" not in str(e.value)
    assert jobs.files(tmp_path / "out") == before
    assert embed(**(job | {"batch_tokens": 1000, "max_dead_letters": 3})).rows == 120


def test_overwrite_deletes_its_own_files_alone(job, tmp_path):
    out = tmp_path / "out"
    old = jobs.files(out)
    (out / "_notes").write_text("mine")
    (out / "_dead_letters").mkdir(exist_ok=True)
    (out / "_dead_letters" / "mine.txt").write_text("mine")
    result = embed(**(job | {"overwrite": True, "limit": 30, "shard_bytes": 500}))
    assert result.rows == 30
    assert (out / "_notes").read_text() == (out / "_dead_letters" / "mine.txt").read_text() == "mine"
    assert not set(old) & set(jobs.files(out))
    assert len(list(out.glob("part-*"))) == result.parts
    assert len(jobs.rows(out)) == 30


def test_overwrite_with_a_mistake_deletes_nothing(job, tmp_path):
    before = jobs.files(tmp_path / "out")
    for change in (
        {"input": f"{tmp_path}/nowhere"},
        {"model": f"{tmp_path}/nowhere"},
        {"text_field": "body"},
    ):
        with pytest.raises(UsageError):
            embed(**(job | {"overwrite": True} | change))
    (tmp_path / "out" / "report.csv").write_text("mine")
    with pytest.raises(
        UsageError, match=r"holds 1 files or folders that embedbeam did not write, e\.g\. report\.csv"
    ):
        embed(**(job | {"overwrite": True}))
    assert jobs.files(tmp_path / "out") == before
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_output_that_is_no_place_for_a_job(corpus, model, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.parquet").write_text("x")
    (tmp_path / "empty").mkdir()
    for output, says in [
        ("file", "is a file; expected a folder"),
        ("file/out", "cannot be written"),
        ("mine", "holds 1 files or folders that embedbeam did not write, e.g. table.parquet"),
    ]:
        with pytest.raises(UsageError, match=says):
            embed(input=str(corpus), output=f"{tmp_path}/{output}", model=model)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["table.parquet"]
    with pytest.raises(UsageError, match="matches no file"):
        embed(input=f"{tmp_path}/nothing", output=f"{tmp_path}/empty", model=model)
    assert list((tmp_path / "empty").iterdir()) == []  # and the folder, which was there, is there


def test_a_second_job_at_the_same_time_is_refused(job, tmp_path):
    holder = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = str(tmp_path / "out" / "_embedbeam" / "lock")
    process = subprocess.Popen(
        [jobs.PYTHON, "-c", holder, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(JobFailed, match="another embedbeam is writing to it"):
            embed(**job)
        process.stdin.close()
    assert embed(**job).rows == 120


def test_orphaned_temporaries_are_swept(job, tmp_path):
    out = tmp_path / "out"
    undo(out, jobs.receipts(out)[0]["shard_id"])
    (out / "_embedbeam" / "tmp" / "part-x.parquet.0123").write_text("half a file")
    before = jobs.files(out)
    embed(**job)
    assert jobs.temporaries(out) == []
    assert jobs.files(out) == before


def test_each_receipt_stands_for_its_shard(job, tmp_path):
    """Deleting one receipt does that shard again, with the same bytes."""
    out = tmp_path / "out"
    before = jobs.files(out)
    for receipt in jobs.receipts(out)[::2]:
        undo(out, receipt["shard_id"])
        result = embed(**job)
        assert (result.rows, result.shards) == (120, len(jobs.receipts(out)))
        assert jobs.files(out) == before


def test_a_part_that_somebody_deleted(job, tmp_path, cli):
    out = tmp_path / "out"
    receipt = jobs.receipts(out)[0]
    before = jobs.files(out)
    (out / receipt["part"]).unlink()
    flags = ["embed", f"--input={tmp_path}/in", f"--output={out}", f"--model={job['model']}"]
    code, _, err = cli(*flags, "--id-field=id", "--max-dead-letters=10%")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{receipt['part']} is gone" in err
    assert not (out / "_SUCCESS").exists()
    (out / "_embedbeam" / "receipts" / f"{receipt['shard_id']}.json").unlink()
    assert cli(*flags, "--id-field=id", "--max-dead-letters=10%")[0] == 0
    assert jobs.files(out) == before


def test_two_runs_and_any_order_give_the_same_bytes(job, tmp_path):
    again = tmp_path / "again"
    embed(**(job | {"output": str(again)}))
    expected = jobs.files(tmp_path / "out")
    assert jobs.files(again) == expected
    for receipt in jobs.receipts(again)[1::2]:
        undo(again, receipt["shard_id"])
        (again / receipt["part"]).unlink()
    assert 1 < len(jobs.receipts(again)) < len(jobs.receipts(tmp_path / "out"))
    embed(**(job | {"output": str(again)}))  # every second shard, in another bundle
    assert jobs.files(again) == expected


def test_from_another_folder(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "out")
    embed(**(job | {"input": "in", "output": "out"}))
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    assert embed(**(job | {"input": "../in", "output": "../out"})).rows == 120


def test_names_that_would_break_a_line(tmp_path, model):
    """A plan is read line by line; its first line holds paths of the user's."""
    folder = tmp_path / "a\u2028b\x85c"
    jobs.write_jsonl(folder / "é\u2029.jsonl", [{"text": "fine"}])
    options = {"input": str(folder), "output": f"{tmp_path}/out", "model": model}
    embed(**options)
    assert [row["source"] for row in jobs.rows(tmp_path / "out")] == ["é\u2029.jsonl"]
    os.unlink(tmp_path / "out" / "_SUCCESS")
    assert embed(**options).rows == 1


def test_success_comes_last(finished):
    marks = [
        finished / "_embedbeam" / "plan.jsonl",
        finished / "_embedbeam" / "manifest.json",
        finished / "_SUCCESS",
    ]
    times = [path.stat().st_mtime_ns for path in marks]
    assert times == sorted(times)
    others = [p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()]
    assert max(others) == times[-1]


def test_the_manifest_explains_the_output(finished, model, corpus):
    manifest = jobs.manifest(finished)
    assert manifest["options"]["input"] == [str(corpus)]
    assert manifest["options"]["kept"] == [["n", "int64"]]
    assert (manifest["model"], manifest["dim"], manifest["dtype"]) == (model, 8, "float32")
    receipts = jobs.receipts(finished)
    assert manifest["tokens"] == sum(r["tokens"] for r in receipts)
    assert manifest["output_bytes"] == sum(p.stat().st_size for p in finished.glob("part-*"))
    assert set(manifest["versions"]) == {
        "python", "embedbeam", "apache-beam", "tensorflow", "tensorflow-text", "tensorflow-hub", "pyarrow",
    }  # fmt: skip
    import pyarrow.parquet as pq

    for part in finished.glob("part-*"):
        found = {
            k.decode(): v.decode()
            for k, v in pq.read_metadata(part).metadata.items()
            if k[:9] == b"embedbeam"
        }
        assert found == {
            "embedbeam.job": manifest["job"],
            "embedbeam.version": manifest["versions"]["embedbeam"],
            "embedbeam.model": model,
            "embedbeam.model_digest": manifest["model_digest"],
            "embedbeam.dim": "8",
            "embedbeam.dtype": "float32",
        }
