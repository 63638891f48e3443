"""Starts one SDK worker, as Beam's container images do with their own program of the name boot.

For `--environment_type=PROCESS`, on machines without Docker that have this package: Flink's TaskManagers and
Spark's executors start `embedbeam-boot --id=1-1 --provision_endpoint=HOST:PORT ...`, which asks there for the
job's options and becomes Beam's worker.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script `embedbeam-boot`; ends as Beam's worker, or with exit code 1 and one line."""
    parser = argparse.ArgumentParser(prog="embedbeam-boot", description="Starts a Beam SDK worker.")
    for name in ("id", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("control_endpoint", "logging_endpoint", "artifact_endpoint"):
        parser.add_argument(f"--{name}", default="")
    parsed, _ = parser.parse_known_args(arguments)
    try:
        info = _provision(parsed.id, parsed.provision_endpoint)
    except Exception as e:
        reason = e.details() if hasattr(e, "details") else e  # grpc's own text has many lines
        sys.exit(f"embedbeam-boot: worker {parsed.id}: no answer from {parsed.provision_endpoint}: {reason}")
    os.environ.update(environment(parsed, info, os.environ))
    if staged_packages(info):
        print(
            "embedbeam-boot: staged packages are not installed; they must be on this machine", file=sys.stderr
        )
    os.dup2(2, 1)  # a worker pool keeps standard output in a pipe that it never reads
    os.execv(sys.executable, [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"])


def _provision(worker_id: str, endpoint: str) -> Any:
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    request, metadata = beam_provision_api_pb2.GetProvisionInfoRequest(), [("worker_id", worker_id)]
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        answer = service.GetProvisionInfo(request, timeout=_SECONDS, wait_for_ready=True, metadata=metadata)
    return answer.info


def staged_packages(info: Any) -> list[str]:
    """Names of what the launcher sent to be installed; Beam always sends a list of its own packages, too."""
    from apache_beam.portability.api import beam_runner_api_pb2

    read = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString
    names = [read(artifact.role_payload).staged_name for artifact in info.dependencies]
    return [name for name in names if name not in ("", "submission_environment_dependencies.txt")]


def environment(parsed: argparse.Namespace, info: Any, before: Mapping[str, str]) -> dict[str, str]:
    """What Beam's worker reads from its environment, by its container contract.

    Args:
      parsed: this command's options; they stand in for endpoints that the runner does not provide.
      info: the runner's ProvisionInfo.
      before: the environment that the command was started in.
    """
    from google.protobuf import json_format, text_format

    def descriptor(provided: Any, given: str) -> str:
        url = provided.url or given
        return text_format.MessageToString(type(provided)(url=url), as_one_line=True) if url else ""

    found = {
        "WORKER_ID": parsed.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options, indent=None),
        "CONTROL_API_SERVICE_DESCRIPTOR": descriptor(info.control_endpoint, parsed.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": descriptor(info.logging_endpoint, parsed.logging_endpoint),
        "STATUS_API_SERVICE_DESCRIPTOR": descriptor(info.status_endpoint, ""),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    gpus = int(before.get("EMBEDBEAM_WORKER_GPUS") or 0)
    if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in before:
        found["CUDA_VISIBLE_DEVICES"] = str(gpu_of(parsed.id, gpus))
    return {name: value for name, value in found.items() if value}


def gpu_of(worker_id: str, gpus: int) -> int:
    """Which GPU of its machine a worker takes: runners number the workers of a machine from 1.

    >>> [gpu_of(f"1-{n}", 2) for n in (1, 2, 3)]
    [0, 1, 0]
    """
    number = re.findall(r"\d+", worker_id)[-1:]
    return (int(number[0]) - 1) % gpus if number else 0


if __name__ == "__main__":
    main()
