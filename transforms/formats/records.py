"""What records of several formats have in common: their text, and nested values in it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from transforms.formats.base import Bad
from transforms.texts import not_utf8


def decoded(data: bytes, row: int, bad: Bad) -> str:
    """The bytes as text; "", and the reason noted, where they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        bad.setdefault(row, not_utf8(e))
        return ""


def escaped(data: bytes) -> str:
    """The bytes as text, those that are not UTF-8 as \\xNN."""
    return data.decode("utf-8", "backslashreplace")


def as_json(value: Any) -> str:
    """A nested value in one compact line; what JSON does not know becomes a string."""
    try:
        return _dumps(value)
    except (ValueError, TypeError):  # NaN, or keys that are no strings
        return _dumps(_sane(value))


def _plain(value: Any) -> Any:
    if isinstance(value, UnicodeDecodeError):
        value = value.object
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return escaped(value) if isinstance(value, bytes) else str(value)


def _sane(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sane(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sane(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        # As protobuf's JSON mapping writes them.
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode
