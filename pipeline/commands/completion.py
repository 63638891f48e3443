"""`embedbeam completion`: what a shell needs to complete options."""

from __future__ import annotations

import argparse

from pipeline.commands import Result
from transforms.errors import UsageError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
    parser.set_defaults(takes_beams=False, quiet=True)


def run(args: argparse.Namespace) -> Result:
    """Print a script that lets a shell complete embedbeam's options."""
    try:
        import shtab
    except ImportError as e:
        raise UsageError("completion needs one more package: pip install 'embedbeam[completion]'") from e
    return Result({}, [shtab.complete(args.make_parser(), args.shell)])
