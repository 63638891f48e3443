"""`embedbeam publish`: makes an output the current one, at once for all who read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_output, open_stores

_KEEP = 5
_CHECKED = (
    "It looks at receipts and at the sizes of the files, not into these: `embedbeam verify` reads them all, "
    "and finds one of the same size with other bytes. Verify first."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description} {_CHECKED}"
    add_output(parser)
    parser.add_argument(
        "--to",
        required=True,
        metavar="CURRENT",
        help="name of the current output: a path, or a URL of a store",
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=_number,
        default=_KEEP,
        help=f"remember the last N for `embedbeam rollback`, this one among them (default: {_KEEP})",
    )


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number from 2: the current one, one to go back to"
        )
    return int(text)


def run(args: argparse.Namespace) -> Result:
    """Make a finished output the current one of a name, at once for all who read it.

    Raises:
      UsageError: it is no finished output, or the name stands for something else.
      EmbedbeamError: it is damaged, or another publish was faster.
    """
    from pipeline.publish import publish

    with args.screen.doing("looking at the output"):
        open_stores(args.output, args.beam_args)
        open_stores(args.to, args.beam_args, "--to")
        made = publish(args.output, args.to, args.keep)
    return Result(made, words(made))


def words(made: dict[str, Any]) -> Iterator[str]:
    """What is current now, in lines."""
    is_now = "is now" if made["changed"] else "is already"
    yield f"{made['current']} {is_now} {made['output']}: {made['rows']:,} rows, job {made['job']}"
    if made["changed"] and made["previous"]:
        yield f"before, it was {made['previous']}"
    if gone := made.get("passed_over"):
        yield f"passed over, since they are gone: {', '.join(gone)}"
    back = ", ".join(made["remembered"]) or "nothing yet"
    yield f"`embedbeam rollback {made['current']}` goes back to: {back}"
