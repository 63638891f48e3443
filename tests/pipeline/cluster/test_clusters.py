"""The real job with the default model on real Flink and Spark clusters and on Prism, killed in the middle."""

import csv
import os
import re
import shlex
import shutil
import signal
import sys
import time

import grpc
import jobs
import pytest
import remote

from benchmarks import bench_scaling
from pipeline.cluster.runners import job_name

pytestmark = pytest.mark.runners


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return remote.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def local(corpus, tmp_path_factory):
    """The output of a run on one machine."""
    output = tmp_path_factory.mktemp("local") / "out"
    done = jobs.run(*remote.command(corpus, output))
    assert done.returncode == 0, done.stderr
    assert len(jobs.files(output)) == 20
    return output


@pytest.fixture(autouse=True)
def no_sdk_worker_left():
    yield
    # One that starts while its runner goes waits 60 s for its options, and then 60 s for its work.
    end = time.monotonic() + 150
    while remote.sdk_workers() and time.monotonic() < end:
        time.sleep(0.2)
    assert remote.sdk_workers() == []


def flags_of(cluster, *flags):
    return [*cluster.options(), *remote.PROCESS, *flags]


def processes_of(output):
    """How many shards each process did."""
    return {
        (r["host"], r["pid"]): sum(s["pid"] == r["pid"] for s in jobs.receipts(output))
        for r in jobs.receipts(output)
    }


def finish(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out, err


def test_flink_runner_starts_its_job_server(flink_cluster, corpus, local, tmp_path, cli):
    """--runner=FlinkRunner: Beam starts the job server, and both TaskManagers do their part."""
    from fetch import fetch_flink

    jar = f"--flink_job_server_jar={fetch_flink() / 'job-server.jar'}"
    flags = ["--runner=FlinkRunner", f"--flink_master={flink_cluster.master}", jar, *remote.PROCESS]
    done = jobs.run(*remote.command(corpus, tmp_path / "out", *flags))
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    remote.check_finished(tmp_path / "out", local, cli)
    assert sorted(processes_of(tmp_path / "out").values()) == [10, 10]
    assert {r["attempt"] for r in jobs.receipts(tmp_path / "out")} == {1}


def write_records(path, records):
    """A file of records with `id` and `text`, in the format that its name tells."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf

    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    if path.suffix == ".jsonl":
        jobs.write_jsonl(path, records)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".tfrecord":
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                features = {name: feature(value) for name, value in record.items()}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(
                stream, ["id", "text"], dialect={".csv": "excel", ".tsv": "excel-tab"}[path.suffix]
            )
            writer.writeheader()
            writer.writerows(records)


def test_every_format_in_a_fresh_worker(flink_cluster, model, tmp_path, cli):
    """Workers start for each job: Parquet has one of its own, for a worker that has no pyarrow yet."""
    wanted = {}  # job: texts by id
    for job, kinds in {"columns": ("parquet",), "fields": ("jsonl", "csv", "tsv", "tfrecord")}.items():
        wanted[job] = {}
        (tmp_path / job).mkdir()
        for kind in kinds:
            records = [{"id": f"{kind}-{i}", "text": f'Die "{kind}" Nummer, {i} Stück'} for i in range(5)]
            write_records(tmp_path / job / f"docs.{kind}", records)
            wanted[job] |= {record["id"]: record["text"] for record in records}
    lines = [f"line, {i} Stück" for i in range(3)]
    for job in ("txt", "lines"):
        (tmp_path / job).mkdir()
        for name in ("a", "b"):
            (tmp_path / job / f"{name}.txt").write_text("".join(f"{name} {line}\n" for line in lines))
    wanted["txt"] = {f"{name}.txt": "".join(f"{name} {line}\n" for line in lines) for name in ("a", "b")}
    ids = ["--id-field=id"]
    workers = [os.getpid()]
    for job, own in {"columns": ids, "fields": ids, "txt": [], "lines": ["--input-format=lines"]}.items():
        output = tmp_path / f"{job}-out"
        flags = flags_of(flink_cluster, "--parallelism=1", f"--model={model}", "--keep-text", "--quiet", *own)
        assert cli("embed", f"--input={tmp_path / job}", f"--output={output}", *flags) == (0, "", "")
        rows = jobs.rows(output)
        if job == "lines":
            assert [row["text"] for row in rows] == [
                f"{name} {line}" for name in ("a", "b") for line in lines
            ]
        else:
            assert {row["doc_id"]: row["text"] for row in rows} == wanted[job]
        for row in rows:
            assert row["embedding"] == pytest.approx(jobs.expected_vector(row["text"]), abs=1e-6)
        workers += {receipt["pid"] for receipt in jobs.receipts(output)}
    assert len(set(workers)) == len(workers) == 5  # a process for each job, and none of them this one


def test_flink_goes_on_when_an_sdk_worker_is_killed(flink_cluster, corpus, local, tmp_path, cli):
    output = tmp_path / "out"
    with jobs.start(*remote.command(corpus, output, *flags_of(flink_cluster, "--parallelism=4"))) as process:
        before = remote.wait_for_receipts(output, process)
        dead = remote.kill_sdk_worker(output)
        finish(process)
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)
    again = [r for r in jobs.receipts(output) if r["attempt"] > 1]
    assert again
    assert dead not in {r["pid"] for r in again}


def test_flink_goes_on_when_a_task_manager_is_killed(flink_cluster, corpus, local, tmp_path, cli):
    output = tmp_path / "out"
    with jobs.start(*remote.command(corpus, output, *flags_of(flink_cluster, "--parallelism=4"))) as process:
        before = remote.wait_for_receipts(output, process)
        flink_cluster.kill_task_manager(0)
        flink_cluster.start_task_manager()
        finish(process)
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)
    assert max(receipt["attempt"] for receipt in jobs.receipts(output)) > 1


def test_ctrl_c_on_flink_then_resumed_on_spark(flink_cluster, spark_cluster, corpus, local, tmp_path, cli):
    output = tmp_path / "out"
    flags = flags_of(flink_cluster, "--parallelism=4")
    with jobs.start(*remote.command(corpus, output, *flags), start_new_session=True) as process:
        before = remote.wait_for_receipts(output, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (name,) = {job["name"] for job in flink_cluster.jobs() if job["name"] in err}
    assert [j["state"] for j in flink_cluster.jobs() if j["name"] == name] == ["CANCELED"]
    assert f"embedbeam: stopping: job {name} is being cancelled\n" in err
    said = re.search(rf"embedbeam: stopped; (\d+) of 20 shards are committed in {output}. To go on:\n", err)
    assert len(before) <= int(said[1]) <= len(jobs.receipts(output))  # a dying worker may commit one more
    assert shlex.split(err.splitlines()[-1])[:2] == [sys.executable, "-m"]
    assert "Traceback" not in err
    finish(jobs.start(*remote.command(corpus, output, *flags_of(spark_cluster))))
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)


def known_to_job_server(cluster, name):
    from apache_beam.portability.api import beam_job_api_pb2 as api
    from apache_beam.portability.api import beam_job_api_pb2_grpc as services

    with grpc.insecure_channel(cluster.job_endpoint) as channel:
        found = services.JobServiceStub(channel).GetJobs(api.GetJobsRequest(), timeout=10).job_info
    return any(job.job_id.startswith(name) for job in found)


def test_ctrl_c_while_the_job_is_on_its_way(flink_cluster, model, corpus, tmp_path):
    """The job server says at once that it has cancelled the job, and sends it to Flink all the same."""
    output = tmp_path / "out"
    name = job_name(str(output))
    flags = flags_of(flink_cluster, "--parallelism=4", f"--model={model}")
    with jobs.start(*remote.command(corpus, output, *flags), start_new_session=True) as process:
        jobs.wait_for(lambda: known_to_job_server(flink_cluster, name), process)
        assert name not in {job["name"] for job in flink_cluster.jobs()}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "embedbeam: stopped; 0 of 20 shards are committed" in err
    assert {job["state"] for job in flink_cluster.jobs() if job["name"] == name} <= {"CANCELED"}


def test_spark_goes_on_when_an_sdk_worker_is_killed(spark_cluster, corpus, local, tmp_path, cli):
    output = tmp_path / "out"
    with jobs.start(*remote.command(corpus, output, *flags_of(spark_cluster))) as process:
        before = remote.wait_for_receipts(output, process, workers=2)  # one for each executor
        remote.kill_sdk_worker(output)
        finish(process)
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)
    assert max(receipt["attempt"] for receipt in jobs.receipts(output)) > 1


def test_spark_runner_goes_on_when_an_executor_is_killed(spark_cluster, corpus, local, tmp_path, cli):
    """--runner=SparkRunner: Beam starts the job server."""
    from fetch import fetch_spark

    output = tmp_path / "out"
    jar = f"--spark_job_server_jar={fetch_spark() / 'job-server.jar'}"
    flags = ["--runner=SparkRunner", f"--spark_master_url={spark_cluster.master}", jar, *remote.PROCESS]
    with jobs.start(*remote.command(corpus, output, *flags)) as process:
        before = remote.wait_for_receipts(output, process)
        spark_cluster.kill_worker_executor(0)
        finish(process)
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)


def test_sigterm_on_spark_then_resumed_here(spark_cluster, corpus, local, tmp_path, cli):
    output = tmp_path / "out"
    command = remote.command(corpus, output, *flags_of(spark_cluster))
    with jobs.start(*command, start_new_session=True) as process:
        before = remote.wait_for_receipts(output, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "is being cancelled" in err
    jobs.wait_for(lambda: not any(a["state"] == "RUNNING" for a in spark_cluster.applications()), alive(), 30)
    finish(jobs.start(*remote.command(corpus, output)))
    remote.check_finished(output, local, cli)
    remote.check_not_again(before, output)


def alive():
    class Alive:
        def poll(self):
            return None

    return Alive()


def fails_within_a_minute(process):
    """A job without a restart strategy, from which something was just killed: exit code 1 and one line."""
    killed = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert (process.returncode, out) == (1, "")
    (line,) = [line for line in err.splitlines() if " shards, " not in line]
    assert line.startswith("embedbeam: error: a worker died: ")


@pytest.fixture(scope="module")
def no_restarts(tmp_path_factory):
    """A Flink cluster of one TaskManager that restarts nothing."""
    from flink import FlinkCluster

    folder = tmp_path_factory.mktemp("no-restarts")
    with FlinkCluster(folder, task_managers=1, slots=3, restart=False) as cluster:
        yield cluster


def test_workers_that_cannot_start(no_restarts, model, corpus, tmp_path, free_port):
    """An image, a pool, a boot command that isn't there: one line each, within a minute."""
    false = shutil.which("false")
    said = {
        ("DOCKER", "localhost/no-such-image:1"): "the workers' containers cannot be started: ",
        ("EXTERNAL", f"localhost:{free_port}"): "workers cannot be reached: ",
        ("PROCESS", f'{{"command": "{false}"}}'): "the boot command of --environment_config does not start ",
    }
    started = {}
    for kind, config in said:
        flags = ["--shared-filesystem", f"--environment_type={kind}", f"--environment_config={config}"]
        flags += [*no_restarts.options(), f"--model={model}", "--parallelism=1", "--quiet"]
        started[kind, config] = jobs.start(*remote.command(corpus, tmp_path / kind, *flags))
    for key, process in started.items():
        out, err = process.communicate(timeout=120)
        line = err.splitlines()[-1]
        assert (process.returncode, out, line.startswith(f"embedbeam: error: {said[key]}")) == (
            1,
            "",
            True,
        ), err
        assert [other for other in err.splitlines()[:-1] if not other.startswith("embedbeam: note: ")] == []


def test_a_workers_own_error(no_restarts, save_model, corpus, tmp_path):
    """It comes back through Java's traces, in its own words."""
    model = save_model(breaks=True)
    flags = [*flags_of(no_restarts, "--parallelism=1", "--quiet"), f"--model={model}"]
    done = jobs.run(*remote.command(corpus, tmp_path / "out", *flags))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert re.match(r"embedbeam: error: .*broken model", done.stderr), done.stderr
    assert "while running" not in done.stderr
    assert "embedbeam-error" not in done.stderr


def test_a_worker_pool_and_no_restart_strategy(no_restarts, corpus, local, tmp_path, cli, free_port):
    """EXTERNAL: a pool beside the TaskManager. What is killed ends the job, and one resume finishes it."""
    cluster, output = no_restarts, tmp_path / "out"
    pool = [jobs.PYTHON, "-m", "pipeline.cluster.worker_pool", f"--port={free_port}"]
    with jobs.start(*pool) as pool_process:
        external = ["--environment_type=EXTERNAL", f"--environment_config=localhost:{free_port}"]
        flags = [*cluster.options(), "--shared-filesystem", *external, "--parallelism=2"]
        try:
            said = pool_process.stderr.readline()
            assert said == f"embedbeam-worker-pool: listening on 127.0.0.1:{free_port}\n"
            with jobs.start(*remote.command(corpus, output, *flags)) as process:
                before = remote.wait_for_receipts(output, process)
                remote.kill_sdk_worker(output)
                fails_within_a_minute(process)
            assert not (output / "_SUCCESS").exists()
            with jobs.start(*remote.command(corpus, output, *flags)) as process:
                more = remote.wait_for_receipts(output, process, count=len(before) + 3)
                cluster.kill_task_manager(0)
                fails_within_a_minute(process)
        finally:
            pool_process.terminate()
            assert pool_process.wait(30) == 0
        cluster.start_task_manager()
        jobs.wait_for(lambda: cluster.overview()["slots-available"] == 3, alive())
        loopback = ["--environment_type=LOOPBACK", "--parallelism=2"]
        finish(jobs.start(*remote.command(corpus, output, *cluster.options(), *loopback)))
    remote.check_finished(output, local, cli)
    remote.check_not_again(before | more, output)


def test_prism(corpus, local, tmp_path, cli):
    from fetch import fetch_prism

    flags = ["--runner=PrismRunner", f"--prism_location={fetch_prism()}"]
    done = jobs.run(*remote.command(corpus, tmp_path / "out", *flags))
    assert done.returncode == 0, done.stderr
    remote.check_finished(tmp_path / "out", local, cli)


def test_two_runs_on_one_folder(flink_cluster, corpus, tmp_path, cli, monkeypatch):
    """A launcher that dies leaves its job behind: the same command waits for it, and embeds nothing twice."""
    output = tmp_path / "out"
    # 50 s for each of two processes, in which the second launcher starts, however busy the machine is.
    monkeypatch.setattr(bench_scaling, "SECONDS", 0.05)
    bench_scaling.save_sleeping_model(tmp_path / "model")
    slow = [f"--model={tmp_path / 'model'}", "--batch-tokens=40", "--parallelism=4"]
    command = remote.command(corpus, output, *flags_of(flink_cluster, *slow))
    with jobs.start(*command) as process:
        remote.wait_for_receipts(output, process, count=1)
        process.kill()
    (left,) = [job for job in flink_cluster.jobs() if job["state"] == "RUNNING"]
    out, err = finish(jobs.start(*command))
    assert f"of an earlier run is still at work on {output}; waiting for its end" in err
    assert "nothing was left to do: everything is committed" in out
    assert [j["state"] for j in flink_cluster.jobs() if j["name"] == left["name"]] == ["FINISHED"]
    assert {receipt["attempt"] for receipt in jobs.receipts(output)} == {1}
    assert cli("verify", output)[0] == 0
