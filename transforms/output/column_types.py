"""The types that a column of a kept field may have, and the values that each takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Kinds of kept types that are treated alike.
TEXT_TYPES = ("string", "json", "large_string")
BYTES_TYPES = ("binary", "large_binary")
FLOAT_TYPES = ("halffloat", "float", "double")
_INT_TYPES = tuple(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u"))

# What a column of a type takes of Python's types; of all others it takes what Arrow can make of it.
_TAKEN: dict[str, tuple[type, ...]] = {"null": (), "bool": (bool,), **dict.fromkeys(_INT_TYPES, (int,))}
_TAKEN |= dict.fromkeys(TEXT_TYPES, (str,)) | dict.fromkeys(BYTES_TYPES, (bytes,))
_TAKEN |= dict.fromkeys(FLOAT_TYPES, (int, float))
_TIMES = re.compile(
    r"date32\[day\]|date64\[ms\]|(?:timestamp|duration)\[(?:s|ms|us|ns)\]|time32\[m?s\]|time64\[[un]s\]"
)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type whose str() is `name`; json is a string.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])

    Raises:
      ValueError: for a nested, dictionary or unknown type.
    """
    import pyarrow as pa

    if name in _TAKEN or _TIMES.fullmatch(name):
        return pa.type_for_alias("string" if name == "json" else name)
    if found := re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=(.+)\]", name):
        return pa.timestamp(*found.groups())
    if found := re.fullmatch(r"(decimal128|decimal256)\((\d+), (-?\d+)\)", name):
        return getattr(pa, found[1])(int(found[2]), int(found[3]))
    if found := re.fullmatch(r"fixed_size_binary\[(\d+)\]", name):
        return pa.binary(int(found[1]))
    raise ValueError(f"expected a flat type such as int64 or timestamp[us], got {name!r}; keep it as json")


_NAMES: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "double", bytes: "binary"}
_NAMES |= {dict: "object", list: "array"}


class KeptError(ValueError):
    """A value that a kept field's column does not take.

    Attributes:
      kind: both types, the same words for all such values of a field.
      detail: the value.
    """

    def __init__(self, name: str, expected: str, got: str, detail: str):
        super().__init__(f"keep field {name!r}: expected {expected}, got {got} {detail}")
        self.kind = f"keep field {name!r} expected {expected}, got {got}"
        self.detail = detail


def check_kept(name: str, kind: str, value: Any) -> Any:
    """The value as a column of type `kind` takes it; None stays None.

    An int is good for a double, a bool is no int; json is text already.

    >>> check_kept("year", "int64", "1999a")
    Traceback (most recent call last):
    transforms.output.column_types.KeptError: keep field 'year': expected int64, got string '1999a'
    """
    import pyarrow as pa

    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    why, cause = "", None
    if _may_take(kind, value):
        try:
            if kind in FLOAT_TYPES:
                return float(value)
            pa.scalar(value, type=arrow_type(kind))
            return value
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as e:
            why, cause = _why_not(kind), e
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    got = "integer" if type(value) is int and not -(2**63) <= value < 2**63 else _NAMES.get(type(value))
    raise KeptError(name, kind, got or type(value).__name__, shown + why) from cause


def _may_take(kind: str, value: Any) -> bool:
    if kind in _TAKEN:
        return type(value) in _TAKEN[kind]
    # A count of nanoseconds is how such a time comes where pandas is not there to hold it.
    return type(value) not in (str, bool, float, int) or (type(value) is int and "[ns" in kind)


def _why_not(kind: str) -> str:
    """Why a column does not take a value of the right type."""
    if kind in _INT_TYPES:
        return f" (out of its range, {np.iinfo(kind).min} to {np.iinfo(kind).max})"
    if kind in TEXT_TYPES:
        return " (not valid Unicode: a lone surrogate)"  # which JSON's \ud800 can bring in
    return " (out of its range)" if kind in FLOAT_TYPES else ""
