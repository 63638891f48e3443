"""Parquet: a document per row; slices are ranges of row groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transforms.elements import DeadLetter, Document, Slice
from transforms.errors import BadFileError
from transforms.formats.records import ReadOptions, as_json, documents_of
from transforms.storage import files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows that are Python objects at a time; texts may be long.
_ROWS = 512


def row_groups(path: str, *, source: str | None = None) -> list[tuple[int, int]]:
    """Rows and uncompressed bytes of each row group.

    Args:
      path: local path or URL.
      source: what errors call the file; the path if None.

    Raises:
      BadFileError: the file cannot be opened, or is no Parquet.
    """
    with _open(path, source or path) as file:
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        return [(group.num_rows, group.total_byte_size) for group in groups]


def column_types(path: str, *, source: str | None = None) -> dict[str, str]:
    """Type by column, as str() names Arrow's; string for all forms of text, json for nested types.

    Raises:
      BadFileError: the file cannot be opened, or is no Parquet.
    """
    with _open(path, source or path) as file:
        return {field.name: _type_name(field.type) for field in file.schema_arrow}


def _type_name(type: pa.DataType) -> str:
    import pyarrow.types as types

    if types.is_dictionary(type):
        return _type_name(type.value_type)
    if _is_text(type):
        return "string"
    return "json" if types.is_nested(type) else str(type)


def read_parquet(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per row; only the columns that are needed are read."""
    document = documents_of(slice, options)
    names = options.fields
    for position, batch in _batches(slice, options):
        columns = [_values(batch.column(batch.schema.names.index(name))) for name in names]
        for row, values in enumerate(zip(*columns, strict=True), position):
            fields = dict(zip(names, values, strict=True))
            payload = lambda fields=fields: as_json(fields)  # noqa: E731
            yield document(row, fields, payload=payload)


def check_parquet(slice: Slice, options: ReadOptions) -> None:
    """Reads the needed columns to the slice's end."""
    for _ in _batches(slice, options):
        pass


def _batches(slice: Slice, options: ReadOptions) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields record batches, each after its first row's number in the file."""
    import pyarrow as pa

    with _open(slice.path, slice.source) as file:
        count = file.metadata.num_row_groups
        end = count if slice.end is None else slice.end
        if end > count:
            reason = f"changed since the plan was made: row groups up to {end} then, {count} now"
            raise BadFileError(slice.source, None, reason)
        _check_columns(file.schema_arrow, slice, options)
        row = sum(file.metadata.row_group(i).num_rows for i in range(slice.start))
        for group in range(slice.start, end):
            batches = file.iter_batches(_ROWS, row_groups=[group], columns=list(options.fields))
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError, ValueError) as e:
                    reason = f"row group {group} is damaged: {_one_line(e)}; fetch the file again"
                    raise BadFileError(slice.source, row, reason) from e
                if batch is None:
                    break
                yield row, batch
                row += batch.num_rows


@contextlib.contextmanager
def _open(path: str, source: str) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        try:
            if files.is_local(path):
                raw = stack.enter_context(pa.OSFile(files.local_path(path)))
            else:
                raw = stack.enter_context(pa.PythonFile(files.open_read(path), mode="r"))
            # A buffer per column instead of whole column chunks keeps memory small.
            file = pq.ParquetFile(raw, buffer_size=1 << 20, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as e:
            reason = f"cannot be read as Parquet: {_one_line(e)}; fetch the file again"
            raise BadFileError(source, None, reason) from e
        yield file


def _check_columns(schema: pa.Schema, slice: Slice, options: ReadOptions) -> None:
    columns = ", ".join(f"{field.name!r} ({field.type})" for field in schema)
    for name in options.fields:
        count = schema.names.count(name)
        if count != 1:
            problem = "more than one" if count else "no"
            raise BadFileError(slice.source, None, f"{problem} column {name!r}; the file has {columns}")
    _check_type(schema, options.text_field, ("string",), slice)
    if options.id_field is not None:
        _check_type(schema, options.id_field, ("string", "integer"), slice)


def _check_type(schema: pa.Schema, name: str, expected: tuple[str, ...], slice: Slice) -> None:
    import pyarrow.types as types

    found = schema.field(name).type
    value = found.value_type if types.is_dictionary(found) else found
    if _is_text(value) or (types.is_integer(value) and "integer" in expected):
        return
    reason = f"column {name!r} is {found}, expected {' or '.join(expected)}"
    raise BadFileError(slice.source, None, reason)


def _is_text(type: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _values(column: pa.Array) -> list[Any]:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
