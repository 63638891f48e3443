"""`embedbeam finish`: balances a job that nobody waited for."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_output, open_stores


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.options.fields import stated
    from pipeline.options.options import RunOptions

    add_output(parser)
    (limit,) = (one for one in stated(RunOptions) if one.name == "max_dead_letters")
    parser.add_argument(limit.flag, default=limit.default, metavar=limit.metavar, help=limit.help)


def run(args: argparse.Namespace) -> Result:
    """Balance a job that nobody waited for, and write its manifest and _SUCCESS."""
    with args.screen.doing("reading the receipts"):
        open_stores(args.output, args.beam_args)
        from pipeline.run.finish import finish_job
        from pipeline.run.progress import Progress
        from pipeline.run.summary import summary

        manifest = finish_job(args.output, args.max_dead_letters)
    return Result(manifest, summary(manifest, Progress()))
