"""A job on a cluster: found by its name, watched, cancelled."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cluster import job_server
from pipeline.cluster.beam_options import put
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.probe import flink_get
from pipeline.cluster.runners import flink_url

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
      servers: job servers that Beam started for it, which end with it.
    """

    def __init__(self, cluster: Cluster):
        self.remote = not cluster.is_local
        self.name = cluster.job_name
        self.result: Any = None
        self.servers: list[Any] = []
        self._endpoint, self._rest = cluster.endpoint, cluster.rest_url
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
            with job_server.job_service(endpoint) as (service, api):
                jobs = service.GetJobs(api.GetJobsRequest(), timeout=10).job_info
        except grpc.RpcError as e:
            raise OSError(f"the job server at {endpoint} does not answer") from e
        mine = [job for job in jobs if self._is_mine(job.job_id)]
        # A job server takes a batch job for cancelled that goes on at Flink: so Flink is asked, too.
        masters = [job.pipeline_options.fields["beam:option:flink_master:v1"].string_value for job in mine]
        self._rest = next(filter(None, map(flink_url, masters)), self._rest)
        return [job.job_id for job in mine if api.JobState.Enum.Name(job.state) not in _ENDED]

    def _is_mine(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}_")  # job servers add an id of their own

    def wait_for_twin(self, output: str, tell: Callable[[str], None]) -> None:
        """Waits until no earlier run's job works on the same folder.

        A launcher that died leaves its job behind: a second one beside it would embed everything twice.
        """
        for looks in itertools.count():
            try:
                found = self.running()
            except OSError:  # where Flink's REST service is out of reach, its job server has answered
                _LOG.info("is an earlier job still at work?", exc_info=True)
                return
            if not found:
                return
            if looks == 0:
                tell(
                    f"job {found[0]} of an earlier run is still at work on {output}; waiting for its end "
                    "(cancel it at the cluster, if you don't want it)"
                )
            time.sleep(_TWIN_SECONDS)

    def before_submit(self) -> None:
        """Takes down which jobs of this name are there already, none of them at work."""
        with contextlib.suppress(OSError):
            self.running()
        self._earlier = set(self._seen)

    def cancel(self) -> bool:
        """Cancels the job and waits until it is gone. Returns whether it is, as far as the cluster tells."""
        began = time.monotonic()
        # The job server may have died of the same Ctrl-C, or may not answer at all.
        asking = threading.Thread(target=self._cancel_result, daemon=True)
        asking.start()
        asking.join(10)
        self.stop_servers()
        # A job server that is just sending its jars makes a job of them a moment later, unless it is our own.
        arrival = time.monotonic() + (3 if self.servers else _ARRIVAL_SECONDS)
        while True:
            try:
                found = self.running()
                arrived = self._seen > self._earlier or time.monotonic() > arrival
                if not found and (arrived or not self._rest):
                    return True
                for job_id in found:
                    self._cancel_id(job_id)
            except OSError:
                _LOG.info("the cluster does not tell whether job %s runs", self.name, exc_info=True)
            if time.monotonic() > began + _CANCEL_SECONDS:
                return False
            time.sleep(0.5)

    # What these try is looked at afterwards.

    def _cancel_result(self) -> None:
        with contextlib.suppress(Exception):
            self.result.cancel()

    def _cancel_id(self, job_id: str) -> None:
        with contextlib.suppress(Exception):
            if job_id.startswith(f"{self.name}_") and self._endpoint:
                with job_server.job_service(self._endpoint) as (service, api):
                    service.Cancel(api.CancelJobRequest(job_id=job_id), timeout=10)
            elif self._rest:
                request = urllib.request.Request(f"{self._rest}/jobs/{job_id}?mode=cancel", method="PATCH")
                urllib.request.urlopen(request, timeout=10).close()

    def stop_servers(self) -> None:
        """Ends the job servers that Beam started for this job."""
        for server in self.servers:
            with contextlib.suppress(Exception):
                server.stop()


@contextlib.contextmanager
def loopback(cluster: Cluster, pipeline_options: Any) -> Iterator[None]:
    """Serves SDK workers of this process, as LOOPBACK asks for, on 127.0.0.1.

    Beam's own listens on all interfaces, to whoever can reach them.
    """
    if cluster.is_local or not cluster.in_process:
        yield
        return
    from pipeline.cluster.worker_pool import serve

    cache = cluster.options["max_cache_memory_usage_mb"] << 20
    server, _, address = serve("127.0.0.1:0", use_process=False, state_cache_size=cache)
    put(pipeline_options, {"environment_type": "EXTERNAL", "environment_config": address})
    try:
        yield
    finally:
        server.stop(1)


current: RemoteJob | None = None  # the job that this process has sent to a cluster, until it has ended


@contextlib.contextmanager
def sending(cluster: Cluster) -> Iterator[RemoteJob]:
    """The job that this process is about to send; Ctrl-C cancels it."""
    global current
    current = job = RemoteJob(cluster)
    try:
        yield job
    finally:
        current = None
        job.stop_servers()
