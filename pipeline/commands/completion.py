"""`embedbeam completion`: what a shell needs to complete options."""

from __future__ import annotations

import argparse

from pipeline.commands import Result
from transforms.extras import check_extra


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
    parser.set_defaults(takes_beams=False, quiet=True)


def run(args: argparse.Namespace) -> Result:
    """Print a script that lets a shell complete embedbeam's options."""
    check_extra("completion", "shtab", what="completion")
    import shtab

    return Result({}, [shtab.complete(args.make_parser(), args.shell)])
