"""Job servers: the ones that Beam starts for a job, which end with it, and how to talk to one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

# Becomes a program that gets SIGTERM when its parent, which the first argument names, ends or has ended.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def job_service(endpoint: str) -> Iterator[tuple[Any, Any]]:
    """A job server's service, and the module of its messages."""
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        yield beam_job_api_pb2_grpc.JobServiceStub(channel), beam_job_api_pb2


def adopt(runner: Any, servers: list[Any]) -> None:
    """Makes the job server that a runner starts end with this process, and adds it to a list.

    Beam's own wrapper around it is left out: its handler of Ctrl-C would end the job server first, and then
    nobody is there to cancel the job.
    """
    make = getattr(runner, "default_job_server", None)
    if make is None:
        return

    def adopted(options: Any) -> Any:
        server = make(options)
        server = getattr(server, "_job_server", server)
        servers.append(server)
        if sys.platform == "linux" and hasattr(server, "subprocess_cmd_and_endpoint"):
            # A launcher that is killed would leave its job server behind, and Spark's driver in it.
            started = server.subprocess_cmd_and_endpoint
            server.subprocess_cmd_and_endpoint = lambda: _guarded(*started())
        return server

    runner.default_job_server = adopted


def _guarded(command: list[str], endpoint: str) -> tuple[list[str], str]:
    return [sys.executable, "-S", "-c", _END_WITH_PARENT, str(os.getpid()), *command], endpoint
