"""Arrow arrays as files have them: text of several types, which need not be UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def is_text(type: pa.DataType) -> bool:
    """Whether an Arrow type is one of those of strings."""
    import pyarrow.types as types

    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def type_name(type: pa.DataType) -> str:
    """A column's type as str() has it; string for all forms of text, json for nested types."""
    import pyarrow.types as types

    if types.is_dictionary(type):
        return type_name(type.value_type)
    if is_text(type):
        return "string"
    return "json" if types.is_nested(type) else str(type)


def plain_values(column: pa.Array) -> list[Any]:
    """An Arrow array as a list; a UnicodeDecodeError stands for text that is not UTF-8."""
    try:
        return column.to_pylist()
    except ValueError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as e:
        return e
    except ValueError:  # nanoseconds, which Python's own times do not hold
        return scalar.value


def sound_text(values: pa.Array) -> pa.Array | None:
    """The values as strings; None where one of them is not UTF-8, or the type is another."""
    import pyarrow as pa
    import pyarrow.types as types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return None
    texts = values.cast(pa.string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return texts


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
    return np.full(len(column), column.nbytes // max(1, len(column)), np.int64)
