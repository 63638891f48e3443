"""One line for what went wrong inside a runner, however deep."""

from __future__ import annotations

import re
from typing import Any

from pipeline.cluster.cluster import Cluster
from pipeline.version import installed
from transforms.errors import GO_ON, EmbedbeamError, JobFailed, ModelError, read_note

_STEP = re.compile(r" \[while running '.*", re.DOTALL)
_JAVA = re.compile(r"^Pipeline \S+ failed in state \w+: |\b(?:[a-z0-9_]+\.)+[A-Z]\w*(?:Exception|Error): ")

# What runners say when workers cannot start or die, and what it means, by what starts the workers (None: by
# anything). Checked on Flink 1.19 and Spark 3.5.
_CLUSTER = (
    (
        "DOCKER",
        r"docker|Docker",
        "the workers' containers cannot be started: check the image's name, that every machine can pull "
        "it, and that Docker runs there (or give --environment_type=PROCESS)",
    ),
    (
        None,
        r"finishConnect|Connection refused|UNAVAILABLE: io exception|Host unreachable",
        "workers cannot be reached: with --environment_type=EXTERNAL an embedbeam-worker-pool must run "
        "beside every TaskManager or executor, at the address of --environment_config; with LOOPBACK workers "
        "are in this process, which the cluster must be able to reach",
    ),
    (
        "PROCESS",
        r"Process died with exit code|error=2, No such file|Cannot run program",
        "the boot command of --environment_config does not start a worker: run it by hand on a worker "
        "machine, and look at the log of a TaskManager or executor",
    ),
    (
        None,
        r"CANCELLED: client cancelled|no longer reachable|ExecutorLostFailure|Heartbeat of TaskManager|"
        r"SDK harness|timed out waiting for the worker|Stream removed|Socket closed",
        "a worker died: the cluster's log says why (killed for its memory?); committed shards are kept: run "
        "the same command again",
    ),
    (
        None,
        r"Timeout has occurred|NoResourceAvailable|Slot request|resources are insufficient|not accepted any",
        "the cluster had too few free slots for --parallelism: ask for fewer, or wait for other jobs to end",
    ),
)


def plain_error(error: Exception, cluster: Cluster) -> EmbedbeamError:
    """The error behind one that Beam raises: our own if a worker raised it, else its last line."""
    text = str(error)
    code: Any = getattr(error, "code", None)
    details: Any = getattr(error, "details", None)
    of_job_server = callable(code) and callable(details)  # grpc's
    if of_job_server:
        text = details() or str(code())
    note = read_note(text)
    if note:
        return (ModelError if note["kind"] == "ModelError" else JobFailed)(note["text"])
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    reason = _JAVA.sub("", lines[0])[:300]
    if of_job_server and "UNAVAILABLE" in str(code()):
        return JobFailed(
            f"the connection to the job server was lost ({reason}); the job may go on without it: "
            "`embedbeam status` tells, and the same command goes on when it has ended"
        )
    if of_job_server:
        return JobFailed(
            f"the job server refused the job: {reason}; it should be of this Beam version, "
            f"{installed('apache-beam')}"
        )
    last = without_step(lines[-1])
    if text.startswith("Pipeline ") and "failed in state" in text:
        for environment, pattern, meaning in _CLUSTER:
            if environment in (None, cluster.environment_type) and re.search(pattern, text):
                return JobFailed(f"{meaning} ({reason})")
        last = _JAVA.sub("", last)
    no_bug = re.match(r"(OSError|\w*Error): \[Errno ", last)  # a full disk, a lost mount
    return JobFailed(f"{last} ({GO_ON if no_bug else 'run with --verbose for the traceback'})")


def without_step(message: str) -> str:
    """The message without the step that Beam adds to it."""
    return _STEP.sub("", message)
