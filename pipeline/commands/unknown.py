"""Arguments that are not ours: Beam's own pass, anything else is a mistake."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from transforms.errors import UsageError


def check_unknown(unknown: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuses what neither this command nor Beam (or a job server that is named) knows.

    Args:
      unknown: arguments that the parser did not take.
      parser: the command's; its default `takes_beams` says whether Beam's options make sense here.

    Raises:
      UsageError: suggests the nearest name.
    """
    if not unknown:
        return
    names = [argument.split("=", 1)[0] for argument in unknown if argument.startswith("-")]
    help_text = f"see `{parser.prog} --help`"
    if not unknown[0].startswith("-"):
        raise UsageError(f"unexpected argument {unknown[0]!r}; {help_text}")
    beam_names: set[str] = set()
    if parser.get_default("takes_beams") is not False:
        from pipeline.cluster.beam_options import known_beam_options

        beam_names |= set(known_beam_options())
        endpoints = [a.partition("=")[2] for a in unknown if a.startswith("--job_endpoint=")]
        if not beam_names.issuperset(names) and endpoints and endpoints[-1] != "embed":
            from pipeline.cluster.probe import probe_job_server

            beam_names |= probe_job_server(endpoints[-1])
    own = [option for action in parser._actions for option in action.option_strings]
    for name in names:
        if name not in beam_names:
            near = difflib.get_close_matches(name, beam_names, 1, 0.9)
            near = near or difflib.get_close_matches(name, [*own, *beam_names], 1, 0.6)
            raise UsageError(f"unknown option {name}; {f'did you mean {near[0]}?' if near else help_text}")
