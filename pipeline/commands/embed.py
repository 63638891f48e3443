"""`embedbeam embed`: the job, or with --dry-run its plan."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from pipeline.commands import Result, add_json
from pipeline.options.arguments import add_embed_arguments, given_options
from pipeline.options.options import Options

if TYPE_CHECKING:
    from pipeline.plan.plan import Planned


def add(parser: argparse.ArgumentParser) -> None:
    add_json(add_embed_arguments(parser))


def run(args: argparse.Namespace) -> Result:
    """Embed documents, or go on with a job where it was."""
    return embed(args, given_options(args), lambda _: None)


def embed(args: argparse.Namespace, options: Options, planned: Planned) -> Result:
    """Does what a command asks for that embeds.

    Args:
      planned: is shown a new job's plan, as `pipeline.run.launch.run` does.
    """
    if options.dry_run:
        from pipeline.commands.dry_run import look_at_input

        return look_at_input(options, args.screen, planned)
    from pipeline.run.progress import Progress
    from pipeline.run.signals import on_signals, stop_job

    progress = Progress()
    progress.replaced = "is still there" if options.overwrite else ""
    on_signals(args.screen.fd, lambda tell: stop_job(options.output, args.typed, progress.replaced, tell))
    with args.screen.doing("starting"):
        from pipeline.run.launch import run as run_job
        from pipeline.run.summary import summary
    manifest = run_job(options, args.screen, progress, planned)
    record: dict[str, Any] = {} if manifest is None else dataclasses.asdict(manifest)
    words = [] if manifest is None or options.quiet else summary(manifest, progress, trace=options.trace)
    return Result(record | {"run": progress.numbers()}, words)
