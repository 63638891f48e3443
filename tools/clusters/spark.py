"""A Spark 3.5 standalone cluster with Beam's job server, on 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path

from fetch import fetch_spark
from java import java, write_empty_jar
from processes import Processes, descendants, free_ports, listens

# An application's folder may hold a copy of all jars: a minute after its end it goes.
CLEANUP = tuple(f"-Dspark.worker.cleanup.{rest}" for rest in ("enabled=true", "interval=60", "appDataTtl=60"))


class SparkCluster:
    """A master, workers and a Beam job server; ready when made.

    Args:
        folder: Where logs, work and temporary files go.
        workers: How many, each with `cores` cores. A job's executors start with the job and end with it.
        environment: Variables for workers, and so for executors and the SDK workers that they start.
    """

    def __init__(
        self, folder: Path, workers: int = 2, cores: int = 2, environment: dict[str, str] | None = None
    ) -> None:
        self.folder = Path(folder).resolve()
        home = fetch_spark()
        self.jars = home / "jars"
        master, web, job, artifacts, expansion = free_ports(5)
        self.master = f"spark://127.0.0.1:{master}"
        self.web = f"http://127.0.0.1:{web}"
        self.job_endpoint = f"127.0.0.1:{job}"
        self.artifact_endpoint = f"127.0.0.1:{artifacts}"
        self.workers: list[subprocess.Popen] = []
        self._environment = {
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_SCALA_VERSION": "2.12",  # what load-spark-env.sh would set
            "SPARK_LOCAL_IP": "127.0.0.1",  # else the web ports listen on every address
            "SPARK_LOCAL_DIRS": str(self.folder / "tmp"),
        }
        self._empty_jar = self.folder / "empty.jar"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_empty_jar(self._empty_jar)
        self.processes = Processes()
        self._start_java(
            "org.apache.spark.deploy.master.Master",
            *("--host", "127.0.0.1", "--port", str(master), "--webui-port", str(web)),
            log="master.log",
        )
        self._start_java(
            "org.apache.beam.runners.spark.SparkJobServerDriver",
            f"--spark-master-url={self.master}",
            *("--job-host=127.0.0.1", f"--job-port={job}", f"--artifact-port={artifacts}"),
            *(f"--expansion-port={expansion}", f"--artifacts-dir={self.folder / 'artifacts'}"),
            log="job-server.log",
            options=(
                "-Dspark.driver.host=127.0.0.1",
                "-Dspark.ui.enabled=false",
                "-Dspark.executor.memory=512m",
            ),
        )
        self.processes.wait_until(lambda: listens(master), what="Spark master")
        for number in range(workers):
            worker = self._start_java(
                "org.apache.spark.deploy.worker.Worker",
                *("--host", "127.0.0.1", "--cores", str(cores), "--memory", "1g", "--webui-port", "0"),
                *("--work-dir", str(self.folder / f"work-{number + 1}"), self.master),
                log=f"worker-{number + 1}.log",
                options=CLEANUP,
                environment=environment,
            )
            self.workers.append(worker)
        self.processes.wait_until(
            lambda: listens(job) and len(self._get()["workers"]) >= workers, what="Spark cluster"
        )

    def __enter__(self) -> SparkCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def executors(self) -> list[int]:
        """The process ids of the running executors, in the order of their workers."""
        return [pid for worker in self.workers for pid in self._executors_of(worker)]

    def kill_worker_executor(self, index: int) -> None:
        """Kills an executor with SIGKILL, by its place in `executors()`; its worker starts another."""
        os.kill(self.executors()[index], 9)

    def applications(self) -> list[dict]:
        """The jobs that the master knows, with `id`, `name` and `state`; the running ones first."""
        state = self._get()
        return state["activeapps"] + state["completedapps"]

    def options(self) -> list[str]:
        """Pipeline options that send a job here.

        The executors have the runner's jars already; an empty jar stops Beam from sending them all again.
        """
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--artifact_endpoint={self.artifact_endpoint}",
            f"--files_to_stage={self._empty_jar}",
        ]

    def stop(self) -> None:
        self.processes.stop()
        self.workers.clear()

    def _start_java(
        self,
        main: str,
        *arguments: str,
        log: str,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen:
        classpath = f"{self.jars}/*"
        command = java(
            main, *arguments, classpath=classpath, heap="512m", folder=self.folder, options=options
        )
        environment = {**self._environment, **(environment or {})}
        return self.processes.start(command, log=self.folder / "log" / log, environment=environment)

    def _executors_of(self, worker: subprocess.Popen) -> list[int]:
        return [pid for pid in descendants(worker.pid) if b"ExecutorBackend" in _command_line(pid)]

    def _get(self) -> dict:
        with urllib.request.urlopen(self.web + "/json/", timeout=10) as answer:
            return json.load(answer)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
