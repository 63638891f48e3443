"""The sub-commands, a file each: `add` adds its arguments, and `run`, whose docstring is its help, does it.

`run` gets what was parsed, with `beam_args` (options that are not ours), `screen`, which shows what is being
done, and `typed` (the whole command).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from transforms.errors import UsageError

if TYPE_CHECKING:
    from transforms.output.reader import Output

NAMES = (
    "embed",
    "status",
    "verify",
    "diff",
    "dedup",
    "forget",
    "publish",
    "rollback",
    "compare",
    "migrate",
    "finish",
    "report",
    "search",
    "neighbors",
    "map",
    "projector",
    "cluster",
    "evaluate",
    "train",
    "predict",
    "export",
    "inspect",
    "tune",
    "completion",
)


class Result(NamedTuple):
    """What a command found.

    Attributes:
      record: for --json: a dataclass or a dict.
      words: the same in lines for people.
      code: the exit code.
    """

    record: Any
    words: Iterable[str]
    code: int = 0


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_output(
    parser: argparse.ArgumentParser, metavar: str = "OUTPUT", help: str = "output folder of a job"
) -> None:
    """The arguments of commands that look at an output folder."""
    parser.add_argument("output", metavar=metavar, help=help)
    parser.add_argument("--quiet", action="store_true", help="do not say what is being done")
    add_json(parser)


def add_seed(parser: argparse.ArgumentParser, of: str) -> None:
    """The argument `--seed`, of what is drawn at random."""
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help=f"of {of} (default: 0)")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise UsageError(f"seed {text}: expected a number from 0 to {2**32 - 1:,}", argument="seed")
    return int(text)


def number(text: str) -> int:
    """A number from 1, as an argument's type.

    >>> number("10")
    10
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)


def add_source(parser: argparse.ArgumentParser, *output: str) -> None:
    """The arguments of commands that do something with the rows of a finished job.

    Args:
      output: metavar and help of its folder, if they are others than most commands have.
    """
    add_output(parser, *output)
    parser.add_argument(
        "--partial", action="store_true", help="the job has not finished: take what it has committed"
    )


def open_source(args: argparse.Namespace, *, to_folder: bool = True) -> Output:
    """The output that these arguments name.

    Args:
      to_folder: whether `--to` is a folder, not a file.

    Raises:
      UsageError: there is none, nothing could be written to `--to`, it holds no rows, or its job has not
        finished and `--partial` was not given.
    """
    from transforms.output.forgotten import check_ended
    from transforms.output.reader import open_output

    open_stores(args.output, args.beam_args)
    if getattr(args, "to", None) is not None:
        from pipeline.target import check

        check(args.to, folder=to_folder)
        open_stores(args.to, args.beam_args, "--to")
    output = open_output(args.output)
    if not output.complete and not args.partial:
        check_ended(output.folder, output.plan.job)
        there, missing = len(output.plan.shards), len(output.missing)
        lacks = f"{missing} of its {there} shards are missing" if missing else "it has no _SUCCESS"
        raise UsageError(
            f"{args.output}: the job has not finished, {lacks}; run it again (`embedbeam finish` if its "
            f"workers are done), or give --partial for the {output.count:,} rows that are there"
        )
    if not output.count:
        raise UsageError(f"{args.output}: no rows: all documents are dead letters, or there were none")
    return output


def open_stores(output: str, beam_args: list[str], name: str = "OUTPUT") -> None:
    """Gives the file systems Beam's options, and looks whether the folder's store is there.

    Raises:
      UsageError: it is not, or cannot be used.
    """
    from transforms.storage.files import is_local, use_options

    if not beam_args and is_local(output):
        return
    from pipeline.cluster.beam_options import parse
    from transforms.storage.stores import check_store

    beam_options = parse(beam_args)
    use_options(beam_options)
    check_store(name, output, beam_options)
