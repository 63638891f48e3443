"""A Flink 1.19 standalone cluster with Beam's job server, on 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path

from fetch import fetch_flink
from java import java, write_empty_jar
from processes import Processes, free_ports, listens

# Sizes of a JVM that only hands elements to and from SDK workers. Flink's shell script would compute them.
CONFIG = """\
jobmanager: {{bind-host: 127.0.0.1, rpc: {{address: 127.0.0.1, port: {rpc}}}}}
rest: {{address: 127.0.0.1, bind-address: 127.0.0.1, port: {rest}}}
blob: {{storage.directory: {folder}/blobs, service.cleanup.interval: 30}}
io.tmp.dirs: {folder}/tmp
classloader: {{resolve-order: parent-first, check-leaked-classloader: false}}
heartbeat: {{interval: 2000, timeout: 10000}}
slot.request.timeout: 60000
parallelism.default: {parallelism}
{restart}
taskmanager:
  host: 127.0.0.1
  bind-host: 127.0.0.1
  numberOfTaskSlots: {slots}
  cpu.cores: {slots}.0
  network.sort-shuffle.min-buffers: 32
  memory:
    framework: {{heap.size: 64m, off-heap.size: 64m}}
    task: {{heap.size: 192m, off-heap.size: 0b}}
    managed.size: 64m
    network: {{min: 96m, max: 96m}}
    jvm-metaspace.size: 192m
    jvm-overhead: {{min: 64m, max: 64m}}
"""
RESTART = "restart-strategy: {type: fixed-delay, fixed-delay: {attempts: 3, delay: 1 s}}"


class FlinkCluster:
    """A JobManager, TaskManagers and a Beam job server; ready when made.

    Args:
        folder: Where configuration, logs and temporary files go.
        task_managers: How many, each with `slots` slots.
        restart: Whether Flink restarts a job whose worker or TaskManager died (three times).
        environment: Variables for TaskManagers, and so for the SDK workers that they start.
    """

    def __init__(
        self,
        folder: Path,
        task_managers: int = 2,
        slots: int = 2,
        restart: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.jar = fetch_flink() / "job-server.jar"  # names all jars of Flink and Beam
        rpc, rest, job, artifacts, expansion = free_ports(5)
        self.rest = f"http://127.0.0.1:{rest}"
        self.master = f"127.0.0.1:{rest}"
        self.web = self.rest
        self.job_endpoint = f"127.0.0.1:{job}"
        self.artifact_endpoint = f"127.0.0.1:{artifacts}"
        self.task_managers: list[subprocess.Popen] = []
        self._started = 0
        self._environment = {**os.environ, **(environment or {})}
        self._write_config(
            rpc=rpc,
            rest=rest,
            slots=slots,
            parallelism=task_managers * slots,
            restart=RESTART if restart else "restart-strategy.type: none",
        )
        self._empty_jar = self.folder / "empty.jar"
        write_empty_jar(self._empty_jar)
        self.processes = Processes()
        self._start_java(
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            *("--configDir", str(self.folder / "conf"), "--executionMode", "cluster"),
            log="job-manager.log",
        )
        self._start_java(
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            f"--flink-master={self.master}",
            *("--job-host=127.0.0.1", f"--job-port={job}", f"--artifact-port={artifacts}"),
            *(f"--expansion-port={expansion}", f"--artifacts-dir={self.folder / 'artifacts'}"),
            log="job-server.log",
        )
        for _ in range(task_managers):
            self.start_task_manager()
        self.processes.wait_until(
            lambda: listens(job) and self.overview()["taskmanagers"] >= task_managers, what="Flink cluster"
        )

    def __enter__(self) -> FlinkCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_task_manager(self) -> subprocess.Popen:
        """Starts one more; it offers its slots when it has registered."""
        self._started += 1
        process = self._start_java(
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            *("--configDir", str(self.folder / "conf")),
            log=f"task-manager-{self._started}.log",
            environment=self._environment,
        )
        self.task_managers.append(process)
        return process

    def kill_task_manager(self, index: int) -> None:
        """Kills a TaskManager and its SDK workers with SIGKILL."""
        self.processes.kill(self.task_managers.pop(index))

    def overview(self) -> dict:
        return self._get("/overview")

    def jobs(self) -> list[dict]:
        """The jobs that the JobManager knows, with `jid`, `name` and `state`."""
        return self._get("/jobs/overview")["jobs"]

    def options(self) -> list[str]:
        """Pipeline options that send a job here.

        The cluster has the runner's jar already; an empty one stops Beam from sending 156 MB with each job.
        """
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--artifact_endpoint={self.artifact_endpoint}",
            f"--files_to_stage={self._empty_jar}",
        ]

    def stop(self) -> None:
        self.processes.stop()
        self.task_managers.clear()

    def _write_config(self, **values: object) -> None:
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "config.yaml").write_text(CONFIG.format(folder=self.folder, **values))

    def _start_java(
        self, main: str, *arguments: str, log: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen:
        command = java(main, *arguments, classpath=str(self.jar), heap="320m", folder=self.folder)
        return self.processes.start(command, log=self.folder / "log" / log, environment=environment)

    def _get(self, path: str) -> dict:
        with urllib.request.urlopen(self.rest + path, timeout=10) as answer:
            return json.load(answer)
