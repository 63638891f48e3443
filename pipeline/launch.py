"""One run of the job: plan or resume, run, balance, finish."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from pipeline import finish
from pipeline.job import Job, check_same_job, new_job, parse_plan, plan_file, row_schema
from pipeline.kept import kept_types, take_sample
from pipeline.options import Options
from pipeline.output import check_empty, clear, output_lock, read_run, write_run
from pipeline.plan import find_files, make_plan, read_options
from pipeline.progress import Progress
from pipeline.runners import make_runner
from transforms.counters import COUNTERS
from transforms.elements import Shard
from transforms.encoder.handle import digest, resolve
from transforms.errors import EmbedbeamError, ModelError, UsageError
from transforms.write import layout
from transforms.write.folder import Folder

if TYPE_CHECKING:
    from transforms.encoder.shared import SharedEncoder

_LOG = logging.getLogger(__name__)


def run(options: Options) -> finish.Manifest:
    """Runs the job that the options describe, or goes on with it where it was.

    Raises:
      UsageError: the user's mistake; nothing was started.
      EmbedbeamError: the job ran and something is wrong.
    """
    started = time.monotonic()
    if options.dry_run:
        raise UsageError("--dry-run prints a plan and makes no manifest; use it on the command line")
    COUNTERS.reset()
    folder = Folder(options.output)
    if folder.local and os.path.exists(folder.path) and not os.path.isdir(folder.path):
        raise UsageError(f"--output {options.output}: is a file; expected a folder")
    with output_lock(folder):
        plan_data = None if options.overwrite else folder.read(layout.PLAN)
        if plan_data is None:
            check_empty(folder)
            plan = make_plan(options)
            sample = take_sample(plan, options)
            kept = kept_types(plan, sample, options)
            make_runner(options)
            if plan.unknown:
                say(options, f"not read: {len(plan.unknown):,} files of unknown kind, e.g. {plan.unknown[0]}")
            encoder = load_encoder(options)
            job = new_job(options, plan, kept, encoder.acquire().encoder)
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
        folder.sweep()
        folder.delete(layout.SUCCESS)
        for name in folder.names(layout.FAILURES):
            folder.delete(f"{layout.FAILURES}/{name}")
        done = len(folder.names(layout.RECEIPTS))
        if done < len(shards):
            if encoder is None:
                encoder = load_encoder(options, job.model_digest)
            device = getattr(encoder.acquire().encoder, "device_name", "unknown")
            write_run(folder, device)
            with Progress(len(shards), folder, quiet=options.quiet):
                run_pipeline(options, job, encoder)
        receipts = finish.read_receipts(folder)
        finish.balance(folder, shards, receipts)
        wall = time.monotonic() - started
        manifest = finish.make_manifest(
            job,
            receipts,
            output=options.output,
            wall_seconds=wall,
            device=read_run(folder).get("device", "unknown"),
        )
        finish.check_dead_letters(receipts, options.max_dead_letters, options.output)
        folder.write(layout.MANIFEST, manifest.to_json())
        folder.write(layout.SUCCESS, b"")
        return manifest


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
    from transforms.encoder.encoder import ModelConfig
    from transforms.encoder.shared import SharedEncoder

    encoder = SharedEncoder(ModelConfig(options.model, options.signature, options.model_output, model_digest))
    loaded: Any = encoder.keep()
    # Workers on other machines must have the very same model.
    encoder.config = dataclasses.replace(encoder.config, digest=loaded.encoder.digest)
    return encoder


def run_pipeline(options: Options, job: Job, encoder: SharedEncoder) -> None:
    """Builds the pipeline and runs it to its end.

    Raises:
      EmbedbeamError: with the first error's own words, however deep in Beam it happened.
    """
    import apache_beam as beam

    from pipeline.build import PipelineConfig, build_pipeline
    from pipeline.runners import beam_options
    from transforms.chunk import ChunkConfig
    from transforms.read.shards import ReadConfig
    from transforms.write.commit import WriteConfig

    schema = row_schema(job)
    config = PipelineConfig(
        read=ReadConfig(read_options(options), schema.kept, options.skip_bad_files),
        chunk=ChunkConfig(job.long_documents, job.chunk_overlap, job.max_tokens, job.batch_tokens),
        encoder=encoder,
        write=WriteConfig(
            output=options.output,
            format=job.output_format,
            schema=schema,
            metadata={
                "embedbeam.version": job.embedbeam,
                "embedbeam.model": job.model,
                "embedbeam.model_digest": job.model_digest,
                "embedbeam.dim": str(job.dim),
                "embedbeam.dtype": job.vector_dtype,
            },
            gzip=job.tfrecord_gzip,
        ),
        window_chunks=job.window_chunks,
    )
    pipeline = beam.Pipeline(runner=make_runner(options), options=beam_options(options))
    build_pipeline(pipeline, config)
    try:
        pipeline.run().wait_until_finish()
    except EmbedbeamError as e:
        e.args = (_STEP.sub("", str(e.args[0])), *e.args[1:])  # Beam adds the step to the message
        raise
    except Exception as e:
        _LOG.info("the pipeline failed", exc_info=True)
        raise plain_error(e) from e


_STEP = re.compile(r" \[while running '.*", re.DOTALL)
_OWN_ERROR = re.compile(r"transforms\.errors\.(\w+): (.*?)(?: \[while running '|$)", re.MULTILINE)


def plain_error(error: Exception) -> EmbedbeamError:
    """The error behind one that Beam raises: our own words if we raised it, else its last line."""
    text = str(error)
    own = _OWN_ERROR.findall(text)
    if own:
        kind, message = own[-1]
        return ModelError(message) if kind == "ModelError" else finish.JobFailed(message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = _STEP.sub("", lines[-1] if lines else type(error).__name__)
    advice = "run with --verbose for the traceback"
    if re.match(r"(OSError|\w*Error): \[Errno ", last):  # a full disk, a lost mount
        advice = "what is committed is kept: mend this, then run the same command again"
    return finish.JobFailed(f"{last} ({advice})")
