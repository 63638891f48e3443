"""`embedbeam forget`: documents that must be gone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.commands import Result, add_output, open_stores

if TYPE_CHECKING:
    from pipeline.forget.there import There
    from pipeline.run.screen import Told


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.scan.arguments import add_scan

    add_output(parser, help="output folder of a finished job")
    parser.add_argument(
        "--ids",
        metavar="FILE",
        help="their ids: a line each (- is the standard input), or the column doc_id of .jsonl, .csv or "
        ".parquet; without it, what was begun is ended, and documents that are back are forgotten again",
    )
    add_scan(parser)


def run(args: argparse.Namespace) -> Result:
    """Take documents out of an output for good: rows, text, dead letters, and what was made of them.

    Raises:
      UsageError: the file names none, there is no job, it has not finished, or the runner cannot be used.
      EmbedbeamError: the books do not balance.
    """
    from pipeline.cluster.runners import LOCAL
    from pipeline.forget.forget import forget
    from pipeline.forget.ids import read_ids
    from pipeline.run.signals import on_signals, stop_command

    again = f"`embedbeam forget {args.output}` ends what was begun"
    on_signals(args.screen.fd, lambda tell: stop_command(again, tell))
    with args.screen.telling("starting") as told:
        open_stores(args.output, args.beam_args)
        ids = None if args.ids is None else read_ids(args.ids)
        hands = None if args.runner in LOCAL else _workers(args, told)
        made = forget(args.output, ids, told, hands)
    return Result(made, _words(made))


def _workers(args: argparse.Namespace, told: Told) -> There:
    """The workers of the runner that these arguments name.

    Raises:
      UsageError: it or its options cannot be used, or there is no output.
    """
    from pipeline.cluster.preflight import prepare
    from pipeline.cluster.probe import probe
    from pipeline.forget.there import There
    from pipeline.options.options import Options
    from transforms.output.reader import open_output
    from transforms.storage.files import full_path

    path = full_path(open_output(args.output).folder.path)
    how = {"runner": args.runner, "shared_filesystem": args.shared_filesystem, "beam_args": args.beam_args}
    cluster = prepare(Options(input=(path,), output=path, **how))
    told("asking the cluster")
    return There(probe(cluster, args.screen), args.screen)


def _words(made: dict[str, Any]) -> Iterator[str]:
    if made["resumed"]:
        yield "what an earlier command had begun was ended"
    yield (
        f"forgot {made['documents']:,} documents: {made['rows']:,} rows and {made['dead_letters']:,} dead "
        f"letters in {made['shards']:,} shards"
    )
    if made["already"]:
        yield f"forgotten before: {made['already']:,} ids"
    if made["not_found"]:
        first = ", ".join(map(repr, made["not_found_first"]))
        yield f"not there: {made['not_found']:,} ids, e.g. {first}"
    if made["deleted"]:
        yield f"deleted, since made of the rows: {', '.join(made['deleted'])}; their commands make them anew"
    if made["made_anew"]:
        yield f"made anew: {', '.join(made['made_anew'])}"
    if made["unreadable"]:
        yield (
            f"look at them: {made['unreadable']:,} dead letters are of records whose id could not be read, "
            "and have a place for an id (_dead_letters/)"
        )
    if made["in_plan"]:
        yield (
            f"{made['in_plan']:,} of the ids are names of input files, which _embedbeam/plan.jsonl keeps; to "
            "be rid of them, embed the others into a new folder with --reuse, and delete this one"
        )
    if made["unknown"]:
        yield f"not looked into, since embedbeam did not write it: {', '.join(made['unknown'])}"
    if made["documents"]:
        yield "the input may have them yet: a new job over it embeds them again"
