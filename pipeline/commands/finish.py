"""`embedbeam finish`: balances a job that nobody waited for."""

from __future__ import annotations

import argparse
import dataclasses

from pipeline.commands.folders import add_output, open_stores
from pipeline.commands.results import print_json
from pipeline.commands.unknown import check_unknown

HELP = "Balance a job that nobody waited for, and write its manifest and _SUCCESS."


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.options.fields import stated
    from pipeline.options.options import RunOptions

    add_output(parser)
    (limit,) = (one for one in stated(RunOptions) if one.name == "max_dead_letters")
    parser.add_argument(limit.flag, default=limit.default, metavar=limit.metavar, help=limit.help)


def run(args: argparse.Namespace) -> int:
    """Writes the manifest and _SUCCESS. Returns the exit code."""
    args.screen.quiet = args.quiet
    check_unknown(args.beam_args, args.parser)
    with args.screen, args.screen.doing("reading the receipts"):
        open_stores(args.output, args.beam_args)
        from pipeline.run.launch import finish_job
        from pipeline.run.progress import Progress
        from pipeline.run.summary import print_summary

        manifest = finish_job(args.output, args.max_dead_letters)
    if args.json:
        print_json(dataclasses.asdict(manifest))
    else:
        print_summary(manifest, Progress())
    return 0
