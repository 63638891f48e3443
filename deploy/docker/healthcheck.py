"""Says whether a container works: exit code 0, or 1 and one line. Standard library only, so it is quick.

A worker pool must answer on its port. A worker or a launcher lives as long as its process 1 does; there the
check is that the environment is whole, which a volume mounted over it could have hidden.
"""

import importlib.util
import os
import socket
import sys
from pathlib import Path

POOL_PORT = 50000  # fixed in Beam's boot, and the default of embedbeam-worker-pool
POOLS = ("--worker_pool", "embedbeam-worker-pool")  # boot's option, and this package's own command
PACKAGES = ("apache_beam", "tensorflow", "pipeline", "transforms")


def check(command: list[str], *, port: int = POOL_PORT, packages: tuple[str, ...] = PACKAGES) -> str | None:
    """What is wrong with a container whose process 1 was started by this command; None if nothing is."""
    if any(os.path.basename(word) in POOLS for word in command):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError as e:
            return f"the worker pool does not answer on port {port} ({e}); see the container's log"
        return None
    for name in packages:
        if importlib.util.find_spec(name) is None:
            return f"package {name} is not in {sys.prefix}; is a volume mounted over it?"
    models = os.environ.get("EMBEDBEAM_CACHE", "")
    if models and not os.access(models, os.R_OK | os.X_OK):
        return f"EMBEDBEAM_CACHE={models} cannot be read by user {os.getuid()}"
    return None


if __name__ == "__main__":
    wrong = check(Path("/proc/1/cmdline").read_bytes().decode().split("\0"))
    if wrong:
        print(f"unhealthy: {wrong}")
    sys.exit(1 if wrong else 0)
