"""`--trace`: what each mini-batch cost, once for each committed shard, beside the same bytes."""

import json
import os
import re
import shutil
import signal

import jobs
import pyarrow.dataset as ds
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from transforms.storage.files import use_options


def command(corpus, model, output):
    return ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS, "--trace"]


def lines(output):
    found = ds.dataset(str(output / "_embedbeam" / "trace"), format="parquet", exclude_invalid_files=True)
    return sorted(found.to_table().to_pylist(), key=lambda line: (line["shard"], line["number"]))


def events(output):
    """How many mini-batches TensorBoard shows."""
    runs = (output / "_embedbeam" / "trace" / "tensorboard").iterdir()
    return sum(len(EventAccumulator(str(run)).Reload().Scalars("mini_batch/seconds")) for run in runs)


def check_lines(output):
    """Each committed shard has its mini-batches, once, and nothing else has any."""
    receipts = {r["shard_id"]: r for r in jobs.receipts(output)}
    found = lines(output)
    by_shard = {i: [line for line in found if line["shard"] == i] for i in receipts}
    assert {line["shard"] for line in found} == {i for i, r in receipts.items() if r["mini_batches"]}
    for shard_id, receipt in receipts.items():
        numbers = [line["number"] for line in by_shard[shard_id]]
        assert numbers == list(range(receipt["mini_batches"]))
        assert sum(line["retries"] for line in by_shard[shard_id]) == receipt["retries"]
    return found


def test_a_traced_job_has_the_same_bytes_and_a_line_a_mini_batch(corpus, model, finished, tmp_path, cli):
    output = tmp_path / "out"
    code, out, err = cli(*command(corpus, model, output))
    assert (code, err) == (0, "")
    assert jobs.files(output) == jobs.files(finished)
    found = check_lines(output)
    assert events(output) == len(found)
    assert sum(line["retries"] for line in found) > 0  # the poison text is found by bisection
    manifest = jobs.manifest(output)
    embedded = manifest["documents"] - sum(
        count for why, count in manifest["dead_letters"].items() if why != "the model refuses it"
    )
    assert sum(line["chunks"] for line in found) >= embedded
    assert all(0 <= line["padding"] < 1 and line["seconds"] > 0 for line in found)
    assert {line["pid"] for line in found} == {os.getpid()}
    assert manifest["mini_batches"] == len(found)
    waited = manifest["model_waited"]
    idle = sum(line["idle_seconds"] for line in found)
    assert waited["processes"] == 1
    assert waited["share"] == waited["most"]
    span = sum(r["model_span"] for r in jobs.receipts(output))
    assert waited["share"] == pytest.approx(idle / span, abs=1e-3)
    said = f"trace: {len(found)} mini-batches, {manifest['retries']} retries in {output}/_embedbeam/trace/"
    assert said in out
    assert re.search(r"in the model; the model waited \d+\.\d% of its time", out)
    assert cli("verify", output)[0] == 0


def test_numbers_of_the_run_tell_how_much_the_model_waited(corpus, model, tmp_path, cli):
    output = tmp_path / "out"
    code, out, _ = cli(*command(corpus, model, output)[:-1], "--json")
    record = json.loads(out)
    assert code == 0
    assert 0 <= record["run"]["model_waited"] <= 1
    assert record["model_waited"]["share"] == pytest.approx(record["run"]["model_waited"], abs=2e-4)
    assert not (output / "_embedbeam" / "trace").exists()


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), [("after rename part", 3), ("after rename receipt", 2)])
def test_killed_and_started_again_no_line_is_doubled(point, count, corpus, model, finished, tmp_path, cli):
    output = tmp_path / "out"
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, count, *command(corpus, model, output))
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert cli(*command(corpus, model, output))[0] == 0
    assert jobs.files(output) == jobs.files(finished)
    assert jobs.temporaries(output) == []
    found = check_lines(output)
    assert len(found) - 40 <= events(output) <= len(found)  # those of one shard may be lost


def test_a_job_that_begins_anew_forgets_the_old_traces(corpus, model, tmp_path, cli):
    output = tmp_path / "out"
    assert cli(*command(corpus, model, output))[0] == 0
    before = len(lines(output))
    assert cli(*command(corpus, model, output), "--overwrite", "--batch-tokens=40")[0] == 0
    assert len(check_lines(output)) > before
    assert cli(*command(corpus, model, output)[:-1], "--overwrite")[0] == 0
    assert not (output / "_embedbeam" / "trace").exists()


@pytest.mark.stores
def test_traces_lie_in_stores_too(corpus, model, tmp_path, monkeypatch):
    with stores.s3_server() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        try:
            done = jobs.run(*jobs.EMBED, *command(corpus, model, store.url("out"))[1:], *store.flags())
            assert (done.returncode, done.stderr) == (0, "")
            for key, data in store.objects().items():
                (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / key).write_bytes(data)
            assert events(tmp_path / "out") == len(check_lines(tmp_path / "out")) > 0
            again = command(corpus, model, store.url("out"))[1:-1]
            done = jobs.run(*jobs.EMBED, *again, *store.flags(), "--overwrite")
            assert (done.returncode, done.stderr) == (0, "")
            assert not [key for key in store.objects() if "trace" in key]
        finally:
            use_options(PipelineOptions([]))
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
