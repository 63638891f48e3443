"""What differs between Beam's runners, in one place: a pure function, and the options made of it."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.options.options import Options
from transforms.encoder.model.handle import redact
from transforms.errors import UsageError

LOCAL = ("DirectRunner", "FnApiRunner")
# They run SDK workers through Beam's portability framework; all but Prism on machines of their own.
PORTABLE = ("FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")
RUNNERS = (*LOCAL, *PORTABLE, "DataflowRunner")


# The pipeline's functions are in modules. Beam's workers log all options when they start: not into our logs.
_EVERYWHERE = {
    "save_main_session": False,
    "sdk_harness_log_level_overrides": '{"apache_beam.runners.worker.sdk_worker_main": "WARNING"}',
}


@dataclasses.dataclass(frozen=True)
class Policy:
    """What a runner is told unless the user says otherwise.

    Attributes:
      options: Beam's options, by name.
      waits: whether the launcher stays until the job ends.
    """

    options: Mapping[str, Any]
    waits: bool = True


def policy(
    runner: str,
    *,
    near: bool = False,
    gpus: int = 0,
    slots: int | None = None,
    image: bool = True,
    setup_file: str | None = None,
) -> Policy:
    """The one table of what differs between runners.

    Args:
      runner: Beam's name of it.
      near: whether the cluster runs on this machine.
      gpus: GPUs of each worker machine.
      slots: task slots of the cluster, where it tells them.
      image: whether the user names a container image, which then holds this package.
      setup_file: travels to the workers where there is no image.

    >>> policy("DirectRunner")
    Policy(options={}, waits=True)
    """
    if runner in LOCAL:
        return Policy({})
    package = {} if image or setup_file is None else {"setup_file": setup_file}
    if runner == "DataflowRunner":
        # One process a machine shares one loaded model; its second thread reads while the first one's
        # mini-batches are in the model.
        return Policy(
            {
                **_EVERYWHERE,
                "number_of_worker_harness_threads": 2,
                "experiments": "no_use_multiple_sdk_containers",
                **({"sdk_location": "container"} if image else package),
            },
            waits=False,
        )
    if runner == "PrismRunner":
        return Policy({**_EVERYWHERE, "environment_type": "LOOPBACK"})
    # One SDK process for each GPU, else one for each TaskManager or executor, with a thread for each slot.
    environment = {"environment_type": "LOOPBACK"} if near else {"environment_type": "DOCKER", **package}
    parallel = {"parallelism": slots} if runner == "FlinkRunner" and slots else {}
    return Policy({**_EVERYWHERE, **environment, "sdk_worker_parallelism": max(1, gpus), **parallel})


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


def endpoint_of(options: Any, runner: str) -> str | None:
    """Where the user says that the cluster is: the job server's endpoint, or the master's."""
    given = options.get_all_options()
    own = {"FlinkRunner": "flink_master", "SparkRunner": "spark_master_url"}.get(runner)
    return given.get("job_endpoint") or (own and given.get(own))


def boot_command() -> str:
    """The command that starts an SDK worker; it lies beside this Python where the package is installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "embedbeam-boot")
    return beside if os.path.exists(beside) else shutil.which("embedbeam-boot") or "embedbeam-boot"


def _setup_file() -> str | None:
    """setup.py of the checkout that this runs from, if it does."""
    path = Path(__file__).resolve().parents[2] / "setup.py"
    return str(path) if path.exists() else None


def worker_gpus(options: Options, parsed: Any) -> int:
    """GPUs of each worker machine, as far as the options tell."""
    if options.worker_gpus is not None:
        return options.worker_gpus
    return accelerators(parsed.get_all_options().get("dataflow_service_options"))


def beam_options(options: Options, *, slots: int | None = None) -> Any:
    """Beam's options: what the policy says, and over it whatever the user gave."""
    parsed = parse(options)
    if options.runner in LOCAL:
        return parsed
    given = parsed.get_all_options(drop_default=True)
    gpus = worker_gpus(options, parsed)
    chosen = policy(
        options.runner,
        near=is_near(endpoint_of(parsed, options.runner)),
        gpus=gpus,
        slots=slots,
        image=bool(given.get("sdk_container_image") or given.get("environment_config")),
        setup_file=given.get("setup_file") or _setup_file(),
    )
    wanted = {"job_name": job_name(options.output), **chosen.options}
    environment = given.get("environment_type") or wanted.get("environment_type", "")
    if options.runner in PORTABLE and environment != "DOCKER":
        wanted.pop("setup_file", None)  # the workers' machines have the package
    if not given.get("environment_options"):
        config = environment_config(environment, boot=boot_command(), gpus=gpus)
        wanted |= {"environment_config": config} if config else {}
    return parse(
        options,
        [f"--no_{name}" if value is False else f"--{name}={value}" for name, value in wanted.items()],
    )


def job_name(output: str) -> str:
    """The remote job's name, from where it writes: a second job of that name is a second job on that folder.

    >>> job_name("gs://bucket/vectors/2024-01-31")
    'embedbeam-2024-01-31-b571caeb'
    """
    import hashlib

    from transforms.storage.files import full_path

    path = full_path(output).rstrip("/")
    word = re.sub(r"[^a-z0-9]+", "-", path.rpartition("/")[2].lower()).strip("-")[:24] or "out"
    return f"embedbeam-{word}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def parse(options: Options, extra: list[str] | None = None) -> Any:
    """The user's Beam options as an object, with others that they win over.

    Raises:
      UsageError: Beam does not take them.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    # The last one of a name wins, even where it says what is Beam's default; of lists and dicts both hold.
    arguments = [*(extra or []), *options.beam_args]
    if options.runner not in LOCAL:
        arguments.append(f"--runner={options.runner}")
    try:
        parsed = PipelineOptions(arguments)
        parsed.get_all_options()
    except SystemExit:  # argparse has said why, on the lines before
        raise UsageError(f"Beam does not take these options: {' '.join(map(redact, arguments))}") from None
    return parsed


def make_runner(options: Options) -> Any:
    """The runner. DirectRunner is Beam's in-process FnApiRunner, chosen explicitly.

    What Beam's own DirectRunner switches to depends on the network and on the graph.
    """
    if options.runner in LOCAL:
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        return FnApiRunner()
    from apache_beam.runners.runner import create_runner

    return create_runner(options.runner)


def known_beam_options() -> dict[str, str]:
    """All options that Beam knows, as they are typed (--direct_num_workers, ...), and the class of each."""
    import argparse

    from apache_beam.options import pipeline_options

    def classes(base: Any) -> list[Any]:
        return [found for below in base.__subclasses__() for found in (below, *classes(below))]

    known = {}
    for options_class in classes(pipeline_options.PipelineOptions):
        if "_add_argparse_args" in vars(options_class):
            parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
            options_class._add_argparse_args(parser)
            names = (name for action in parser._actions for name in action.option_strings)
            known.update(dict.fromkeys(names, options_class.__name__))
    return known
