"""Errors of models in one line."""

from __future__ import annotations

import re

from transforms.errors import UsageError
from transforms.storage.urls import redact

# What stands before a TF error's own words: where in the graph, and where in the code that built it.
_PREAMBLE = re.compile(
    r"Graph execution error:|Detected at node|<stack traces unavailable>|\d+ root error|\s+File |\s{4,}"
)


def first_line(error: BaseException, limit: int = 300) -> str:
    """An exception's own words on one line: TF's messages run over many, with the graph's nodes around."""
    message = str(getattr(error, "message", None) or error)
    lines = [line for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not _PREAMBLE.match(line)] or lines or [type(error).__name__]
    return re.sub(r"^\(\d+\) ", "", lines[0].strip())[:limit]


def model_error(handle: str, reason: str) -> UsageError:
    """The model that the user gave is none that can be used."""
    return UsageError(f"model {redact(handle)}: {reason}", argument="model")
