"""Kept fields as Arrow columns of their output types: by column where all values fit, else value by value."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.types as types

from transforms.elements import ABSENT
from transforms.formats.base import Bad
from transforms.output.column_types import BYTES_TYPES, TEXT_TYPES, KeptError, arrow_type, check_kept
from transforms.texts import as_strings, is_text, not_utf8, plain_values

Values: TypeAlias = "list[Any] | pa.Array"
# The kinds of kept columns that take values of Python's types as they are; all else is looked at one by one.
_TAKEN: dict[type, tuple[str, ...]] = {
    str: TEXT_TYPES,
    bytes: BYTES_TYPES,
    bool: ("bool",),
    float: ("double",),
    int: ("double", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))),
}


def undecoded(name: str, values: list[Any]) -> Bad:
    """Which values of a field are not UTF-8."""
    found = {i: not_utf8(value) for i, value in enumerate(values) if isinstance(value, UnicodeDecodeError)}
    return {i: (kind, f"{detail} of field {name!r}") for i, (kind, detail) in found.items()}


def text_checked(name: str, values: Values) -> tuple[Values, Bad]:
    """A kept field's values, text as plain strings, and which are not UTF-8."""
    if isinstance(values, pa.Array):
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if not is_text(values.type):
            return values, {}
        texts = as_strings(values)
        if texts is not None:
            return texts, {}
    values = plain_values(values)
    return values, undecoded(name, values)


def kept_column(name: str, kind: str, values: Values) -> tuple[pa.Array, Bad]:
    """A kept field's values as a column of its type, and the refusals by row."""
    type_ = arrow_type(kind)
    if isinstance(values, pa.Array) and (values.type == type_ or types.is_null(values.type)):
        return values.cast(type_), {}
    values = [None if value is ABSENT else value for value in plain_values(values)]
    if all(kind in _TAKEN.get(found, ()) for found in {*map(type, values)} - {type(None)}):
        try:
            return pa.array(values, type_), {}
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # one of them is out of range: each alone tells
    made: list[Any] = []
    why: Bad = {}
    for row, value in enumerate(values):
        try:
            made.append(check_kept(name, kind, value))
        except KeptError as e:
            made.append(None)
            why[row] = e.kind, e.detail
    return pa.array(made, type_), why
