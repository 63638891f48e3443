"""Options that cannot work with a runner, found before anything is read or sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.cluster import runners
from pipeline.cluster.beam_options import known_beam_options
from pipeline.cluster.cluster import Cluster, resolve
from pipeline.options.options import Options
from transforms.errors import UsageError
from transforms.storage.files import is_local, use_options
from transforms.storage.stores import check_store

# Options of one family of runners: given to another, they are a mistake.
_FAMILIES = {
    "FlinkRunnerOptions": ("FlinkRunner", "PortableRunner"),
    "SparkRunnerOptions": ("SparkRunner", "PortableRunner"),
    "PrismRunnerOptions": ("PrismRunner",),
    "DirectOptions": runners.LOCAL,
    "PortableOptions": runners.PORTABLE,
    "JobServerOptions": ("FlinkRunner", "SparkRunner", "PrismRunner"),
}

_SECRETS = {
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "azure_connection_string": "AZURE_STORAGE_CONNECTION_STRING",
}


def prepare(options: Options) -> Cluster:
    """Finds out where the job runs, and checks the options and the stores that they name.

    Raises:
      UsageError: the options contradict each other, or a store cannot be used.
    """
    cluster = resolve(options)
    if cluster.parsed is None:
        return cluster  # a finished local job is recognised without Beam
    check(cluster, options)
    use_options(cluster.parsed)
    buckets: dict[str, tuple[str, str]] = {}  # each is asked once, by the first option that names it
    models = [("--model", options.model), ("--preprocessor", options.preprocessor or "")]
    for flag, path in [*_paths(options), *models]:
        if not is_local(path):
            buckets.setdefault("/".join(path.split("/", 3)[:3]), (flag, path))
    for flag, path in buckets.values():
        check_store(flag, path, cluster.parsed)
    return cluster


def _paths(options: Options) -> list[tuple[str, str]]:
    reads = [*(("--input", one) for one in options.input), *(("--reuse", one) for one in options.reuse)]
    return [("--output", options.output), *reads]


def check(cluster: Cluster, options: Options) -> None:
    """Options that contradict each other, before anything is read.

    Raises:
      UsageError: with the option, what it belongs to, and what to do.
    """
    given, runner = cluster.options, cluster.runner
    known = known_beam_options()
    for argument in options.beam_args:
        name = argument.split("=", 1)[0]
        family = _FAMILIES.get(known.get(name, ""), runners.RUNNERS)
        if argument.startswith("--") and runner not in family:
            raise UsageError(
                f"{name} belongs to {' and '.join(family)}, and --runner is {runner}; leave one out"
            )
    if cluster.is_local:
        if given["direct_running_mode"] != "in_memory" or (given["direct_num_workers"] or 1) != 1:
            raise UsageError(
                "--direct_running_mode and --direct_num_workers: the local runner works in one process, "
                "whose threads keep the model busy; Beam's multi-process mode hangs when a worker dies. "
                "Leave them out"
            )
        return
    if runner == "PortableRunner" and not given["job_endpoint"]:
        raise UsageError(
            "--runner PortableRunner needs --job_endpoint HOST:PORT, the address of a job server"
        )
    _check_shared(cluster, options)
    for name, variable in _SECRETS.items():  # clusters show options on web pages and write them to logs
        if given.get(name):
            raise UsageError(
                f"--{name} with --runner {runner}: everybody who sees the cluster could read it; "
                f"give workers and this command {variable} in their environments, or a role of the machines"
            )
    environment(given)
    if runner == "DataflowRunner" and cluster.gpus > 1:
        raise UsageError(
            "--dataflow_service_options: several GPUs for a worker; one SDK process works on one GPU, so ask "
            "for more workers of one GPU each"
        )
    dockerised = runner == "DataflowRunner" or cluster.environment_type == "DOCKER"
    named = ("sdk_container_image", "environment_config", "environment_options", "setup_file")
    if dockerised and not any(given.get(name) for name in named):
        flag = "--sdk_container_image" if runner == "DataflowRunner" else "--environment_config"
        raise UsageError(
            f"--runner {runner}: workers run in containers, which need this package: give {flag} "
            "with an image that has it (deploy/docker makes one), or --setup_file"
        )


def _check_shared(cluster: Cluster, options: Options) -> None:
    """Workers on other machines see no local path, unless it is mounted there too."""
    if cluster.in_process or options.shared_filesystem:
        return
    for flag, path in _paths(options):
        if is_local(path):
            raise UsageError(
                f"{flag} {path}: a local path, which workers of {cluster.runner} would look for on their own "
                "disks; give a URL (gs://, s3://, hdfs://), or --shared-filesystem if it is mounted on every "
                "machine under this name"
            )


def environment(given: Mapping[str, Any]) -> tuple[str | None, str]:
    """What starts the SDK workers, and where: PROCESS by a command, EXTERNAL at an address; "" if not told.

    Raises:
      UsageError: --environment_config does not say it; Beam's own parser raises far from the command line.
    """
    kind, config = given.get("environment_type"), given.get("environment_config") or ""
    key = {"PROCESS": "command", "EXTERNAL": "url"}.get(kind or "")
    if key is None or not config or (kind == "EXTERNAL" and not config.startswith("{")):
        return kind, config
    with contextlib.suppress(ValueError, TypeError, KeyError):
        if found := json.loads(config)[key]:
            return kind, found
    raise UsageError(
        f'--environment_config {config}: expected JSON for --environment_type {kind}, like {{"{key}": ...}}'
    )
