"""Job servers: the ones that Beam starts for a job, which end with it, and how to talk to one."""

from __future__ import annotations

import contextlib
import os
import signal
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
    """Makes the job server that a runner starts end with this process, and adds it to a list."""
    make = getattr(runner, "default_job_server", None)
    if make is None:
        return

    def adopted(options: Any) -> Any:
        server = make(options)
        servers.append(server)
        _end_with_us(_inner(server))
        start = server.start

        def started() -> Any:
            handler = signal.getsignal(signal.SIGINT)
            stub = start()
            # Beam's handler ends the job server first, and then nobody is there to cancel the job.
            signal.signal(signal.SIGINT, handler)
            return stub

        server.start = started
        return server

    runner.default_job_server = adopted


def stop(server: Any) -> None:
    """Ends a job server that was adopted."""
    with contextlib.suppress(Exception):
        _inner(server).stop()


def _inner(server: Any) -> Any:
    """The server inside Beam's wrapper, whose lock is held while the server starts."""
    return getattr(server, "_job_server", server)


def _end_with_us(server: Any) -> None:
    """A launcher that is killed would leave its job server behind, and Spark's driver in it."""
    command_and_endpoint = getattr(server, "subprocess_cmd_and_endpoint", None)
    if command_and_endpoint is None or sys.platform != "linux":
        return

    def guarded() -> tuple[list[str], str]:
        command, endpoint = command_and_endpoint()
        return [sys.executable, "-S", "-c", _END_WITH_PARENT, str(os.getpid()), *command], endpoint

    server.subprocess_cmd_and_endpoint = guarded
