"""`embedbeam diff`: what changed from one output to the next."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_source, open_source

_STATES = (
    "A fingerprint is of a document's payload and of all that changes its vector. same: the same id, "
    "fingerprint and file; moved: the same fingerprint, in another file or under another id; changed: the "
    "same id, another fingerprint; died, revived: a dead letter now, or then."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description} {_STATES}"
    parser.add_argument("old", metavar="OLD", help="output folder of the earlier job")
    add_source(parser, "NEW", "output folder of the later job")
    parser.add_argument(
        "--to", metavar="FILE", help="a Parquet file with a row for each document that is not the same"
    )


def run(args: argparse.Namespace) -> Result:
    """Compare the documents of two outputs: added, changed, removed, moved, dead now and then.

    Raises:
      UsageError: one of them is no output, or its job has not finished.
    """
    from pipeline.diff import diff
    from transforms.extras import check_extra

    check_extra("search", "duckdb", what="diff")
    new = open_source(args, to_folder=False)
    old = open_source(argparse.Namespace(**vars(args) | {"output": args.old, "to": None}))
    with args.screen.telling("starting") as told:
        made = diff(old, new, args.to, told)
    return Result(made, _words(made))


def _words(made: dict[str, Any]) -> Iterator[str]:
    from pipeline.diff import STATES

    if made["differing"]:
        yield f"the jobs differ in {', '.join(made['differing'])}: no vector of one is of use in the other"
    for state in STATES:
        yield f"{made[state]:>12,}  {state}"
    dead = made["dead_letters"]
    yield f"dead letters: {dead['old']:,} in OLD, {dead['new']:,} in NEW, {dead['both']:,} of them in both"
    if "rows" in made:
        yield f"wrote {made['rows']}"
