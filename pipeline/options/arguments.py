"""The options as arguments of the command line, and messages about them in its words."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from pipeline.options.fields import Option, flag, stated
from pipeline.options.options import GROUPS, Options
from pipeline.options.values import decimal
from transforms.errors import EmbedbeamError, UsageError


def add_embed_arguments(parser: argparse.ArgumentParser) -> argparse._ActionsContainer:
    """Adds the options of `embed`, in groups, with the defaults of Options. Returns the last group."""
    return add_arguments(parser, [one for one in stated(*GROUPS) if one.typed])


def add_arguments(parser: argparse.ArgumentParser, options: Sequence[Option]) -> argparse._ActionsContainer:
    """Adds some options, in their groups. Returns the last group."""
    arguments: argparse._ActionsContainer = parser
    for cls in GROUPS:
        of_group = [one for one in options if one.group == cls.title]
        if of_group:
            arguments = parser.add_argument_group(cls.title)
        for one in sorted(of_group, key=lambda one: not one.required):
            arguments.add_argument(one.flag, **keywords(one))
    return arguments


def given_options(parsed: argparse.Namespace, **more: Any) -> Options:
    """The options that were given, with more of them, and in `beam_args` what goes to Beam."""
    names = Options.fields() & vars(parsed).keys()
    return Options(**{name: getattr(parsed, name) for name in names} | more)


def keywords(one: Option) -> dict[str, Any]:
    """What a parser is told of an option."""
    default = one.unset
    if default is None and one.type is not bool and one.default not in (None, ()) and not one.required:
        default = str(one.default)
    text = one.help if default is None else f"{one.help} (default: {default})"
    keywords: dict[str, Any] = {"help": text.replace("%", "%%"), "default": argparse.SUPPRESS}
    if one.type is bool:
        return keywords | {"action": "store_true"}
    keywords |= {"required": one.required, "metavar": one.metavar}
    if one.type is tuple:
        return keywords | {"action": "append"}
    if one.choices:
        return keywords | {"choices": one.choices}
    return keywords | {"type": one.parse or {int: int, float: decimal}.get(one.type, str)}


def in_flags(error: EmbedbeamError) -> str:
    """An error's text as the command line says it: options as they are typed.

    The option that is wrong is named by the error itself; others stand in backticks, as in Python.

    >>> in_flags(UsageError("text_field title: not there; name it with `text_field`", argument="text_field"))
    '--text-field title: not there; name it with --text-field'
    >>> in_flags(UsageError("no such file", argument="model"))
    '--model no such file'
    """
    message = str(error)
    named = error.argument if isinstance(error, UsageError) else None
    if named is not None and not message.startswith("--"):
        rest = message.removeprefix(named) if re.match(rf"{named}\b", message) else f" {message}"
        message = f"{flag(named)}{rest}"
    names = Options.fields()
    return re.sub(r"`([a-z_]+)`", lambda m: flag(m[1]) if m[1] in names else m[0], message)
