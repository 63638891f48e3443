"""Kept fields as Arrow columns of their output types: by column where all values fit, else value by value."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as types

from transforms.elements import ABSENT
from transforms.formats.arrow import is_text, plain_values, sound_text
from transforms.formats.base import Bad
from transforms.formats.records import not_utf8
from transforms.output.column_types import KeptError, arrow_type, check_kept

# What each type of kept column takes of Python's types as it is; all else is looked at value by value.
_TAKEN: dict[str, frozenset[type]] = {
    "string": frozenset({str}),
    "json": frozenset({str}),
    "large_string": frozenset({str}),
    "bool": frozenset({bool}),
    "double": frozenset({float, int}),
    "binary": frozenset({bytes}),
    "large_binary": frozenset({bytes}),
} | {f"{sign}int{bits}": frozenset({int}) for sign in ("", "u") for bits in (8, 16, 32, 64)}


def undecoded(name: str, values: list[Any]) -> Bad:
    """Which values of a field are not UTF-8."""
    if UnicodeDecodeError not in set(map(type, values)):
        return {}
    errors = {i: not_utf8(v) for i, v in enumerate(values) if isinstance(v, UnicodeDecodeError)}
    return {i: (kind, f"{detail} of field {name!r}") for i, (kind, detail) in errors.items()}


def text_checked(name: str, values: list[Any] | pa.Array) -> tuple[list[Any] | pa.Array, Bad]:
    """A kept field's values, text as plain strings, and which are not UTF-8."""
    if isinstance(values, pa.Array):
        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        texts = sound_text(values)
        if texts is not None:
            return texts, {}
        if not is_text(values.type):
            return values, {}
        values = plain_values(values)
    return values, undecoded(name, values)


def kept_column(name: str, kind: str, values: list[Any] | pa.Array) -> tuple[pa.Array, Bad]:
    """A kept field's values as a column of its type, and the refusals by row."""
    type_ = arrow_type(kind)
    if isinstance(values, pa.Array):
        if values.type == type_ or types.is_null(values.type):
            return values.cast(type_), {}
        values = plain_values(values)
    found = set(map(type, values))
    if type(ABSENT) in found:
        values = [None if value is ABSENT else value for value in values]
        found = set(map(type, values))
    if found - {type(None)} <= _TAKEN.get(kind, frozenset()):
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
