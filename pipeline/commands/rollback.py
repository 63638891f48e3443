"""`embedbeam rollback`: makes the output the current one that was before."""

from __future__ import annotations

import argparse
import os

from pipeline.commands import Result, add_output, open_stores
from pipeline.commands.publish import words
from pipeline.run.signals import Tell, on_signals


def add(parser: argparse.ArgumentParser) -> None:
    add_output(parser, "CURRENT", "name that `embedbeam publish --to` made")


def run(args: argparse.Namespace) -> Result:
    """Go back to the output that was current before; again: further back.

    Raises:
      UsageError: there is none, all of them are gone, or it was written anew.
      EmbedbeamError: it is damaged, or another publish was faster.
    """
    from pipeline.publish import rollback

    on_signals(args.screen.fd, lambda tell: _stopped(args.output, tell))
    with args.screen.doing("looking at the output"):
        open_stores(args.output, args.beam_args, "CURRENT")
        made = rollback(args.output)
    return Result(made, words(made))


def _stopped(current: str, tell: Tell) -> None:
    """The same command again might go back twice, so what is current is said where that is known at once."""
    link = current.rstrip("/")
    now = f"{current} is {os.readlink(link)} now" if os.path.islink(link) else "it is done, or nothing is"
    tell(f"embedbeam: stopped; {now}: look at it before you go back again\n")
