"""`embedbeam embed`: the job, or with --dry-run its plan."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from pipeline.commands.results import add_json, print_json
from pipeline.commands.unknown import check_unknown
from pipeline.options.arguments import add_embed_arguments, given_options
from transforms.errors import UsageError

if TYPE_CHECKING:
    from pipeline.options.options import Options
    from pipeline.run.progress import Progress

HELP = "Embed documents, or go on with a job where it was."


def add(parser: argparse.ArgumentParser) -> None:
    add_json(add_embed_arguments(parser))


def run(args: argparse.Namespace) -> int:
    """Embeds what the options say. Returns the exit code."""
    options = given_options(args)
    args.screen.quiet = options.quiet or (options.dry_run and args.json)
    if options.dry_run:
        from pipeline.commands.dry_run import look_at_input, print_plan

        with args.screen:
            _check_unknown(args)
            found = look_at_input(options, args.screen)
        print_json(found) if args.json else print_plan(found)
        return 0
    from pipeline.run.progress import Progress
    from pipeline.run.signals import on_signals

    progress = Progress()
    on_signals(options.output, args.typed, args.screen.fd, replaced=lambda: replaced(options, progress))
    with args.screen:
        _check_unknown(args)
        with args.screen.doing("starting"):
            from pipeline.run.launch import run as run_job
            from pipeline.run.summary import print_summary
        manifest = run_job(options, screen=args.screen, progress=progress)
    if args.json:
        record: dict[str, Any] = {} if manifest is None else dataclasses.asdict(manifest)
        print_json(record | {"run": progress.numbers()})
    elif manifest is not None and not options.quiet:
        print_summary(manifest, progress)
    return 0


def replaced(options: Options, progress: Progress) -> str:
    """What has become of an earlier job's output that this job is to replace; empty where there is none."""
    if not options.overwrite or progress.planned:
        return ""
    return "is partly deleted" if progress.clearing else "is still there"


def _check_unknown(args: argparse.Namespace) -> None:
    try:
        check_unknown(args.beam_args, args.parser)
    except UsageError as e:
        if not args.lenient:
            raise
        args.screen.tell(f"{e} (ignored)")  # schedulers add options of their own
