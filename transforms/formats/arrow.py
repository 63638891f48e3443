"""Arrow arrays as files have them: the names of their types, and how long their values are."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import numpy as np

from transforms.formats.base import Bad
from transforms.texts import is_text

if TYPE_CHECKING:
    import pyarrow as pa


_BINARY = r"(large_)?binary|binary_view|fixed_size_binary\[\d+\]"
# Names of types of columns that are taken for ids, and for payloads of a kind; and that in words.
_TAKEN = {"id": r"string|u?int\d+", "text": "string", "bytes": _BINARY, "any": r"(?!json$|null$).*"}
EXPECTED = {
    "id": "string or integer",
    "text": "string",
    "bytes": "binary, or a struct with a field `bytes`",
    "any": "numbers, strings, or lists of them",
}


def type_name(type: pa.DataType) -> str:
    """A column's type as str() has it; string for all forms of text, json for nested types."""
    import pyarrow.types as types

    if types.is_dictionary(type):
        return type_name(type.value_type)
    if is_text(type):
        return "string"
    return "json" if types.is_nested(type) else str(type)


def lengths_of(column: pa.Array) -> np.ndarray:
    """Bytes of each value, as far as they vary; int64."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if types.is_dictionary(column.type) and len(column.dictionary):
        return lengths_of(column.dictionary)[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    kind = column.type
    if is_text(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        lengths = pc.fill_null(pc.binary_length(column.cast(pa.large_binary())), 0)
        return lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    if types.is_struct(kind):
        return np.add.reduce([np.zeros(len(column), np.int64), *map(lengths_of, column.flatten())])
    if types.is_list(kind) or types.is_large_list(kind):
        items = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        with contextlib.suppress(ValueError):  # of a type whose values are of no one width
            return items * -(-kind.value_type.bit_width // 8)
    return np.full(len(column), column.nbytes // max(1, len(column)), np.int64)


def is_taken(type: pa.DataType, kind: str) -> bool:
    """Whether a column of a type serves for ids (id), or for payloads that are text, bytes or any values."""
    import pyarrow.types as types

    if kind == "bytes" and types.is_struct(type):  # as Hugging Face's datasets have images and sounds
        number = type.get_field_index("bytes")
        return number >= 0 and is_taken(type.field(number).type, kind)
    if kind == "any" and (types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)):
        return not types.is_nested(type.value_type)
    return re.fullmatch(_TAKEN[kind], type_name(type)) is not None


def bytes_of(name: str, column: pa.Array, bad: Bad) -> pa.Array:
    """The bytes of structs of bytes and path; those that have a path alone are refused."""
    import pyarrow.compute as pc

    found = pc.struct_field(column, "bytes")
    for row in np.flatnonzero(pc.and_(column.is_valid(), found.is_null())).tolist():
        path = column[row].as_py().get("path")
        bad.setdefault(row, (f"field {name!r} has no bytes", f"it only refers to {path!r}" if path else ""))
    return found
