"""A worker pool, for `--environment_type=EXTERNAL`: starts SDK workers when a runner asks for them.

Beam's own pool listens on all interfaces, starts whatever `python` is first on the path, and gives workers no
pipeline options. One pool serves one TaskManager or executor: a sidecar in its pod, or a service of its own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any


def serve(address: str, **servicer: Any) -> tuple[Any, Any, str]:
    """Starts a pool on HOST:PORT (port 0: a free one). Returns the server, the pool, and where it listens.

    Args:
      address: where to listen; whoever reaches it can run programs here.
      **servicer: arguments of Beam's BeamFnExternalWorkerPoolServicer.

    Raises:
      OSError: the address is taken.
    """
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
    from apache_beam.utils import thread_pool_executor

    server = grpc.server(
        thread_pool_executor.shared_unbounded_instance(),
        # Two pools on one port would each get half of the requests.
        options=[("grpc.so_reuseport", 0), ("grpc.http2.max_pings_without_data", 0)],
    )
    pool = BeamFnExternalWorkerPoolServicer(**servicer)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as e:
        raise OSError(f"cannot listen on {address}") from e
    server.start()
    return server, pool, f"{address.rpartition(':')[0]}:{port}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `embedbeam-worker-pool`; runs until it is stopped, and then stops its workers."""
    from apache_beam.runners.worker.worker_pool_main import kill_process_gracefully

    from pipeline.cluster.runners import boot_command

    parser = argparse.ArgumentParser(prog="embedbeam-worker-pool", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=50000, help="port to listen on (default: %(default)s)")
    parsed = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before anybody is told that it runs
        signal.signal(number, lambda *_: stop.set())
    try:
        server, pool, address = serve(
            f"{parsed.host}:{parsed.port}", use_process=True, container_executable=boot_command()
        )
    except OSError as e:
        print(f"embedbeam-worker-pool: {e}; is another pool running there?", file=sys.stderr)
        return 2
    print(f"embedbeam-worker-pool: listening on {address}", file=sys.stderr, flush=True)
    stop.wait()
    server.stop(1)
    workers = list(pool._worker_processes.values())
    for worker in workers:
        worker.terminate()
    for worker in workers:
        kill_process_gracefully(worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
