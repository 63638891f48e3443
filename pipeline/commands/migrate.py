"""`embedbeam migrate`: the documents of an output through another model."""

from __future__ import annotations

import argparse
import dataclasses

from pipeline.commands import Result, add_json, open_stores
from pipeline.commands.embed import embed
from pipeline.options.arguments import add_arguments
from pipeline.options.fields import Option, stated
from pipeline.options.options import GROUPS, OF_DOCUMENTS, OF_ROWS, Options


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="output folder of the earlier job")
    parser.add_argument(
        "--from-inputs", action="store_true", help="read OLD's inputs, even where it has kept the texts"
    )
    parser.add_argument(
        "--take-changes",
        action="store_true",
        help="inputs that came, changed or went since OLD was made: read them as they are now",
    )
    add_json(
        add_arguments(
            parser, [_asked(one) for one in stated(*GROUPS) if one.typed and one.name not in OF_DOCUMENTS]
        )
    )


def _asked(one: Option) -> Option:
    """An option of `embed` as it is here: the model must be named, OLD's choices are the defaults."""
    if one.name == "model":
        return dataclasses.replace(one, default=dataclasses.MISSING)
    return dataclasses.replace(one, unset="OLD's") if one.name in OF_ROWS else one


def run(args: argparse.Namespace) -> Result:
    """Embed the documents of an output with another model, or go on with that where it was.

    Raises:
      UsageError: OLD is no output, its texts are not all there, or its inputs are not what they were.
    """
    from pipeline.migrate import migration
    from transforms.output.reader import open_output

    with args.screen.doing("reading OLD's plan"):
        open_stores(args.old, args.beam_args, "OLD")
        old = open_output(args.old)
        given = {name: getattr(args, name) for name in Options.fields() & vars(args).keys()}
        how = {"from_inputs": args.from_inputs, "take_changes": args.take_changes}
        options, planned = migration(old, given, **how, say=args.screen.say)
    return embed(args, options, planned)
