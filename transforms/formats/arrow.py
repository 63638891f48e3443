"""Arrow arrays as files have them: the names of their types, and how long their values are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transforms.texts import is_text

if TYPE_CHECKING:
    import pyarrow as pa


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
    return np.full(len(column), column.nbytes // max(1, len(column)), np.int64)
