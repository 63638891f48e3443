"""`embedbeam completion`: what a shell needs to complete options."""

from __future__ import annotations

import argparse

from pipeline.commands.unknown import check_unknown
from transforms.errors import UsageError

HELP = "Print a script that lets a shell complete embedbeam's options."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def run(args: argparse.Namespace) -> int:
    """Prints the script. Returns the exit code."""
    check_unknown(args.beam_args, args.parser, beams=False)
    try:
        import shtab
    except ImportError as e:
        raise UsageError("completion needs one more package: pip install 'embedbeam[completion]'") from e
    print(shtab.complete(args.make_parser(), args.shell))
    return 0
