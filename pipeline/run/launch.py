"""One run of the job: plan or resume, run, balance, finish."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

from pipeline.cluster import remote, runners
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.preflight import prepare
from pipeline.cluster.probe import probe
from pipeline.job import Job, check_same_job, new_job, parse_plan
from pipeline.options.options import Options
from pipeline.plan.kept import kept_types, take_sample
from pipeline.plan.plan import Plan, make_plan
from pipeline.run import changes, finish
from pipeline.run.loading import Background, importing, shared_encoder, start_loading
from pipeline.run.output import check_empty, clear, output_lock, read_run, write_plan, write_run
from pipeline.run.progress import Progress
from pipeline.run.screen import Screen
from pipeline.run.summary import sent_text
from transforms.elements import Shard, ShardReceipt
from transforms.encoder.model.handle import digest, resolve
from transforms.errors import UsageError
from transforms.observer import observe
from transforms.output import layout, ledger, manifest
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder


def run(
    options: Options, *, screen: Screen | None = None, progress: Progress | None = None
) -> Manifest | None:
    """Runs the job that the options describe, or goes on with it where it was.

    Args:
      screen: where it is said what is done; standard error, if none is given.
      progress: counts what happens, for a summary.

    Returns:
      The manifest; None where the job was sent to a runner that nobody waits for (Dataflow).

    Raises:
      UsageError: the user's mistake; nothing was started.
      EmbedbeamError: the job ran and something is wrong.
    """
    if options.dry_run:
        raise UsageError(
            "dry_run prints a plan and makes no manifest; use it on the command line", argument="dry_run"
        )
    progress = progress or Progress()
    with contextlib.ExitStack() as stack:
        if screen is None:
            screen = Screen(quiet=options.quiet)
            stack.callback(screen.close)
        stack.enter_context(screen)
        stack.callback(observe(progress.hear))
        return _run(options, screen, progress)


def _run(options: Options, screen: Screen, progress: Progress) -> Manifest | None:
    started = time.time()
    with screen.doing("checking the options"):
        cluster = prepare(options)
    if cluster.options.get("dry_run"):
        build_only(options, cluster, screen)
        return None
    folder = Folder(options.output)
    if folder.local and os.path.exists(folder.path) and not os.path.isdir(folder.path):
        raise UsageError(f"output {options.output}: is a file; expected a folder", argument="output")
    with output_lock(folder):
        plan_data = None if options.overwrite else folder.read(layout.PLAN)
        loading: Background[HubEncoder] | None = None
        if plan_data is None:
            check_empty(folder)
            loading = start_loading(options, screen)
            cluster = look_at_cluster(cluster, options, screen)
            job, plan, loaded = plan_job(options, cluster, screen, loading)
            shards = list(plan.shards)
            progress.clearing = True
            clear(folder)  # only now: a mistake in the command costs nobody an output
            job = write_plan(folder, job, plan)
        else:
            with screen.doing("reading the plan"):
                job, shards = parse_plan(plan_data, folder.join(layout.PLAN))
            with screen.doing("checking the model"):
                check_same_job(job, options, digest(resolve(options.model)))
            if not options.quiet:
                with screen.doing("listing the input"):
                    said = changes.notes(options, shards)
                for note in said:
                    screen.say(note)
        progress.planned = True
        done = finished(folder, job, shards, options)
        if done is not None:
            return done
        last_runner = read_run(folder, job.identity).get("runner", options.runner)
        if cluster.is_local and last_runner in runners.LOCAL:
            folder.sweep()  # elsewhere a worker that was thought dead may still be writing
        folder.delete(layout.SUCCESS)
        for name in folder.names(layout.FAILURES):
            folder.delete(f"{layout.FAILURES}/{name}")
        left = to_do(folder, shards, screen)
        while True:
            if not left:
                with screen.doing("balancing the books"):
                    # Each is read once, after the work. What a late worker of another job left is found here.
                    receipts = ledger.read_receipts(folder, job.identity)
                    left = ledger.drop_others(folder, receipts)
                if not left:
                    return complete(folder, job, shards, options, receipts, started)
            if loading is None:
                cluster = look_at_cluster(cluster, options, screen)
                left = to_do(folder, shards, screen)  # an earlier run's job may have done it meanwhile
                if not left:
                    continue
                loading = start_loading(options, screen, job.model_digest)
            submit = import_submit(screen)
            loaded = loading.result()
            encoder = shared_encoder(options, loaded)
            write_run(folder, job, loaded.device_name, options.runner)
            progress.begin(folder, job.identity, shards, near=cluster.in_process)
            with screen.showing(progress.line):
                job_id = submit(options, job, encoder, cluster)
            progress.end()
            if job_id is not None:
                screen.say(sent_text(options, job_id))
                return None
            left = 0  # or the books say why not


def to_do(folder: Folder, shards: list[Shard], screen: Screen) -> int:
    """How many shards are not committed."""
    with screen.doing("reading the receipts"):
        return len(shards) - len(folder.shards(layout.RECEIPTS))


def import_submit(screen: Screen) -> Any:
    """`submit`, once Beam is imported."""
    with screen.doing("importing Beam"), importing():
        from pipeline.run.submit import submit

    return submit


def complete(
    folder: Folder,
    job: Job,
    shards: list[Shard],
    options: Options,
    receipts: list[ShardReceipt],
    started: float | None = None,
) -> Manifest:
    """Balances the books of a job whose shards are all done, and writes the manifest and _SUCCESS.

    `started` is when this process began the run; None where it was another's.
    """
    last_run = read_run(folder, job.identity)
    ended = time.time()
    if started is None:
        started = float(last_run.get("time", 0)) or min((r.started for r in receipts), default=ended)
        ended = max((r.finished for r in receipts), default=ended)
    finish.balance(folder, job.identity, shards, receipts)
    made = finish.make_manifest(
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
    folder.write(layout.MANIFEST, made.to_json())
    folder.write(layout.SUCCESS, b"")
    return made


def look_at_cluster(cluster: Cluster, options: Options, screen: Screen) -> Cluster:
    """Is it there, and has an earlier run's job ended? Returns it with what it told."""
    if cluster.is_local:
        return cluster
    with screen.doing("asking the cluster"):
        cluster = probe(cluster, quiet=options.quiet)
        remote.RemoteJob(cluster).wait_for_twin(options.output)
    return cluster


def plan_job(
    options: Options, cluster: Cluster, screen: Screen, loading: Background[HubEncoder]
) -> tuple[Job, Plan, HubEncoder]:
    """A new job: its plan, its record and the model, all checked here."""
    if not cluster.is_local:
        options = dataclasses.replace(options, worker_gpus=cluster.gpus)
    with screen.doing("listing the input"):
        plan = make_plan(options, parallelism=cluster.slots or 1)
    with screen.doing("sampling the input"):
        sample = take_sample(plan, options)
        kept = kept_types(plan, sample, options)
    if plan.unknown:
        screen.say(f"not read: {len(plan.unknown):,} files of unknown kind, e.g. {plan.unknown[0]}")
    loading.check()
    import_submit(screen)  # while the model is loaded
    encoder = loading.result()
    return new_job(options, plan, kept, encoder), plan, encoder


def finish_job(output: str, max_dead_letters: str) -> Manifest:
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
        done = finished(folder, job, shards, options)
        receipts = [] if done else ledger.read_receipts(folder, job.identity)
        return done or complete(folder, job, shards, options, receipts)


def build_only(options: Options, cluster: Cluster, screen: Screen) -> None:
    """Beam's own --dry_run, which Dataflow has: the job is built and checked; nothing is sent or written."""
    job, _, encoder = plan_job(options, cluster, screen, start_loading(options, screen))
    import_submit(screen)(options, job, shared_encoder(options, encoder), cluster)
    screen.say(f"job {cluster.job_name} was built for {options.runner}; nothing was sent")


def finished(folder: Folder, job: Job, shards: list[Shard], options: Options) -> Manifest | None:
    """The manifest of a job that is done already; None if there is something to do."""
    if folder.read(layout.SUCCESS) is None:
        return None
    made = manifest.read(folder, job.identity)
    there = sum(size for name, size in folder.names().items() if layout.shard_of_part(name))
    if made is None or len(folder.shards(layout.RECEIPTS)) != len(shards) or there != made.output_bytes:
        return None
    if sum(made.dead_letters.values()):
        receipts = ledger.read_receipts(folder, job.identity)
        finish.check_dead_letters(receipts, options.max_dead_letters, options.output)
    return dataclasses.replace(made, output=options.output)  # the folder may have been moved
