"""A look at a cluster before a job goes there: Beam's client waits minutes, silently, for what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import shutil
import socket
import urllib.request
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.cluster import runners
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.job_server import job_service
from pipeline.cluster.preflight import environment
from pipeline.version import installed
from transforms.encoder.model.handle import redact
from transforms.errors import UsageError
from transforms.storage.files import is_local

if TYPE_CHECKING:
    from pipeline.run.screen import Screen

_SECONDS = 10.0


def probe(cluster: Cluster, screen: Screen) -> Cluster:
    """Asks what the job is about to be sent to whether it is there.

    Returns:
      The cluster, with its task slots where it told them (Flink).

    Raises:
      UsageError: it is not, or it cannot work.
    """
    if cluster.is_local or cluster.runner == "DataflowRunner":
        return cluster
    given, slots = cluster.options, None
    if cluster.endpoint:
        probe_job_server(cluster.endpoint)
    elif cluster.runner in ("FlinkRunner", "SparkRunner") and not given["job_endpoint"]:
        if cluster.runner == "FlinkRunner":
            slots = _probe_flink(cluster)
        else:
            _probe_spark(given["spark_master_url"])
        _check_java(cluster, screen)
    elif cluster.runner == "PrismRunner" and not given["job_endpoint"]:
        location = given["prism_location"]
        if location and is_local(location) and not os.access(location, os.X_OK):
            raise UsageError(
                f"--prism_location {location}: no program there; `go install` puts one in ~/go/bin"
            )
    if cluster.near:
        try:
            _check_environment(given)
        except UsageError as e:
            if not given["job_endpoint"]:
                raise
            # Its workers may be elsewhere: the job server's address may be the near end of a tunnel.
            screen.tell(f"note: {e}")
    return dataclasses.replace(cluster, slots=slots)


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

    _connect("--job_endpoint", endpoint, "job server")
    with job_service(endpoint) as (service, api):
        request = api.DescribePipelineOptionsRequest()
        try:
            answer = service.DescribePipelineOptions(request, timeout=_SECONDS, wait_for_ready=True)
        except grpc.RpcError as e:
            reason = f"no answer of a job server within {_SECONDS:.0f} s ({e.code().name})"
            if e.code() == grpc.StatusCode.UNIMPLEMENTED:
                reason = "another service, perhaps the job server's artifact or expansion port"
            raise UsageError(
                f"--job_endpoint {endpoint}: {reason}; expected Beam's job service, by default on port 8099"
            ) from e
    return {f"--{option.name}" for option in answer.options}


def _probe_flink(cluster: Cluster) -> int | None:
    url, master, given = cluster.rest_url, cluster.master or "", cluster.options
    if url is None:
        return None
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
    runs = str(overview.get("flink-version", "")).rpartition(".")[0]
    if runs and not given["flink_job_server_jar"] and runs != given["flink_version"]:
        raise UsageError(
            f"--flink_version {given['flink_version']}: the cluster runs Flink {overview['flink-version']}; "
            f"give --flink_version={runs}"
        )
    return int(overview.get("slots-available") or overview["slots-total"])


def flink_get(url: str, path: str) -> Any:
    """What Flink's REST service says; None if it is no JSON."""
    try:
        with urllib.request.urlopen(url + path, timeout=_SECONDS) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _probe_spark(master: str) -> None:
    if re.match(r"local(\[.+\])?$", master) or master in ("yarn",) or master.startswith(("k8s:", "mesos:")):
        return
    if not master.startswith("spark://"):
        raise UsageError(f"--spark_master_url {master}: expected spark://HOST:PORT")
    _connect("--spark_master_url", master.removeprefix("spark://").split(",")[0], "Spark master")


def _check_java(cluster: Cluster, screen: Screen) -> None:
    """Beam starts the job server itself: it needs Java, and a jar that it finds or fetches."""
    given = cluster.options
    java = given["job_server_java_launcher"]
    if not shutil.which(java):
        raise UsageError(
            f"--runner {cluster.runner}: no Java here ({java}), which Beam's job server needs; install Java "
            "17, or give --job_endpoint of a job server that runs elsewhere"
        )
    flag = "flink_job_server_jar" if cluster.runner == "FlinkRunner" else "spark_job_server_jar"
    if not given[flag] or not is_local(given[flag]):
        return
    jar, own = given[flag].removeprefix("file://"), installed("apache-beam")
    if not zipfile.is_zipfile(jar):
        found = "is no jar" if os.path.exists(jar) else "no such file"
        raise UsageError(f"--{flag} {given[flag]}: {found}; expected Beam's job server for this runner")
    theirs = _beam_version(jar)
    if theirs not in (None, own):
        screen.say(
            f"--{flag} is of Beam {theirs}, and this is {own}: if the job does not start, take the jar of "
            "the same version"
        )


def _beam_version(jar: str) -> str | None:
    """Version of Beam's Java SDK in a jar, if it says."""
    with contextlib.suppress(KeyError), zipfile.ZipFile(jar) as opened:
        properties = opened.read("org/apache/beam/sdk/sdk.properties").decode("latin-1")
        found = re.search(r"^version\s*=\s*(\S+)", properties, re.MULTILINE)
        return found[1] if found else None
    return None


def _check_environment(given: Mapping[str, Any]) -> None:
    """What starts the SDK workers, as far as it is on this machine."""
    kind, where = environment(given)
    if kind == "EXTERNAL" and runners.is_near(where):
        _connect("--environment_config", where, "worker pool")
    elif kind == "PROCESS" and where and not shutil.which(where):
        raise UsageError(
            f"--environment_config: no program {where}; expected the path of embedbeam-boot on every worker"
        )
    elif kind == "DOCKER" and not shutil.which("docker"):
        raise UsageError(
            "--environment_type DOCKER: no docker on this machine; give --environment_type=PROCESS, which "
            "starts workers without it"
        )
