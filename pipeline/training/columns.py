"""Blocks of rows as columns: numbers are NumPy's, strings and lists Arrow's until they are a mini-batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.errors import UsageError
from transforms.output.vectors import SCALE, as_matrix

Column = Any  # np.ndarray or pa.Array
Block = dict[str, Column]  # columns of as many rows each
Kind = Any  # what a column's values are: a pa.DataType, or of vectors an np.ndarray without rows
_WRONG = (ValueError, TypeError, OverflowError, pa.ArrowException)  # what Arrow and NumPy say of values


def of_arrow(block: pa.RecordBatch, names: Collection[str]) -> Block:
    """Columns of an output's rows: vectors float32 [n, dim], numbers as they are, the rest as Arrow has it.

    Args:
      names: those that are wanted; the scale of int8 vectors may lie beside them.

    Raises:
      UsageError: a column of integers or truths holds nulls, which these cannot tell.
    """
    columns: Block = {}
    for name in names:
        if name == "embedding":
            scale = [block.column(SCALE)] if SCALE in block.schema.names else []
            columns[name] = as_matrix(block.column(name), *scale)
        else:
            columns[name] = _column(name, block.column(name))
    return columns


def _column(name: str, column: pa.Array) -> Column:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column(name, column.dictionary_decode())
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.string() if pa.types.is_string_view(kind) else pa.binary())
    if pa.types.is_floating(kind):
        return column.to_numpy(zero_copy_only=False)  # a null is NaN
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        if column.null_count:
            raise UsageError(
                f"column {name!r}: {column.null_count:,} of {len(column):,} rows have none, and {kind} has "
                "no value that says so; leave it out of `columns`"
            )
        return column.to_numpy(zero_copy_only=False)
    return column


def of_values(name: str, values: Any) -> Column:
    """What a user holds in memory as a column.

    Arrays are vectors or numbers of one shape; lists in a list are sequences of any length, save those of
    the column `embedding`. None is a null, as in an output.

    Raises:
      UsageError: they are not of one kind or shape, or integers or truths hold nulls.
    """
    values = _of_one_kind(name, values)
    return _column(name, values) if isinstance(values, pa.Array) else values


def kind_of(name: str, values: Sequence[Any]) -> Kind:
    """What the values of a column are.

    Raises:
      UsageError: they are not of one kind or shape.
    """
    if name != "embedding" and all(one is None for one in values):
        return pa.null()
    raw = _of_one_kind(name, values)
    return raw.type if isinstance(raw, pa.Array) else raw[:0]


def _of_one_kind(name: str, values: Any) -> pa.Array | np.ndarray:
    try:
        return _raw(name, values)
    except _WRONG as e:
        reason = str(e).splitlines()[0]
        raise UsageError(f"column {name!r}: expected values of one kind and shape: {reason}") from e


def is_known(kind: Kind) -> bool:
    """Whether there was a value that told it: not if all were null, or empty lists."""
    if not isinstance(kind, pa.DataType):
        return True
    return not pa.types.is_null(kind) and not (pa.types.is_list(kind) and not is_known(kind.value_type))


def of_kind(name: str, values: Sequence[Any], kind: Kind) -> Column:
    """Values of a user's rows as a column whose kind earlier rows told; strings where none did.

    Raises:
      UsageError: they are of another kind, or integers or truths hold nulls.
    """
    try:
        column = _converted(name, values, kind)
    except _WRONG as e:
        got = next((repr(one) for one in values if not _fits(name, one, kind)), str(e))
        if is_known(kind):
            raise UsageError(
                f"column {name!r}: expected {_words(kind)} as in the first rows, got {_line(got)}"
            ) from e
        raise UsageError(
            f"column {name!r}: the first rows hold no value that tells its type, so that it was taken for "
            f"{_words(_known(kind))}, got {_line(got)}; give rows that have a value first"
        ) from e
    return _column(name, column) if isinstance(column, pa.Array) else column


def _converted(name: str, values: Sequence[Any], kind: Kind) -> Column:
    if isinstance(kind, pa.DataType):
        own, kind = pa.array(values), _known(kind)
        if not _alike(own.type, kind):
            raise TypeError(f"{own.type} is no {kind}")
        return own.cast(kind)
    column = np.asarray(values, np.float32 if name == "embedding" else None)
    if column.shape[1:] != kind.shape[1:]:
        raise ValueError(f"shape {column.shape[1:]}")
    return _exactly(column, kind.dtype)


def _exactly(column: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers as another type; of floats some precision may be lost, else nothing."""
    if column.dtype == dtype:
        return column
    kinds = column.dtype.kind + dtype.kind
    if not (set(kinds) <= set("iuf") or column.dtype.kind == dtype.kind):
        raise TypeError(f"{column.dtype} is no {dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        made = column.astype(dtype)
        if kinds != "ff" and not np.array_equal(made.astype(column.dtype), column):
            raise ValueError(f"not exactly {dtype}")
    return made


def _fits(name: str, value: Any, kind: Kind) -> bool:
    try:
        _converted(name, [value], kind)
    except _WRONG:
        return False
    return True


def _known(kind: pa.DataType) -> pa.DataType:
    if is_known(kind):
        return kind
    return pa.string() if pa.types.is_null(kind) else pa.list_(_known(kind.value_type))


def _alike(own: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a cast tells of a value what it is, and does not make another of it."""
    if pa.types.is_list(own) and pa.types.is_list(kind):
        return _alike(own.value_type, kind.value_type)
    numbers = [pa.types.is_integer(one) or pa.types.is_floating(one) for one in (own, kind)]
    return pa.types.is_null(own) or own.id == kind.id or all(numbers)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."


def _words(kind: Kind) -> str:
    if isinstance(kind, pa.DataType):
        return str(kind)
    return f"{kind.dtype} {list(kind.shape[1:])}" if kind.ndim > 1 else str(kind.dtype)


def _raw(name: str, values: Any) -> pa.Array | np.ndarray:
    """As Arrow or NumPy tell values by themselves; vectors are NumPy's."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        if not pa.types.is_fixed_size_list(values.type):
            return values
        if values.null_count:
            raise ValueError(f"{values.null_count:,} rows have none")
        if name == "embedding":
            return as_matrix(values)
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)
    if isinstance(values, (list, tuple)) and name != "embedding":
        some = next((one for one in values if one is not None), None)
        if isinstance(some, np.generic) or not (isinstance(some, tuple) or hasattr(some, "__array__")):
            return pa.array(values)
    values = np.asarray(values, np.float32 if name == "embedding" else None)
    if not values.ndim:
        raise ValueError("a single value is no array of rows")
    return pa.array(values.tolist()) if values.dtype.kind in "OUS" else values


def size(block: Mapping[str, Column]) -> int:
    """How many rows it has."""
    return len(next(iter(block.values())))


def part(block: Block, low: int, high: int) -> Block:
    """Some rows that follow each other; nothing is copied."""
    return {name: column[low:high] for name, column in block.items()}


def take(block: Block, places: np.ndarray) -> Block:
    """The rows at these places."""
    return {name: column.take(places, **_axis(column)) for name, column in block.items()}


def _axis(column: Column) -> dict[str, int]:
    return {"axis": 0} if isinstance(column, np.ndarray) else {}


def joined(blocks: Sequence[Block]) -> Block:
    """Blocks one after the other; a single one is not copied."""
    if len(blocks) == 1:
        return blocks[0]
    return {
        name: np.concatenate([one[name] for one in blocks])
        if isinstance(blocks[0][name], np.ndarray)
        else pa.concat_arrays([one[name] for one in blocks])
        for name in blocks[0]
    }


def lengths(column: pa.Array) -> np.ndarray:
    """Of each list of a column; of a null 0."""
    return column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)


def finished(block: Block) -> dict[str, np.ndarray]:
    """The arrays of a mini-batch.

    Strings are objects; a null is "". Lists are padded with 0 (strings with "") to the longest of the
    mini-batch, and their lengths come beside them, int32 [n], as `NAME_length`.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, column in block.items():
        if isinstance(column, np.ndarray):
            arrays[name] = column
        elif is_list(column):
            arrays[name], arrays[f"{name}_length"] = _padded(column)
        else:
            arrays[name] = _plain(column)
    return arrays


def is_list(column: Column) -> bool:
    """Whether it holds lists of any length."""
    return isinstance(column, pa.Array) and (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    )


def _plain(column: pa.Array) -> np.ndarray:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        column = column.cast(pa.string())  # dates, times, decimals
    if column.null_count:
        column = column.fill_null("" if pa.types.is_string(column.type) else b"")
    return column.to_numpy(zero_copy_only=False)


def _padded(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    long, flat = lengths(column), column.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    width = int(long.max(initial=0))
    filled = np.zeros((len(column), width), values.dtype)
    if values.dtype == object:
        filled[:] = ""
    filled[np.arange(width) < long[:, np.newaxis]] = values
    return filled, long.astype(np.int32)
