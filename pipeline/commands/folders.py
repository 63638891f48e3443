"""What the commands share that look at an output folder, on whatever file system Beam's options describe."""

from __future__ import annotations

import argparse

from pipeline.commands import add_json
from transforms.storage.files import is_local, use_options


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder of a job")
    parser.add_argument("--quiet", action="store_true", help="do not say what is being done")
    add_json(parser)


def open_stores(output: str, beam_args: list[str]) -> None:
    """Gives the file systems their options, and looks whether the folder's store is there.

    Raises:
      UsageError: it is not, or cannot be used.
    """
    if not beam_args and is_local(output):
        return
    from pipeline.cluster.beam_options import parse
    from transforms.storage.stores import check_store

    beam_options = parse(beam_args)
    use_options(beam_options)
    check_store("OUTPUT", output, beam_options)
