"""Cells of tables in the types that a model takes them in: whole columns where they fit, else one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from transforms.elements import ABSENT
from transforms.modality.protocol import Values
from transforms.texts import Refusal, as_strings, not_utf8

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_EMPTY: dict[str, Any] = {"string": "", "bool": False}


class BadCell(Exception):
    """A value that a feature does not take.

    Attributes:
      why: kind and detail, as a dead letter has them.
    """

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}")
        self.why: Refusal = (kind, detail)


class _Reason(ValueError):
    """Says more than which value it is."""


def arrow_kind(kind: str) -> pa.DataType:
    """The Arrow type of a feature.

    Args:
      kind: TensorFlow's name of its numbers: float32, int64, string, bool, ...

    Raises:
      ValueError: Arrow has no such type.
    """
    return pa.type_for_alias(kind)


def may_hold(found: str, kind: str) -> bool:
    """Whether a column of a type, as str() names Arrow's, may hold values of a feature's kind."""
    if kind == "string":
        return found in ("string", "binary", "large_binary", "null")
    if kind == "bool":
        return found in ("bool", "null")
    return found.startswith(("null", "bool", "int", "uint", "float", "double", "half", "decimal"))


def whole_column(values: Values, kind: str, nulls: str) -> pa.Array | None:
    """A column in the feature's type, if nothing is lost; None where rows must be looked at one by one."""
    made = _cast(values, arrow_kind(kind))
    if made is None or not made.null_count:
        return made
    if nulls == "zero":
        return made.fill_null(pa.scalar(_EMPTY.get(kind, 0), made.type))
    return made.fill_null(float("nan")) if nulls == "nan" and "float" in kind else None


def _cast(values: Values, target: pa.DataType) -> pa.Array | None:
    if types.is_string(target):
        return as_strings(values)
    try:
        if not isinstance(values, pa.Array):
            expected = {bool} if types.is_boolean(target) else {int, float}
            if not set(map(type, values)) <= expected:
                return None
            values = pa.array(values)
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if types.is_boolean(values.type) != types.is_boolean(target):
            return None
        if types.is_floating(values.type) and types.is_floating(target):
            made = values.cast(target, safe=False)  # rounded, as anybody's doubles are
            same = pc.equal(pc.is_inf(made), pc.is_inf(values))
            return None if pc.any(pc.invert(same)).as_py() else made
        return values.cast(target, safe=True)  # what does not fit is an error, and so is an integer rounded
    except (pa.ArrowException, OverflowError):
        return None


def cell(column: str, kind: str, value: Any, nulls: str) -> Any:
    """One value as the feature takes it.

    Raises:
      BadCell: it names the column and the value.
    """
    if value is ABSENT:
        raise BadCell(f"missing field {column!r}")
    if value is None or (value == "" and kind != "string"):  # of CSV
        if nulls == "zero":
            return _EMPTY.get(kind, 0)
        if nulls == "nan" and "float" in kind:
            return float("nan")
        raise BadCell(f"field {column!r} is null")
    try:
        return _value(kind, value)
    except (ValueError, TypeError, OverflowError) as e:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        why = f" ({e})" if isinstance(e, _Reason) else ""
        raise BadCell(f"field {column!r} does not fit {kind}", f"{shown}{why}") from e


def _value(kind: str, value: Any) -> Any:
    if kind == "string":
        return _text(value)
    if kind == "bool":
        if isinstance(value, str) and (word := value.strip().lower()) in _TRUE + _FALSE:
            return word in _TRUE
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        raise _Reason("expected true or false")
    if isinstance(value, bytes | list | dict):
        raise TypeError
    if isinstance(value, str):
        value = float(value) if "float" in kind else _integer(value)
    return _floating(kind, value) if "float" in kind else _whole(kind, value)


def _floating(kind: str, value: Any) -> float:
    number = float(value)
    if abs(number) > float(np.finfo(kind).max) and abs(number) != float("inf"):
        raise _Reason("out of its range")
    if type(value) is int and int(np.dtype(kind).type(number)) != value:
        raise _Reason("it has no such whole number")
    return number


def _whole(kind: str, value: Any) -> int:
    whole, limits = int(value), np.iinfo(kind)
    if whole != value:
        raise _Reason("expected a whole number")
    if not limits.min <= whole <= limits.max:
        raise _Reason("out of its range")
    return whole


def _integer(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return float(text)  # 3.0 is what some tools make of 3


def _text(value: Any) -> str:
    if isinstance(value, UnicodeDecodeError):
        raise _Reason(": ".join(not_utf8(value)))
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise TypeError
    value.encode("utf-8")
    return value
