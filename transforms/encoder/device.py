"""Cores and GPUs of this machine, and TF set up for them."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from typing import Any

from transforms.encoder import policy

_LOG = logging.getLogger(__name__)


def available_cores(quota_file: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Cores that this process may use; in a container or on a shared machine they are not all there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # microseconds of CPU time in every so many, of a container (cgroup v2)
        with open(quota_file) as f:
            quota, period = f.read().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max": no quota
        return cores


def prepare_device(tf: Any) -> tuple[str, str, int | None]:
    """Sets memory growth and thread counts, which TF takes only before its first op."""
    gpus = tf.config.list_physical_devices("GPU")
    device = "GPU" if gpus else "CPU"
    wanted = policy.threads(cores=available_cores(), device=device)
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if wanted.intra_op:
            tf.config.threading.set_intra_op_parallelism_threads(wanted.intra_op)
    except RuntimeError:
        _LOG.warning(
            "TensorFlow was started before embedbeam: its thread counts and GPU memory stay as they are"
        )
    if not gpus:
        return device, "CPU", None
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return device, name, _gpu_memory()


def _gpu_memory() -> int | None:
    """Bytes of the first GPU, from NVIDIA's driver; None where it does not say (TF has no call for it)."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split()[0]) << 20
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None
