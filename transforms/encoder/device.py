"""Cores and GPUs of this machine, and TF set up for them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from transforms.encoder import policy, tuned
from transforms.encoder.amx import avoid_broken_amx
from transforms.encoder.tuned import Tuned

_LOG = logging.getLogger(__name__)
_WIDEST = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}


def available_cores(quota_file: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Cores that this process may use; in a container or on a shared machine they are not all there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # microseconds of CPU time in every so many, of a container (cgroup v2)
        with open(quota_file) as f:
            quota, period = f.read().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max": no quota
        return cores


def import_tensorflow() -> Any:
    """Imports TF, with the ops of tensorflow-text registered."""
    # TF leaves oneDNN off on CPUs without VNNI or AMX, where its fused fp32 products are faster too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    avoid_broken_amx()
    with _muted_stderr():
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizer ops that SavedModels use

        tf.config.list_physical_devices("GPU")  # the first call is the one that complains of missing drivers
    return tf


@contextlib.contextmanager
def _muted_stderr() -> Iterator[None]:
    """While TF's libraries load they write to the file descriptor itself, whatever their log level is."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3" or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """What a model runs on.

    Attributes:
      kind: CPU or GPU.
      name: as the machine calls it.
      memory: bytes of the GPU; None on a CPU, or where nobody tells.
      tuned: what `tune` found for the model here.
      threads: that it is run with.
    """

    kind: str
    name: str
    memory: int | None
    tuned: Tuned | None
    threads: policy.Threads


def cpu_name(info: str = "/proc/cpuinfo") -> str:
    """The processor as it calls itself, and the widest instructions that it has for matrices.

    Virtual machines of one name may lie on hosts with and without AMX, for which other settings are best.
    """
    said: dict[str, str] = {}
    with contextlib.suppress(OSError), open(info) as f:
        for key, _, value in (line.partition(":") for line in f):
            said.setdefault(key.strip(), value.strip())
    name = said.get("model name") or platform.processor() or platform.machine()
    flags = said.get("flags", "").split()
    return next((f"{name}, {told}" for flag, told in _WIDEST.items() if flag in flags), name)


def prepare_device(
    tf: Any, model_digest: str, *, in_flight: int | None = None, intra_op: int | None = None
) -> Device:
    """Sets memory growth and thread counts, which TF takes only before its first op.

    Args:
      model_digest: of the model, for which threads may have been tuned.
      in_flight, intra_op: as in ModelConfig.
    """
    gpus = tf.config.list_physical_devices("GPU")
    device, cores = ("GPU" if gpus else "CPU"), available_cores()
    name = "CPU"
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    found = tuned.read(model_digest, name if gpus else cpu_name(), cores)
    usual = policy.threads(cores=cores, device=device)
    if found and (gpus or intra_op in (None, found.intra_op)):  # its numbers belong together
        usual = found.threads
    # What a plan that was made on the other kind of device says of threads means nothing here.
    intra_op = usual.intra_op if gpus else intra_op or usual.intra_op
    wanted = policy.Threads(in_flight or usual.in_flight, intra_op)
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if wanted.intra_op:
            tf.config.threading.set_intra_op_parallelism_threads(wanted.intra_op)
    except RuntimeError:
        _LOG.warning(
            "TensorFlow was started before embedbeam: its thread counts and GPU memory stay as they are"
        )
    return Device(device, name, _gpu_memory() if gpus else None, found, wanted)


def _gpu_memory() -> int | None:
    """Bytes of the first GPU, from NVIDIA's driver; None where it does not say (TF has no call for it)."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split()[0]) << 20
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None
