"""The types that a column of a kept field may have, and the values that each takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Kinds of kept types that the sinks treat alike.
TEXT_TYPES = ("string", "json", "large_string")
BYTES_TYPES = ("binary", "large_binary")
FLOAT_TYPES = ("halffloat", "float", "double")

_INT_RANGES = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
# pyarrow's factory function by type name: some types are called otherwise in str().
PLAIN_TYPES = {name: name for name in ("null", "string", "large_string", *BYTES_TYPES, *_INT_RANGES)}
PLAIN_TYPES |= {
    "bool": "bool_",
    "json": "string",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
}
PLAIN_TYPES |= {"date32[day]": "date32", "date64[ms]": "date64"}


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type whose str() is `name`; json is a string.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])

    Raises:
      ValueError: for a nested, dictionary or unknown type.
    """
    import pyarrow as pa

    if name in PLAIN_TYPES:
        return getattr(pa, PLAIN_TYPES[name])()
    rules: tuple[tuple[str, Callable[..., pa.DataType]], ...] = (
        (r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]", pa.timestamp),
        (r"time32\[(s|ms)\]", pa.time32),
        (r"time64\[(us|ns)\]", pa.time64),
        (r"duration\[(s|ms|us|ns)\]", pa.duration),
        (r"decimal128\((\d+), (-?\d+)\)", lambda precision, scale: pa.decimal128(int(precision), int(scale))),
        (r"decimal256\((\d+), (-?\d+)\)", lambda precision, scale: pa.decimal256(int(precision), int(scale))),
        (r"fixed_size_binary\[(\d+)\]", lambda width: pa.binary(int(width))),
    )
    for pattern, make in rules:
        if found := re.fullmatch(pattern, name):
            return make(*found.groups())
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


def _refusal(name: str, kind: str, value: Any, why: str = "") -> KeptError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    got = "integer" if type(value) is int and not -(2**63) <= value < 2**63 else _NAMES.get(type(value))
    return KeptError(name, kind, got or type(value).__name__, f"{shown}{why}")


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text: no lone surrogate, which JSON's \\ud800 can bring in."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_kept(name: str, kind: str, value: Any) -> Any:
    """The value as a column of type `kind` takes it; None stays None.

    An int is good for a double, a bool is no int; json is text already.

    >>> check_kept("year", "int64", "1999a")
    Traceback (most recent call last):
    ValueError: keep field 'year': expected int64, got string '1999a'
    """
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and kind in TEXT_TYPES:
        if _is_unicode(value):
            return value
        raise _refusal(name, kind, value, " (not valid Unicode: a lone surrogate)")
    if kind in _INT_RANGES and type(value) is int:
        low, high = _INT_RANGES[kind]
        if low <= value <= high:
            return value
        raise _refusal(name, kind, value, f" (out of its range, {low} to {high})")
    if kind in FLOAT_TYPES and isinstance(value, int | float) and type(value) is not bool:
        try:
            return float(value)
        except OverflowError as e:
            raise _refusal(name, kind, value, " (out of its range)") from e
    if kind == "bool" and type(value) is bool:
        return value
    if kind in BYTES_TYPES and isinstance(value, bytes):
        return value
    if kind not in PLAIN_TYPES or kind.startswith("date"):
        return _check_by_arrow(name, kind, value)
    raise _refusal(name, kind, value)


def _check_by_arrow(name: str, kind: str, value: Any) -> Any:
    """Dates, times, decimals: the value if Arrow takes it, save strings, bools and floats."""
    import pyarrow as pa

    if isinstance(value, str | bool | float):
        raise _refusal(name, kind, value)
    # A count of nanoseconds is how such a time comes where pandas is not there to hold it.
    if isinstance(value, int) and "[ns" not in kind:
        raise _refusal(name, kind, value)
    try:
        pa.scalar(value, type=arrow_type(kind))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as e:
        raise _refusal(name, kind, value) from e
    return value
