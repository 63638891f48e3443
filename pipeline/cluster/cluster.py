"""Where a job runs: this process, or a cluster. Found out once, from one parse of Beam's options."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from pipeline.cluster import beam_options, runners
from pipeline.options.options import Options
from transforms.errors import UsageError
from transforms.storage.files import is_local


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What is known of the place where a job runs.

    Attributes:
      runner: Beam's name of the runner.
      job_name: the job's name there, made of its output folder unless the user names it; empty if local.
      gpus: GPUs of each worker machine, as far as the options tell.
      parsed: Beam's options as the user gave them; None of a local job that gives none.
      values: the same by name, with Beam's defaults; empty of a local job that gives none.
      typed: names of those that the user gave.
      slots: task slots, where the cluster was asked and told.
    """

    runner: str
    job_name: str = ""
    gpus: int = 0
    parsed: Any = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    typed: frozenset[str] = frozenset()
    slots: int | None = None

    @property
    def is_local(self) -> bool:
        return self.runner in runners.LOCAL

    @property
    def waits(self) -> bool:
        """Whether the launcher stays until the job ends."""
        return self.runner != "DataflowRunner"

    @property
    def in_process(self) -> bool:
        """Whether the documents are embedded in this process."""
        return self.is_local or self.environment_type == "LOOPBACK"

    @property
    def endpoint(self) -> str | None:
        """HOST:PORT of a job server that runs already; None where Beam starts one."""
        given = self.values.get("job_endpoint")
        return None if given == "embed" else given

    @property
    def master(self) -> str | None:
        """What the user calls Flink's or Spark's master; of other runners None."""
        own = {"FlinkRunner": "flink_master", "SparkRunner": "spark_master_url"}.get(self.runner)
        return self.values.get(own) if own else None

    @property
    def rest_url(self) -> str | None:
        """Flink's REST service, where a job goes to Flink without a job server of the user's."""
        by_master = self.runner == "FlinkRunner" and not self.values.get("job_endpoint")
        return runners.flink_url(self.master) if by_master else None

    @property
    def near(self) -> bool:
        """Whether it is on this machine."""
        return runners.is_near(self.values.get("job_endpoint") or self.master)

    @property
    def environment_type(self) -> str | None:
        """What starts the SDK workers: LOOPBACK, PROCESS, EXTERNAL or DOCKER; None of a local job."""
        return self.options.get("environment_type")

    @functools.cached_property
    def chosen(self) -> dict[str, Any]:
        """Options that the user left open. Of lists and dicts the user's values stay beside ours."""
        if self.is_local:
            return {}
        wanted = {"job_name": self.job_name} | runners.policy(
            self.runner,
            near=self.near,
            gpus=self.gpus,
            slots=self.slots,
            image=bool(self.values.get("sdk_container_image") or self.values.get("environment_config")),
            setup_file=self.values.get("setup_file") or runners.setup_file(),
        )
        environment = self.values.get("environment_type") or wanted.get("environment_type", "")
        if self.runner in runners.PORTABLE and environment != "DOCKER":
            wanted.pop("setup_file", None)  # the workers' machines have the package
        if not self.values.get("environment_options"):
            config = runners.environment_config(environment, boot=runners.boot_command(), gpus=self.gpus)
            wanted |= {"environment_config": config} if config else {}
        found: dict[str, Any] = {}
        for name, value in wanted.items():
            given = self.values.get(name)
            if isinstance(value, list):
                found[name] = [*value, *(given or [])]
            elif isinstance(value, dict):
                found[name] = {**value, **(given or {})}
            elif name not in self.typed:
                found[name] = value
        return found

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """All of Beam's options by name: the user's, over them nothing; the rest as the runner needs it."""
        return {**self.values, **self.chosen}

    def pipeline_options(self) -> Any:
        """Beam's options for the pipeline; None where Beam's defaults hold."""
        if self.parsed is not None:
            beam_options.put(self.parsed, self.chosen)
        return self.parsed

    def make_runner(self) -> Any:
        """The runner. DirectRunner is Beam's in-process FnApiRunner, chosen explicitly.

        What Beam's own DirectRunner switches to depends on the network and on the graph.
        """
        if self.is_local:
            from apache_beam.runners.portability.fn_api_runner import FnApiRunner

            return FnApiRunner()
        from apache_beam.runners.runner import create_runner

        return create_runner(self.runner)


def resolve(options: Options) -> Cluster:
    """Where a job runs, as its options say; nobody is asked yet. A plain local job needs no Beam for it.

    Raises:
      UsageError: no such runner, or options that Beam does not take.
    """
    name = options.runner
    if name not in runners.RUNNERS:
        raise UsageError(f"--runner {name}: expected one of {', '.join(runners.RUNNERS)}")
    local = name in runners.LOCAL
    paths = (options.output, options.model, *filter(None, [options.preprocessor]), *options.input)
    if local and not options.beam_args and all(map(is_local, paths)):
        return Cluster(name)
    parsed = beam_options.parse([*options.beam_args, *([] if local else [f"--runner={name}"])])
    values = parsed.get_all_options()
    gpus = options.worker_gpus
    if gpus is None:
        gpus = runners.accelerators(values["dataflow_service_options"])
    job_name = "" if local else values["job_name"] or runners.job_name(options.output)
    return Cluster(name, job_name, gpus, parsed, values, beam_options.names_of(options.beam_args))
