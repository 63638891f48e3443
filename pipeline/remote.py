"""A job on a cluster: found by its name, watched, cancelled."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from pipeline import runners
from pipeline.finish import JobFailed
from pipeline.options import Options
from pipeline.probe import flink_get

_LOG = logging.getLogger(__name__)
_CANCEL_SECONDS = 20.0
_ENDED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "FINISHED", "CANCELED", "UPDATED", "STOPPED")


class RemoteJob:
    """One job that this launcher sends to a cluster.

    Attributes:
      name: the job's name there, made of its output folder.
      remote: whether there is a cluster at all.
      result: Beam's handle of the job, once it is submitted.
    """

    def __init__(self, options: Options):
        given = runners.beam_options(options).get_all_options()
        self.remote = options.runner not in runners.LOCAL
        self.name: str = given["job_name"]
        self.result: Any = None
        self._servers: list[Any] = []
        endpoint, master = given["job_endpoint"], given["flink_master"]
        self._endpoint = endpoint if endpoint != "embed" else None
        own = options.runner == "FlinkRunner" and not endpoint and _is_flink(master)
        self._rest = _url(master) if own else None

    def running(self) -> list[str]:
        """Ids of jobs of this name that the cluster has and that have not ended."""
        found = []
        if self._endpoint:
            with _job_service(self._endpoint) as (service, api):
                mine = [
                    j
                    for j in service.GetJobs(api.GetJobsRequest(), timeout=10).job_info
                    if self._is_mine(j.job_id)
                ]
            found = [j.job_id for j in mine if api.JobState.Enum.Name(j.state) not in _ENDED]
            # A job server takes a batch job for cancelled that goes on at Flink: so Flink is asked, too.
            masters = [j.pipeline_options.fields["beam:option:flink_master:v1"].string_value for j in mine]
            self._rest = next((_url(master) for master in masters if _is_flink(master)), None)
        if self._rest:
            jobs = (flink_get(self._rest, "/jobs/overview") or {}).get("jobs", [])
            found += [j["jid"] for j in jobs if self._is_mine(j["name"]) and j["state"] not in _ENDED]
        return found

    def _is_mine(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}_")  # job servers add an id of their own

    def refuse_twin(self, output: str) -> None:
        """Raises JobFailed if an earlier run's job still works on the same folder.

        A launcher that died leaves its job behind: a second one beside it would embed everything twice.
        """
        found = self.running()
        if found:
            raise JobFailed(
                f"--output {output}: job {found[0]} of an earlier run is still at work on it; wait for it and"
                " run the same command again, or cancel it at the cluster"
            )

    def adopt_server(self, runner: Any) -> None:
        """Remembers the job server that a runner starts, to end it with the job."""
        make = getattr(runner, "default_job_server", None)
        if make is None:
            return

        def remembered(options: Any) -> Any:
            server = make(options)
            self._servers.append(server)
            start = server.start

            def started() -> Any:
                handler = signal.getsignal(signal.SIGINT)
                stub = start()
                # Beam's handler ends the job server first, and then nobody is there to cancel the job.
                signal.signal(signal.SIGINT, handler)
                return stub

            server.start = started
            return server

        runner.default_job_server = remembered

    def cancel(self) -> bool:
        """Cancels the job and waits until it is gone. Returns whether it is."""
        deadline = time.monotonic() + _CANCEL_SECONDS
        if self.result is not None:
            with contextlib.suppress(Exception):  # the job server may have died of the same Ctrl-C
                self.result.cancel()
        while True:
            try:
                found = self.running()
            except Exception:
                _LOG.info("the cluster does not tell whether job %s runs", self.name, exc_info=True)
                found = [self.name] if time.monotonic() < deadline else []
            if not found:
                return True
            for job_id in found:
                with contextlib.suppress(Exception):
                    self._cancel_id(job_id)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)

    def _cancel_id(self, job_id: str) -> None:
        if self._rest:
            request = urllib.request.Request(f"{self._rest}/jobs/{job_id}?mode=cancel", method="PATCH")
            urllib.request.urlopen(request, timeout=10).close()
        if self._endpoint and job_id.startswith(f"{self.name}_"):
            with _job_service(self._endpoint) as (service, api):
                service.Cancel(api.CancelJobRequest(job_id=job_id), timeout=10)

    def stop_servers(self) -> None:
        """Ends the job servers that Beam started for this job."""
        for server in self._servers:
            with contextlib.suppress(Exception):
                server.stop()


def _is_flink(master: str) -> bool:
    return bool(master) and master.strip("[]") not in ("auto", "local")


def _url(master: str) -> str:
    return (master if "://" in master else f"http://{master}").rstrip("/")


@contextlib.contextmanager
def _job_service(endpoint: str) -> Iterator[tuple[Any, Any]]:
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        yield beam_job_api_pb2_grpc.JobServiceStub(channel), beam_job_api_pb2


@contextlib.contextmanager
def loopback(pipeline_options: Any) -> Iterator[None]:
    """Serves SDK workers of this process, as LOOPBACK asks for, on 127.0.0.1.

    Beam's own listens on all interfaces, to whoever can reach them.
    """
    from apache_beam.options.pipeline_options import PortableOptions, WorkerOptions

    portable = pipeline_options.view_as(PortableOptions)
    if portable.environment_type != "LOOPBACK":
        yield
        return
    from pipeline.worker_pool import serve

    cache = pipeline_options.view_as(WorkerOptions).max_cache_memory_usage_mb << 20
    server, _, address = serve("127.0.0.1:0", use_process=False, state_cache_size=cache)
    portable.environment_type, portable.environment_config = "EXTERNAL", address
    try:
        yield
    finally:
        server.stop(1)


_current: RemoteJob | None = None


def current() -> RemoteJob | None:
    """The job that this process has sent to a cluster; None if there is none, or it has ended."""
    return _current


@contextlib.contextmanager
def as_current(job: RemoteJob) -> Iterator[RemoteJob]:
    """Makes a job the one that Ctrl-C cancels."""
    global _current
    _current = job
    try:
        yield job
    finally:
        _current = None
        job.stop_servers()
