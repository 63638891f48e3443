"""The local clusters of tools/clusters: they run jobs, by both ways in, and end with no process left."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

pytestmark = pytest.mark.runners

LOCAL = Path(__file__).parents[1] / "tools" / "clusters"
SUMS = {"0": 3 * sum(range(0, 20, 3)), "1": 3 * sum(range(1, 20, 3)), "2": 3 * sum(range(2, 20, 3))}


def write_sum(pair, folder):
    Path(folder, str(pair[0])).write_text(str(sum(pair[1])))


def run_small_pipeline(folder, arguments):
    """Sums of 0, 3, .. 57 by three keys, a file for each; a shuffle on the way."""
    with beam.Pipeline(options=PipelineOptions(arguments, save_main_session=False)) as root:
        numbers = root | beam.Create(range(20)) | beam.Map(lambda x: (x % 3, 3 * x))
        _ = numbers | beam.GroupByKey() | beam.Map(write_sum, folder=folder)


def sums(folder, *arguments, environment=None):
    """Runs the small pipeline in a process of its own: Beam's job server lives as long as its process."""
    folder.mkdir()
    command = [sys.executable, __file__, str(folder), *arguments, "--environment_type=LOOPBACK"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.name: int(path.read_text()) for path in folder.iterdir()}


def clusters(*arguments):
    done = subprocess.run(
        [sys.executable, LOCAL / "clusters.py", *arguments], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_flink_by_job_endpoint(flink_cluster, tmp_path):
    assert sums(tmp_path / "out", *flink_cluster.options(), "--parallelism=4") == SUMS
    assert [job["state"] for job in flink_cluster.jobs()] == ["FINISHED"]
    assert flink_cluster.overview()["slots-total"] == 4


def test_spark_by_job_endpoint(spark_cluster, tmp_path):
    assert sums(tmp_path / "out", *spark_cluster.options()) == SUMS
    assert [job["state"] for job in spark_cluster.applications()] == ["FINISHED"]
    assert spark_cluster.executors() == []


def test_flink_runner_with_the_pathing_jar(flink_cluster, tmp_path):
    master = [f"--flink_master={flink_cluster.master}", f"--flink_job_server_jar={flink_cluster.jar}"]
    assert sums(tmp_path / "out", "--runner=FlinkRunner", *master, "--parallelism=4") == SUMS


def test_spark_runner_with_the_pathing_jar(spark_cluster, tmp_path):
    jar = spark_cluster.jars.parent / "job-server.jar"
    master = [f"--spark_master_url={spark_cluster.master}", f"--spark_job_server_jar={jar}"]
    loopback = {"SPARK_LOCAL_IP": "127.0.0.1"}  # where Spark's driver, in the job server, listens
    assert sums(tmp_path / "out", "--runner=SparkRunner", *master, environment=loopback) == SUMS


def test_a_killed_task_manager_is_replaced(tmp_path):
    from flink import FlinkCluster

    with FlinkCluster(tmp_path, task_managers=1) as cluster:

        def ids():
            return [manager["id"] for manager in cluster._get("/taskmanagers")["taskmanagers"]]

        first = ids()
        assert len(first) == 1
        cluster.kill_task_manager(0)
        assert cluster.task_managers == []
        cluster.start_task_manager()
        # The dead one counts until its heartbeat times out.
        cluster.processes.wait_until(lambda: len(ids()) == 1 and ids() != first, what="the new TaskManager")


def test_up_and_down_leave_no_process():
    if clusters("status", "flink")[1] != "flink: not up\n":
        pytest.skip("a local Flink cluster of yours is up; this test would end it")
    try:
        code, said = clusters("up", "flink")
        assert code == 0, said
        assert "--runner=PortableRunner --job_endpoint=127.0.0.1:" in said
        state = json.loads(run_folder().joinpath("state.json").read_text())
        processes = [psutil.Process(pid) for pid in (state["keeper"], *state["processes"])]
        assert [process.is_running() for process in processes] == [True] * 5
        assert clusters("up", "flink") == (0, said.replace("flink: up\n", "flink: already up\n"))
        assert "4 of 4 processes run" in clusters("status", "flink")[1]
    finally:
        assert clusters("down", "flink") == (0, "flink: down\n")
    assert [process for process in processes if runs(process)] == []
    assert clusters("down", "flink") == (0, "flink: not up\n")


def test_a_process_that_ends_is_reported_with_its_last_lines(flink_cluster, tmp_path):
    from processes import Processes, StartError

    processes = Processes()
    processes.start(["sleep", "60"], log=tmp_path / "sleep.log")
    processes.start(["sh", "-c", "echo the reason; exit 3"], log=tmp_path / "sh.log")
    with pytest.raises(
        StartError, match=r"(?s)thing: a process ended with code 3; .*sh\.log ends with:\nthe reason"
    ):
        processes.wait_until(lambda: False, what="thing")
    assert processes.pids() == []


def test_sigterm_ends_what_was_started(tmp_path):
    script = (
        f"import sys, time; sys.path.append({str(LOCAL)!r})\n"
        "from pathlib import Path; from processes import Processes\n"
        f"p = Processes(); p.start(['sh', '-c', 'sleep 60 & wait'], log=Path({str(tmp_path / 'log')!r}))\n"
        "time.sleep(0.5); print(*p.pids(), flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    shell = psutil.Process(int(starter.stdout.readline()))
    both = [shell, *shell.children()]
    assert len(both) == 2
    starter.terminate()
    assert starter.wait(15) == 143
    assert psutil.wait_procs(both, timeout=5)[1] == []


def test_a_missing_program_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, LOCAL / "fetch.py", "prism", "flink"],
        env={"PATH": "", "EMBEDBEAM_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: prism: `go` is not on the PATH; install it and run this again",
        "error: `java` is not on the PATH; install Java 17 and run this again",
    ]
    assert [path.name for path in (tmp_path / "clusters").iterdir()] == []


def test_the_pathing_jar_names_every_jar(flink_cluster):
    with zipfile.ZipFile(flink_cluster.jar) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF")
    assert max(len(line) for line in manifest.splitlines(keepends=True)) <= 72
    fields = dict(
        line.split(": ", 1) for line in manifest.decode().replace("\r\n ", "").split("\r\n") if line
    )
    assert fields["Class-Path"].split() == [
        path.as_uri() for path in sorted((flink_cluster.jar.parent / "lib").iterdir())
    ]


def runs(process):
    """Whether it runs; one that ended may wait a while for the system to take it off the list."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def run_folder():
    import fetch

    return fetch.CLUSTERS / "run" / "flink"


if __name__ == "__main__":
    run_small_pipeline(sys.argv[1], sys.argv[2:])
