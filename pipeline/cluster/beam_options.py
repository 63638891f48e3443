"""Beam's options: which there are, and those of a command, parsed once."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.options.secrets import redact_arguments
from transforms.errors import UsageError


def parse(arguments: Sequence[str]) -> Any:
    """Arguments as Beam's PipelineOptions.

    Raises:
      UsageError: Beam does not take them.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # argparse would show the whole command
            parsed = PipelineOptions(list(arguments))
            parsed.get_all_options()
    except SystemExit as e:
        shown, cause = redact_arguments(arguments), e.__context__
        why = str(cause or "")
        if shown != list(arguments):  # what argparse said quotes the value: it may be a secret one
            name = getattr(cause, "argument_name", None)
            why = f"look at {name}" if name else ""
        reason = f" ({why})" if why else ""
        raise UsageError(f"Beam does not take these options: {' '.join(shown)}{reason}") from None
    return parsed


def known_beam_options() -> dict[str, str]:
    """All options that Beam knows, as they are typed (--direct_num_workers, ...), and the class of each."""
    return {name: owner.__name__ for name, (_, owner) in _flags().items()}


def names_of(arguments: Sequence[str]) -> frozenset[str]:
    """The options of Beam's that arguments give, by the names of their values."""
    flags = _flags()
    typed = (argument.split("=", 1)[0] for argument in arguments)
    return frozenset(flags[name][0] for name in typed if name in flags)


def put(options: Any, values: Mapping[str, Any]) -> None:
    """Sets options of Beam's, by the names of their values."""
    owners = dict(_flags().values())
    for name, value in values.items():
        setattr(options.view_as(owners[name]), name, value)


def _flags() -> dict[str, tuple[str, Any]]:
    """The name of the value, and the class, of each option as it is typed."""
    from apache_beam.options import pipeline_options

    def classes(base: Any) -> list[Any]:
        return [found for below in base.__subclasses__() for found in (below, *classes(below))]

    known: dict[str, tuple[str, Any]] = {}
    for options_class in classes(pipeline_options.PipelineOptions):
        if "_add_argparse_args" in vars(options_class):
            parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
            options_class._add_argparse_args(parser)
            for action in parser._actions:
                known.update(dict.fromkeys(action.option_strings, (action.dest, options_class)))
    return known
