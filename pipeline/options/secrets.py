"""Passwords and tokens out of whatever is shown: addresses, command lines, messages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

# An option whose value nobody else should read. Not --max-tokens.
_SECRET_NAME = re.compile(r"secret|passw|token$|key$|credential|connection_string", re.IGNORECASE)
# Malformed addresses too, which no parser of URLs takes apart: whatever stands before the @ of a host, ...
_USER = re.compile(r"(?<![\w+.-])([a-z][\w+.-]*:/{1,3})[^\s/@'\"]+@", re.IGNORECASE)
# ... on the web anything before an @, since a password may hold a slash, ...
_WEB_USER = re.compile(r"(https?:/{1,3})[^\s@'\"]+@(?=[^\s@/'\"])", re.IGNORECASE)
# ... and a query, if there is a value in it: in a glob a question mark stands for a character.
_END = r"(?:[^\s'\",;:)]|[,;:)](?=\S))"
_WEB_QUERY = re.compile(rf"(https?:[^\s?'\"]+)\?{_END}+", re.IGNORECASE)
_QUERY = re.compile(rf"(?<=[\w/.=*\]-])\?[^\s'\"=]*={_END}*")
_ASSIGNED = re.compile(r"(--[\w-]+)=(\S+)")
_MASK = "***"


def redact_text(text: str) -> str:
    """Takes passwords and queries out of all addresses in a text, and the values of secret options.

    >>> redact_text("--model https://me:SECRET@h/m?sig=abc: cannot be fetched")
    '--model https://***@h/m?***: cannot be fetched'
    >>> redact_text("no such file: https:/h/m?sig=abc, --azure_connection_string=x;AccountKey=y")
    'no such file: https:/h/m?***, --azure_connection_string=***'
    >>> redact_text("gs://bucket/a?.jsonl")
    'gs://bucket/a?.jsonl'
    """
    for pattern, shown in ((_WEB_USER, r"\1***@"), (_USER, r"\1***@"), (_WEB_QUERY, r"\1?***")):
        text = pattern.sub(shown, text)
    text = _QUERY.sub("?***", text)
    return _ASSIGNED.sub(lambda m: f"{m[1]}={_MASK}" if _SECRET_NAME.search(m[1]) else m[0], text)


def redact_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, to be shown.

    >>> redact_arguments(["--s3_secret_access_key=abc", "--s3_session_token", "def", "--max-tokens", "5"])
    ['--s3_secret_access_key=***', '--s3_session_token', '***', '--max-tokens', '5']
    """
    shown: list[str] = []
    for before, argument in itertools.pairwise(["", *arguments]):
        name, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            masked, secret = f"{name}={_MASK}", equals and _SECRET_NAME.search(name)
        else:
            masked, secret = _MASK, re.fullmatch("-[^=]+", before) and _SECRET_NAME.search(before)
        shown.append(masked if secret else redact_text(argument))
    return shown
