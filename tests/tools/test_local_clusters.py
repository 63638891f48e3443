"""The local clusters of tools/clusters: they end with no process left. What they run: test_clusters.py."""

import contextlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

pytestmark = pytest.mark.runners

LOCAL = Path(__file__).resolve().parents[2] / "tools" / "clusters"


def clusters(*arguments):
    done = subprocess.run(
        [sys.executable, LOCAL / "clusters.py", *arguments], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


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
        code, said = clusters("up", "flink", f"--while={os.getpid()}")
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
    starter = start_shell(tmp_path)
    guard, shell, sleep = below(starter)
    assert (shell.name(), sleep.name()) == ("sh", "sleep")
    starter.terminate()
    assert starter.wait(15) == 143
    assert psutil.wait_procs([guard, shell, sleep], timeout=5)[1] == []


def start_shell(folder):
    """A process that starts a shell that starts `sleep`, when both are there."""
    script = (
        f"import sys, time; sys.path.append({str(LOCAL)!r})\n"
        "from pathlib import Path; from processes import Processes\n"
        f"p = Processes(); p.start(['sh', '-c', 'sleep 60 & wait'], log=Path({str(folder / 'log')!r}))\n"
        "time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script])
    wait_until(lambda: "sleep" in {process.name() for process in below(starter)})
    return starter


def below(process):
    """What a process has started, and what that has; the first ones first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return sorted(
            psutil.Process(process.pid).children(recursive=True), key=lambda p: (p.create_time(), p.pid)
        )
    return []


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_a_killed_starter_takes_all_with_it(tmp_path):
    starter = start_shell(tmp_path)
    started = below(starter)
    assert len(started) == 3
    starter.kill()
    starter.wait()
    assert psutil.wait_procs(started, timeout=5)[1] == []


# Starts a cluster and sends a job there whose workers, processes of the cluster's, never end.
STARTER = """
import subprocess, sys
from pathlib import Path
sys.path.append({folder!r})
from {module} import {cluster}
cluster = {cluster}(Path({work!r}))
job = [sys.executable, {test!r}, "forever", *cluster.options(), {more}]
print(subprocess.Popen(job, stderr=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("module", "cluster", "java"), [("flink", "FlinkCluster", 4), ("spark", "SparkCluster", 4 + 1)]
)
def test_a_killed_test_run_leaves_nothing(module, cluster, java, tmp_path):
    """The starter of a cluster dies by SIGKILL in the middle of a job: Java, executors, SDK workers end."""
    config = json.dumps({"command": str(Path(sys.executable).parent / "embedbeam-boot")})
    more = ["--environment_type=PROCESS", f"--environment_config={config}"]
    script = STARTER.format(
        folder=str(LOCAL),
        module=module,
        cluster=cluster,
        work=str(tmp_path),
        test=__file__,
        more=str(more)[1:-1],
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        client = psutil.Process(int(starter.stdout.readline()))
        wait_until(lambda: any("sdk_worker_main" in " ".join(command_of(p)) for p in below(starter)), 120)
        started = [process for process in below(starter) if process != client]
        commands = [command_of(process)[0] for process in started]
    finally:
        starter.kill()
        starter.wait()
    assert sum(command.endswith("java") for command in commands) >= java, commands
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert client.wait(60) != 0  # its job server is gone


def command_of(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline() or [""]
    return [""]


def test_up_that_is_killed_leaves_nothing():
    if clusters("status", "flink")[1] != "flink: not up\n":
        pytest.skip("a local Flink cluster of yours is up; this test would end it")
    command = subprocess.Popen([sys.executable, LOCAL / "clusters.py", "up", "flink"])
    try:
        wait_until(lambda: sum(process.name() == "java" for process in below(command)) >= 2)
        started = below(command)
    finally:
        command.kill()
        command.wait()
    assert psutil.wait_procs(started, timeout=20)[1] == []
    assert clusters("status", "flink") == (0, "flink: not up\n")


def test_a_cluster_that_is_up_ends_with_its_owner():
    if clusters("status", "flink")[1] != "flink: not up\n":
        pytest.skip("a local Flink cluster of yours is up; this test would end it")
    with subprocess.Popen(["sleep", "300"]) as owner:
        try:
            code, said = clusters("up", "flink", f"--while={owner.pid}")
            assert code == 0, said
            state = json.loads(run_folder().joinpath("state.json").read_text())
            processes = [psutil.Process(pid) for pid in (state["keeper"], *state["processes"])]
            processes += [child for process in processes[1:] for child in process.children(recursive=True)]
        finally:
            owner.kill()
    assert len(processes) == 9
    assert psutil.wait_procs(processes, timeout=20)[1] == []


def test_a_job_server_ends_with_a_launcher_that_is_killed(flink_cluster, tmp_path):
    """The one that Beam starts for --runner=FlinkRunner."""
    import jobs

    source = jobs.write_jsonl(tmp_path / "docs.jsonl", jobs.documents(5))
    model = jobs.save_slow_model(tmp_path / "model")
    master = [f"--flink_master={flink_cluster.master}", f"--flink_job_server_jar={flink_cluster.jar}"]
    command = [*jobs.EMBED, f"--input={source}", f"--output={tmp_path}/out", f"--model={model}"]
    with jobs.start(*command, "--runner=FlinkRunner", *master) as launcher:
        wait_until(lambda: any(process.name() == "java" for process in below(launcher)))
        (server,) = [process for process in below(launcher) if process.name() == "java"]
        launcher.kill()
    assert psutil.wait_procs([server], timeout=15)[1] == []


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


if __name__ == "__main__" and sys.argv[1] == "forever":
    with beam.Pipeline(options=PipelineOptions(sys.argv[2:], save_main_session=False)) as forever:
        _ = (
            forever
            | beam.Create(range(4))
            | beam.Reshuffle()
            | beam.Map(lambda _: __import__("time").sleep(600))
        )
