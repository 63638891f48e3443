"""`embedbeam rollback`: makes the output the current one that was before."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_output, open_stores
from pipeline.commands.publish import words


def add(parser: argparse.ArgumentParser) -> None:
    add_output(parser, "CURRENT", "name that `embedbeam publish --to` made")


def run(args: argparse.Namespace) -> Result:
    """Go back to the output that was current before; again: further back.

    Raises:
      UsageError: there is none, it is gone, or it was written anew.
      EmbedbeamError: it is damaged, or another publish was faster.
    """
    from pipeline.publish import rollback

    with args.screen.doing("looking at the output"):
        open_stores(args.output, args.beam_args, "CURRENT")
        made = rollback(args.output)
    return Result(made, words(made))
