"""Command lines that a person or a log may see: without what is secret in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transforms.encoder.model.handle import redact

_SECRET = re.compile(r"secret|password|token$|key$|credential|connection.string", re.IGNORECASE)


def hide(arguments: Sequence[str]) -> list[str]:
    """The arguments, with *** for the values of secret options and for what URLs hide.

    >>> hide(["--s3_secret_access_key=abc", "--azure_connection_string", "abc", "--limit", "3"])
    ['--s3_secret_access_key=***', '--azure_connection_string', '***', '--limit', '3']
    """
    shown: list[str] = []
    secret = False  # whether the option before waits for a value that is one
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            shown.append("***" if secret else redact(argument))
        elif equals:
            shown.append(f"{name}={'***' if _SECRET.search(name) else redact(value)}")
        else:
            shown.append(argument)
        secret = argument.startswith("-") and not equals and bool(_SECRET.search(name))
    return shown
