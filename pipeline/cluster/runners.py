"""What differs between Beam's runners, in one place: pure functions of what is known of a cluster."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from transforms.storage.files import full_path

LOCAL = ("DirectRunner", "FnApiRunner")
# They run SDK workers through Beam's portability framework; all but Prism on machines of their own.
PORTABLE = ("FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")
RUNNERS = (*LOCAL, *PORTABLE, "DataflowRunner")


# The pipeline's functions are in modules. Beam's workers log all options when they start: not into our logs.
_EVERYWHERE = {
    "save_main_session": False,
    "sdk_harness_log_level_overrides": {"apache_beam.runners.worker.sdk_worker_main": "WARNING"},
}


def policy(
    runner: str,
    *,
    near: bool = False,
    gpus: int = 0,
    slots: int | None = None,
    image: bool = True,
    setup_file: str | None = None,
) -> dict[str, Any]:
    """What a runner is told unless the user says otherwise: the one table of what differs between runners.

    Args:
      runner: Beam's name of it.
      near: whether the cluster runs on this machine.
      gpus: GPUs of each worker machine.
      slots: task slots of the cluster, where it tells them.
      image: whether the user names a container image, which then holds this package.
      setup_file: travels to the workers where there is no image.

    >>> policy("DirectRunner")
    {}
    """
    if runner in LOCAL:
        return {}
    package = {} if image or setup_file is None else {"setup_file": setup_file}
    if runner == "DataflowRunner":
        # One process a machine shares one loaded model; its second thread reads while the first one's
        # mini-batches are in the model.
        one_process = {
            "number_of_worker_harness_threads": 2,
            "experiments": ["no_use_multiple_sdk_containers"],
        }
        return {**_EVERYWHERE, **one_process, **({"sdk_location": "container"} if image else package)}
    if runner == "PrismRunner":
        return {**_EVERYWHERE, "environment_type": "LOOPBACK"}
    # One SDK process for each GPU, else one for each TaskManager or executor, with a thread for each slot.
    environment = {"environment_type": "LOOPBACK"} if near else {"environment_type": "DOCKER", **package}
    parallel = {"parallelism": slots} if runner == "FlinkRunner" and slots else {}
    return {**_EVERYWHERE, **environment, "sdk_worker_parallelism": max(1, gpus), **parallel}


def environment_config(environment_type: str, *, boot: str, gpus: int = 0) -> str | None:
    """What an environment needs to be told, unless the user tells it.

    >>> environment_config("PROCESS", boot="/venv/bin/embedbeam-boot")
    '{"command": "/venv/bin/embedbeam-boot"}'
    """
    if environment_type == "PROCESS":
        env = {"env": {"EMBEDBEAM_WORKER_GPUS": str(gpus)}} if gpus else {}
        return json.dumps({"command": boot, **env})
    return "localhost:50000" if environment_type == "EXTERNAL" else None


def accelerators(service_options: list[str] | None) -> int:
    """GPUs of a Dataflow worker, from its worker_accelerator option.

    >>> accelerators(["worker_accelerator=type:nvidia-tesla-t4;count:2;install-nvidia-driver"])
    2
    """
    found = re.search(r"worker_accelerator=[^,]*?count:(\d+)", ",".join(service_options or []))
    return int(found[1]) if found else 0


def is_near(endpoint: str | None) -> bool:
    """Whether a host, host:port or URL is this machine's own loopback.

    >>> is_near("localhost:8081"), is_near("spark://127.0.0.1:7077"), is_near("flink:8081")
    (True, True, False)
    """
    host = re.sub(r"^\w+://", "", endpoint or "").partition("/")[0]
    host = re.sub(r":\d+$", "", host.rpartition("@")[2]).strip("[]")
    if host in ("localhost", "auto", "local", "embed") or re.fullmatch(r"local(\[.*)?", host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def flink_url(master: str | None) -> str | None:
    """The REST address of a --flink_master; None where Beam starts a Flink of its own, or for none."""
    if not master or master.strip("[]") in ("auto", "local"):
        return None
    return (master if "://" in master else f"http://{master}").rstrip("/")


def boot_command() -> str:
    """The command that starts an SDK worker; it lies beside this Python where the package is installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "embedbeam-boot")
    return beside if os.path.exists(beside) else shutil.which("embedbeam-boot") or "embedbeam-boot"


def setup_file() -> str | None:
    """setup.py of the checkout that this runs from, if it does."""
    path = Path(__file__).resolve().parents[2] / "setup.py"
    return str(path) if path.exists() else None


def job_name(output: str) -> str:
    """The remote job's name, from where it writes: a second job of that name is a second job on that folder.

    >>> job_name("gs://bucket/vectors/2024-01-31")
    'embedbeam-2024-01-31-b571caeb'
    """
    path = full_path(output).rstrip("/")
    word = re.sub(r"[^a-z0-9]+", "-", path.rpartition("/")[2].lower()).strip("-")[:24] or "out"
    return f"embedbeam-{word}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
