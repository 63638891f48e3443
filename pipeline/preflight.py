"""A look at a cluster before a job goes there: Beam's client waits minutes, silently, for what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import urllib.error
import urllib.request
import zipfile
from typing import Any
from urllib.parse import urlsplit

from pipeline import runners
from pipeline.options import Options
from transforms.encoder.handle import redact
from transforms.errors import UsageError
from transforms.files import is_local

_SECONDS = 10.0
# Options of one family of runners: given to another, they are a mistake.
_FAMILIES = {
    "FlinkRunnerOptions": ("FlinkRunner", "PortableRunner"),
    "SparkRunnerOptions": ("SparkRunner", "PortableRunner"),
    "PrismRunnerOptions": ("PrismRunner",),
    "DirectOptions": runners.LOCAL,
    "PortableOptions": runners.PORTABLE,
    "JobServerOptions": ("FlinkRunner", "SparkRunner", "PrismRunner"),
}


def check_options(options: Options) -> None:
    """Options that contradict each other, before anything is read.

    Raises:
      UsageError: with the option, what it belongs to, and what to do.
    """
    if options.runner not in runners.RUNNERS:
        raise UsageError(f"--runner {options.runner}: expected one of {', '.join(runners.RUNNERS)}")
    known = runners.known_beam_options()
    for argument in options.beam_args:
        name = argument.split("=", 1)[0]
        family = _FAMILIES.get(known.get(name, ""), runners.RUNNERS)
        if argument.startswith("--") and options.runner not in family:
            raise UsageError(
                f"{name} belongs to {' and '.join(family)}, and --runner is {options.runner}; leave one out"
            )
    parsed = runners.beam_options(options)
    given = parsed.get_all_options()
    if options.runner in runners.LOCAL:
        if given["direct_running_mode"] != "in_memory" or (given["direct_num_workers"] or 1) != 1:
            raise UsageError(
                "--direct_running_mode and --direct_num_workers: the local runner works in one process, "
                "whose threads keep the model busy; Beam's multi-process mode hangs when a worker dies. "
                "Leave them out"
            )
        return
    if options.runner == "PortableRunner" and not given["job_endpoint"]:
        raise UsageError(
            "--runner PortableRunner needs --job_endpoint HOST:PORT, the address of a job server"
        )
    _check_shared(options, given)
    if options.runner == "DataflowRunner" and runners.worker_gpus(options, parsed) > 1:
        raise UsageError(
            "--dataflow_service_options: several GPUs for a worker; one SDK process works on one GPU, so ask "
            "for more workers of one GPU each"
        )
    dockerised = options.runner == "DataflowRunner" or given.get("environment_type") == "DOCKER"
    named = ("sdk_container_image", "environment_config", "environment_options", "setup_file")
    if dockerised and not any(given.get(name) for name in named):
        flag = "--sdk_container_image" if options.runner == "DataflowRunner" else "--environment_config"
        raise UsageError(
            f"--runner {options.runner}: workers run in containers, which need this package: give {flag} "
            "with an image that has it (deploy/docker makes one), or --setup_file"
        )


def _check_shared(options: Options, given: dict[str, Any]) -> None:
    """Workers on other machines see no local path, unless it is mounted there too."""
    if given.get("environment_type") == "LOOPBACK" or options.shared_filesystem:
        return
    names = [("--output", options.output), *(("--input", pattern) for pattern in options.input)]
    for flag, path in names:
        if is_local(path):
            raise UsageError(
                f"{flag} {path}: a local path, which workers of {options.runner} would look for on their own "
                "disks; give a URL (gs://, s3://, hdfs://), or --shared-filesystem if it is mounted on every "
                "machine under this name"
            )


def probe(options: Options) -> int | None:
    """Asks what the job is about to be sent to whether it is there. Returns Flink's task slots, if it tells.

    Raises:
      UsageError: it is not, or it cannot work.
    """
    if options.runner in (*runners.LOCAL, "DataflowRunner"):
        return None
    parsed = runners.beam_options(options)
    given = parsed.get_all_options()
    slots = None
    if given["job_endpoint"]:
        if given["job_endpoint"] != "embed":
            probe_job_server(given["job_endpoint"])
    elif options.runner in ("FlinkRunner", "SparkRunner"):
        if options.runner == "FlinkRunner":
            slots = _probe_flink(given)
        else:
            _probe_spark(given)
        _check_java(options, given)
    elif options.runner == "PrismRunner":
        location = given["prism_location"]
        if location and is_local(location) and not os.access(location, os.X_OK):
            raise UsageError(
                f"--prism_location {location}: no program there; `go install` puts one in ~/go/bin"
            )
    if runners.is_near(runners.endpoint_of(parsed, options.runner)):
        _check_environment(given)
    return slots


def _connect(flag: str, address: str, what: str) -> None:
    """One TCP connection, within seconds."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not host:
        raise UsageError(f"{flag} {address}: expected HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except OSError as e:
        raise UsageError(
            f"{flag} {address}: no {what} answers there ({e.strerror or e}); check the host, the port and "
            "that it runs"
        ) from e


def probe_job_server(endpoint: str) -> set[str]:
    """Returns the options that a job server knows beside Beam's, as they are typed.

    Raises:
      UsageError: no job server answers there.
    """
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    _connect("--job_endpoint", endpoint, "job server")
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        try:
            answer = service.DescribePipelineOptions(
                beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=_SECONDS, wait_for_ready=True
            )
            return {f"--{option.name}" for option in answer.options}
        except grpc.RpcError as e:
            if e.code() == grpc.StatusCode.UNIMPLEMENTED:
                reason = "another service, perhaps the job server's artifact or expansion port"
            else:
                reason = f"no answer of a job server within {_SECONDS:.0f} s ({e.code().name})"
            raise UsageError(
                f"--job_endpoint {endpoint}: {reason}; expected Beam's job service, by default on port 8099"
            ) from e


def _probe_flink(given: dict[str, Any]) -> int | None:
    master = given["flink_master"]
    if master.strip("[]") in ("auto", "local"):
        return None
    url = master if "://" in master else f"http://{master}"
    _connect("--flink_master", urlsplit(url).netloc.rpartition("@")[2] or master, "Flink JobManager")
    overview = flink_get(url, "/overview")
    if not isinstance(overview, dict) or "slots-total" not in overview:
        raise UsageError(
            f"--flink_master {redact(master)}: something else than Flink's REST service answers there; its "
            "port is rest.port, by default 8081"
        )
    if not overview["slots-total"]:
        raise UsageError(
            f"--flink_master {redact(master)}: the cluster has no TaskManager; start one, or wait for it"
        )
    version = str(overview.get("flink-version", "")).rpartition(".")[0]
    if version and not given["flink_job_server_jar"] and version != given["flink_version"]:
        raise UsageError(
            f"--flink_version {given['flink_version']}: the cluster runs Flink {overview['flink-version']}; "
            f"give --flink_version={version}"
        )
    return int(overview["slots-total"])


def flink_get(url: str, path: str) -> Any:
    """What Flink's REST service says; None if it is no JSON."""
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=_SECONDS) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _probe_spark(given: dict[str, Any]) -> None:
    master = given["spark_master_url"]
    if re.match(r"local(\[.+\])?$", master) or master in ("yarn",) or master.startswith(("k8s:", "mesos:")):
        return
    if not master.startswith("spark://"):
        raise UsageError(f"--spark_master_url {master}: expected spark://HOST:PORT")
    _connect("--spark_master_url", master.removeprefix("spark://").split(",")[0], "Spark master")


def _check_java(options: Options, given: dict[str, Any]) -> None:
    """Beam starts the job server itself: it needs Java, and a jar that it finds or fetches."""
    java = given["job_server_java_launcher"]
    if not shutil.which(java):
        raise UsageError(
            f"--runner {options.runner}: no Java here ({java}), which Beam's job server needs; install Java "
            "17, or give --job_endpoint of a job server that runs elsewhere"
        )
    flag = "flink_job_server_jar" if options.runner == "FlinkRunner" else "spark_job_server_jar"
    jar = given[flag]
    if jar and is_local(jar) and not zipfile.is_zipfile(jar.removeprefix("file://")):
        found = "is no jar" if os.path.exists(jar) else "no such file"
        raise UsageError(f"--{flag} {jar}: {found}; expected Beam's job server for this runner")


def _check_environment(given: dict[str, Any]) -> None:
    """What starts the SDK workers, as far as it is on this machine."""
    kind, config = given["environment_type"], given["environment_config"] or ""
    if kind == "EXTERNAL":
        address = json.loads(config)["url"] if config.startswith("{") else config
        if runners.is_near(address):
            _connect("--environment_config", address, "worker pool")
    elif kind == "PROCESS" and config.startswith("{"):
        command = json.loads(config).get("command", "")
        if not shutil.which(command):
            raise UsageError(
                f"--environment_config: no program {command}; expected the path of embedbeam-boot on every "
                "worker"
            )
    elif kind == "DOCKER" and not shutil.which("docker"):
        raise UsageError(
            "--environment_type DOCKER: no docker on this machine; give --environment_type=PROCESS, which "
            "starts workers without it"
        )
