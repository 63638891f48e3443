"""`embedbeam projector`: files of TensorBoard's Embedding Projector."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_seed, add_source, open_source


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--to", metavar="DIR", help="write there (default: OUTPUT/_projector)")
    parser.add_argument(
        "--sample", metavar="N", type=int, default=10_000, help="most points: browsers tire of more (10000)"
    )
    add_seed(parser, "the sample")


def run(args: argparse.Namespace) -> Result:
    """Write the files of TensorBoard's Embedding Projector.

    Raises:
      UsageError: the output has no rows, or is not finished.
    """
    from pipeline.projector import MOST, write_projector
    from transforms.errors import UsageError

    if not 1 <= args.sample <= MOST:
        raise UsageError(f"--sample {args.sample}: expected 1 to {MOST:,}", argument="sample")
    output = open_source(args)
    with args.screen.telling("starting") as told:
        made = write_projector(output, sample=args.sample, seed=args.seed, to=args.to, told=told)
    words = [
        f"{made['points']:,} of {made['rows']:,} rows as points of {made['dim']} dimensions",
        f"open them: tensorboard --logdir {made['folder']}, then PROJECTOR",
    ]
    return Result(made, words)
