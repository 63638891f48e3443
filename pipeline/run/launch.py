"""One run of the job: plan or resume, run, balance, finish."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pipeline.cluster import remote, runners
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.preflight import prepare
from pipeline.cluster.probe import probe
from pipeline.job import Job, check_same_job, new_job, parse_plan, plan_file
from pipeline.options.options import Options
from pipeline.plan.kept import kept_types, take_sample
from pipeline.plan.plan import Plan, find_files, make_plan
from pipeline.run import finish
from pipeline.run.output import check_empty, clear, output_lock, read_run, write_run
from pipeline.run.progress import Progress
from transforms.counters import COUNTERS
from transforms.elements import Shard
from transforms.encoder.model.handle import MINILM, digest, resolve
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.storage.files import full_path

if TYPE_CHECKING:
    from transforms.steps.shared import SharedEncoder

_LOG = logging.getLogger(__name__)


def run(options: Options) -> finish.Manifest | None:
    """Runs the job that the options describe, or goes on with it where it was.

    Returns:
      The manifest; None where the job was sent to a runner that nobody waits for (Dataflow).

    Raises:
      UsageError: the user's mistake; nothing was started.
      EmbedbeamError: the job ran and something is wrong.
    """
    started = time.time()
    if options.dry_run:
        raise UsageError("--dry-run prints a plan and makes no manifest; use it on the command line")
    COUNTERS.reset()
    cluster = prepare(options)
    if cluster.options.get("dry_run"):
        build_only(options, cluster)
        return None
    folder = Folder(options.output)
    if folder.local and os.path.exists(folder.path) and not os.path.isdir(folder.path):
        raise UsageError(f"--output {options.output}: is a file; expected a folder")
    with output_lock(folder):
        plan_data = None if options.overwrite else folder.read(layout.PLAN)
        if plan_data is None:
            check_empty(folder)
            cluster = look_at_cluster(cluster, options)
            job, plan, encoder = plan_job(options, cluster)
            shards = list(plan.shards)
            clear(folder)  # only now: a mistake in the command costs nobody an output
            folder.write(layout.PLAN, plan_file(job, plan))
        else:
            job, shards = parse_plan(plan_data, folder.join(layout.PLAN))
            check_same_job(job, options, digest(resolve(options.model)))
            encoder = None
            _warn_of_new_files(options, shards)
        manifest = finished(folder, job, shards, options)
        if manifest is not None:
            return manifest
        if cluster.is_local and read_run(folder).get("runner", options.runner) in runners.LOCAL:
            folder.sweep()  # elsewhere a worker that was thought dead may still be writing
        folder.delete(layout.SUCCESS)
        for name in folder.names(layout.FAILURES):
            folder.delete(f"{layout.FAILURES}/{name}")
        if encoder is None and len(folder.names(layout.RECEIPTS)) < len(shards):
            cluster = look_at_cluster(cluster, options)
        if len(folder.names(layout.RECEIPTS)) < len(shards):
            if encoder is None:
                encoder = load_encoder(options, job.model_digest)
            device = getattr(encoder.acquire().encoder, "device_name", "unknown")
            write_run(folder, device, options.runner)
            from pipeline.run.submit import submit

            with Progress(len(shards), folder, quiet=options.quiet, near=cluster.in_process):
                job_id = submit(options, job, encoder, cluster)
            if job_id is not None:
                say(options, sent_text(options, job_id))
                return None
        return complete(folder, job, shards, options, started)


def complete(
    folder: Folder, job: Job, shards: list[Shard], options: Options, started: float | None = None
) -> finish.Manifest:
    """Balances the books of a job whose shards are all done, and writes the manifest and _SUCCESS.

    `started` is when this process began the run; None where it was another's.
    """
    receipts = finish.read_receipts(folder)
    last_run = read_run(folder)
    ended = time.time()
    if started is None:
        started = float(last_run.get("time", 0)) or min((r.started for r in receipts), default=ended)
        ended = max((r.finished for r in receipts), default=ended)
    finish.balance(folder, shards, receipts)
    manifest = finish.make_manifest(
        job,
        receipts,
        output=options.output,
        wall_seconds=max(0.0, ended - started),
        device=last_run.get("device", "unknown"),
    )
    finish.check_dead_letters(receipts, options.max_dead_letters, options.output)
    folder.sweep()  # what attempts left that were killed
    for name in folder.names(layout.ATTEMPTS):
        folder.delete(f"{layout.ATTEMPTS}/{name}")
    folder.write(layout.MANIFEST, manifest.to_json())
    folder.write(layout.SUCCESS, b"")
    return manifest


def look_at_cluster(cluster: Cluster, options: Options) -> Cluster:
    """Is it there, and has an earlier run's job ended? Returns it with what it told."""
    cluster = probe(cluster, quiet=options.quiet)
    if not cluster.is_local:
        remote.RemoteJob(cluster).wait_for_twin(options.output)
    return cluster


def plan_job(options: Options, cluster: Cluster) -> tuple[Job, Plan, SharedEncoder]:
    """A new job: its plan, its record and the model, all checked here."""
    if not cluster.is_local:
        options = dataclasses.replace(options, worker_gpus=cluster.gpus)
    plan = make_plan(options, parallelism=cluster.slots or 1)
    sample = take_sample(plan, options)
    kept = kept_types(plan, sample, options)
    if plan.unknown:
        say(options, f"not read: {len(plan.unknown):,} files of unknown kind, e.g. {plan.unknown[0]}")
    encoder = load_encoder(options)
    return new_job(options, plan, kept, encoder.acquire().encoder), plan, encoder


def finish_job(output: str, max_dead_letters: str) -> finish.Manifest:
    """Balances a job whose shards are all done, as `run` does at its end.

    Raises:
      UsageError: there is no job in the folder.
      EmbedbeamError: shards are missing, or the books do not balance.
    """
    folder = Folder(output)
    plan_data = folder.read(layout.PLAN)
    if plan_data is None:
        raise UsageError(f"{output}: no job here: expected the output folder of `embedbeam embed`")
    with output_lock(folder):
        job, shards = parse_plan(plan_data, folder.join(layout.PLAN))
        options = Options(input=tuple(job.input), output=output, max_dead_letters=max_dead_letters)
        return finished(folder, job, shards, options) or complete(folder, job, shards, options)


def sent_text(options: Options, job_id: str) -> str:
    """What to do about a job that nobody waits for."""
    return (
        f"Created job with id: [{job_id}] on {options.runner}; it goes on without this process. How far it "
        f"is: `embedbeam status {options.output}`; once it has ended, `embedbeam finish {options.output}` "
        "balances it and writes _SUCCESS"
    )


def build_only(options: Options, cluster: Cluster) -> None:
    """Beam's own --dry_run, which Dataflow has: the job is built and checked; nothing is sent or written."""
    from pipeline.run.submit import submit

    job, _, encoder = plan_job(options, cluster)
    submit(options, job, encoder, cluster)
    say(options, f"job {cluster.job_name} was built for {options.runner}; nothing was sent")


def finished(folder: Folder, job: Job, shards: list[Shard], options: Options) -> finish.Manifest | None:
    """The manifest of a job that is done already; None if there is something to do."""
    if folder.read(layout.SUCCESS) is None:
        return None
    manifest = finish.read_manifest(folder)
    receipts, parts = folder.names(layout.RECEIPTS), folder.names().items()
    there = sum(size for name, size in parts if name.startswith("part-"))
    if manifest is None or len(receipts) != len(shards) or there != manifest.output_bytes:
        return None
    if sum(manifest.dead_letters.values()):
        finish.check_dead_letters(finish.read_receipts(folder), options.max_dead_letters, options.output)
    return dataclasses.replace(manifest, output=options.output)  # the folder may have been moved


def say(options: Options, text: str) -> None:
    """One line for the user, on standard error."""
    if not options.quiet:
        print(f"embedbeam: {text}", file=sys.stderr, flush=True)


def _warn_of_new_files(options: Options, shards: list[Shard]) -> None:
    """A plan is made once: files that came since are not embedded, and the user should know."""
    if options.limit is not None or options.quiet:
        return
    try:
        _, files, _ = find_files(options)
    except UsageError:
        return  # the input is gone; shards that still need it will say so
    planned = {piece.path for shard in shards for piece in shard.slices}
    new = [file.path for file, _ in files if file.path not in planned]
    if new:
        say(
            options,
            f"{len(new):,} files came after the plan was made and are not embedded, e.g. {new[0]}; "
            "give them an output folder of their own",
        )


def load_encoder(options: Options, model_digest: str | None = None) -> SharedEncoder:
    """Loads and checks the model here, before any worker starts; local workers then share it."""
    from transforms.encoder.hub import ModelConfig
    from transforms.steps.shared import SharedEncoder

    # Workers run in folders of their own.
    handle = options.model if options.model == MINILM else full_path(options.model)
    encoder = SharedEncoder(ModelConfig(handle, options.signature, options.model_output, model_digest))
    loaded: Any = encoder.keep()
    # Workers on other machines must have the very same model.
    encoder.config = dataclasses.replace(encoder.config, digest=loaded.encoder.digest)
    return encoder
