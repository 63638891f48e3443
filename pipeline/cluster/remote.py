"""A job on a cluster: found by its name, watched, cancelled."""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cluster import runners
from pipeline.cluster.probe import flink_get, flink_url
from pipeline.options.options import Options

_LOG = logging.getLogger(__name__)
_CANCEL_SECONDS = 45.0
_ARRIVAL_SECONDS = 30.0
_TWIN_SECONDS = 5.0
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
        self._rest = flink_url(master) if options.runner == "FlinkRunner" and not endpoint else None
        self._seen: set[str] = set()  # jobs of this name that Flink has had
        self._earlier: set[str] = set()  # those of earlier runs

    def running(self) -> list[str]:
        """Ids of jobs of this name that the cluster has and that have not ended.

        Raises:
          OSError: the cluster does not answer, so nobody knows.
        """
        found = []
        if self._endpoint:
            found = self._of_job_server(self._endpoint)
        if self._rest:
            overview = flink_get(self._rest, "/jobs/overview")
            if overview is None:
                raise OSError(f"Flink at {self._rest} does not answer")
            mine = [job for job in overview["jobs"] if self._is_mine(job["name"])]
            self._seen |= {job["jid"] for job in mine}
            found += [job["jid"] for job in mine if job["state"] not in _ENDED]
        return found

    def _of_job_server(self, endpoint: str) -> list[str]:
        import grpc

        try:
            with _job_service(endpoint) as (service, api):
                jobs = service.GetJobs(api.GetJobsRequest(), timeout=10).job_info
        except grpc.RpcError as e:
            raise OSError(f"the job server at {endpoint} does not answer") from e
        mine = [job for job in jobs if self._is_mine(job.job_id)]
        # A job server takes a batch job for cancelled that goes on at Flink: so Flink is asked, too.
        masters = [job.pipeline_options.fields["beam:option:flink_master:v1"].string_value for job in mine]
        self._rest = next(filter(None, map(flink_url, masters)), None)
        return [job.job_id for job in mine if api.JobState.Enum.Name(job.state) not in _ENDED]

    def _is_mine(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}_")  # job servers add an id of their own

    def wait_for_twin(self, output: str) -> None:
        """Waits until no earlier run's job works on the same folder.

        A launcher that died leaves its job behind: a second one beside it would embed everything twice.
        """
        told = False
        while True:
            try:
                found = self.running()
            except OSError:  # where Flink's REST service is out of reach, its job server has answered
                _LOG.info("is an earlier job still at work?", exc_info=True)
                return
            if not found:
                return
            if not told:
                told = True
                print(
                    f"embedbeam: job {found[0]} of an earlier run is still at work on {output}; waiting for "
                    "its end (cancel it at the cluster, if you don't want it)",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(_TWIN_SECONDS)

    def before_submit(self) -> None:
        """Takes down which jobs of this name are there already, none of them at work."""
        with contextlib.suppress(OSError):
            self.running()
        self._earlier = set(self._seen)

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
        """Cancels the job and waits until it is gone. Returns whether it is, as far as the cluster tells."""
        deadline = time.monotonic() + _CANCEL_SECONDS
        if self.result is not None:
            # The job server may have died of the same Ctrl-C, or may not answer at all.
            asking = threading.Thread(target=_quietly(self.result.cancel), daemon=True)
            asking.start()
            asking.join(10)
        self.stop_servers()
        # A job server that is just sending its jars makes a job of them a moment later, unless it is our own.
        waited = time.monotonic() + (3 if self._servers else _ARRIVAL_SECONDS)
        while True:
            try:
                found = self.running()
                arrived = self._seen > self._earlier or time.monotonic() > waited
                on_its_way = self._rest and not arrived
                if not found and not on_its_way:
                    return True
                for job_id in found:
                    _quietly(functools.partial(self._cancel_id, job_id))()
            except OSError:
                _LOG.info("the cluster does not tell whether job %s runs", self.name, exc_info=True)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)

    def _cancel_id(self, job_id: str) -> None:
        if job_id.startswith(f"{self.name}_") and self._endpoint:
            with _job_service(self._endpoint) as (service, api):
                service.Cancel(api.CancelJobRequest(job_id=job_id), timeout=10)
        elif self._rest:
            request = urllib.request.Request(f"{self._rest}/jobs/{job_id}?mode=cancel", method="PATCH")
            urllib.request.urlopen(request, timeout=10).close()

    def stop_servers(self) -> None:
        """Ends the job servers that Beam started for this job."""
        for server in self._servers:
            # The server inside Beam's wrapper: the wrapper's lock is held while the server starts.
            _quietly(getattr(server, "_job_server", server).stop)()


def _quietly(call: Callable[[], object]) -> Callable[[], None]:
    """The call without its errors: what it does is tried, and then looked at."""

    def tried() -> None:
        with contextlib.suppress(Exception):
            call()

    return tried


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
    from pipeline.cluster.worker_pool import serve

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
