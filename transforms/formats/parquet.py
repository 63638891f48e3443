"""Parquet: a document per row; slices are ranges of row groups."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.blocks import BLOCK_BYTES, BLOCK_DOCUMENTS
from transforms.elements import RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats.arrow import EXPECTED, bytes_of, is_taken, lengths_of, type_name
from transforms.formats.base import HEAD_BYTES, Bad, Format, RawBlock, ReadOptions, packed, too_long
from transforms.formats.records import as_json
from transforms.storage import files
from transforms.storage.files import is_passing, unreadable
from transforms.texts import plain_values

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows are read together as long as they make no more than so many bytes.
_BATCH_BYTES, _BATCH_ROWS = 8 << 20, 1 << 14


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


def _cut(whole: Sequence[Slice], target: int) -> list[list[Slice]]:
    """Cuts files at row groups; their footers are read, one small read each, many at a time."""
    import pyarrow.parquet  # noqa: F401  here and not in a thread that ends: see the pin in pyproject.toml

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda file: _cut_file(file, target), whole))


def _cut_file(whole: Slice, target: int) -> list[Slice]:
    try:
        groups = row_groups(whole.path)
    except BadFileError:
        return [whole]  # its shard will fail and say why; the others go on
    slices, start = [], 0
    for some in packed(groups, lambda group: group[1], most_bytes=target):
        end, size = start + len(some), sum(size for _, size in some)
        slices.append(dataclasses.replace(whole, start=start, end=end, bytes=size))
        start = end
    return slices if len(slices) > 1 else [whole]


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """Only the columns that are needed are read."""
    done = 0
    for row, batch, total in _batches(slice, options):
        left = None if slice.limit is None else slice.limit - done
        batch = batch.select(list(options.fields)).slice(length=left)
        lengths = np.add.reduce([lengths_of(column) for column in batch.columns])
        if not total:
            yield _block(batch, row, options, lengths, 0)
        for start, end in _pieces(lengths):
            before, done = done, done + end - start
            taken = slice.bytes * done // total - slice.bytes * before // total
            part = batch.slice(start, end - start)
            yield _block(part, row + start, options, lengths[start:end], taken)
        if done == slice.limit:
            return


def _check(slice: Slice, options: ReadOptions) -> None:
    """Reads the columns that are needed: a row group is never cut, and may be large."""
    for _ in _batches(slice, options):
        pass


def _block(
    batch: pa.RecordBatch, first: int, options: ReadOptions, lengths: np.ndarray, taken: int
) -> RawBlock:
    positions = np.arange(first, first + batch.num_rows)
    bad: Bad = {int(row): too_long(int(lengths[row])) for row in np.flatnonzero(lengths > RECORD_BYTES)}
    types = {field.name: type_name(field.type) for field in batch.schema}
    columns = dict(zip(types, batch.columns, strict=True))
    if options.payload_kind == "bytes":
        for name in options.payload_fields:
            if types[name] == "json":
                columns[name] = bytes_of(name, columns[name], bad)
    values = dict(columns)
    for name, kind in types.items():
        if name not in options.strict and kind == "json":
            nested = plain_values(columns[name])
            values[name] = [value if value is None else as_json(value) for value in nested]

    def record(row: int) -> str:
        fields = {name: plain_values(column.slice(row, 1))[0] for name, column in columns.items()}
        if options.payload_kind == "bytes":
            fields |= dict.fromkeys(options.payload_fields, f"{lengths[row]:,} bytes")
        elif row in bad:
            fields = {name: _shortened(value) for name, value in fields.items()}
        return as_json(fields)

    return RawBlock(positions, values, record, int(lengths.sum()), taken, bad, types)


def _pieces(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most BLOCK_DOCUMENTS, and about BLOCK_BYTES."""
    ends = np.cumsum(lengths)
    start = before = 0
    while start < len(lengths):
        end = int(np.searchsorted(ends, before + BLOCK_BYTES, side="right"))
        end = min(max(end, start + 1), start + BLOCK_DOCUMENTS)
        yield start, end
        start, before = end, int(ends[end - 1])


def _batches(slice: Slice, options: ReadOptions) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    """Yields record batches, each after its first row's number in the file, and before the slice's rows."""
    import pyarrow as pa

    with _open(slice.path, slice.source) as file:
        metadata = file.metadata
        count = metadata.num_row_groups
        end = count if slice.end is None else slice.end
        if end > count:
            reason = f"changed since the plan was made: row groups up to {end} then, {count} now"
            raise BadFileError(slice.source, None, reason, kind="changed")
        _check_columns(file.schema_arrow, slice, options)
        row = sum(metadata.row_group(i).num_rows for i in range(slice.start))
        total = sum(metadata.row_group(i).num_rows for i in range(slice.start, end))
        for group in range(slice.start, end):
            rows = _rows(metadata.row_group(group), options)
            batches = file.iter_batches(rows, row_groups=[group], columns=list(options.fields))
            while True:
                with _damaged(slice.source, row, f"row group {group} is damaged"):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield row, batch, total
                row += batch.num_rows
        if not total:  # a file without rows states its columns' types, too
            yield row, pa.RecordBatch.from_pylist([], file.schema_arrow), total


def _rows(group: pq.RowGroupMetaData, options: ReadOptions) -> int:
    """How many rows to read together: what counts is their size in memory."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunks = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in options.fields]
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    rows = min(_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(1, size))
    for chunk in chunks:
        if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY":
            # Writers leave out the least and the greatest value where these are large; and where all values
            # are in the dictionary, any row may hold all that the chunk has.
            known = chunk.statistics is not None and chunk.statistics.has_min_max
            if not known and chunk.total_uncompressed_size <= (2 << 20) + 4 * group.num_rows:
                rows = min(rows, max(16, 4 * _BATCH_BYTES // max(1, chunk.total_uncompressed_size)))
    return max(1, rows)


@contextlib.contextmanager
def _damaged(source: str, position: int | None, what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as e:
        if isinstance(e, OSError) and is_passing(e):
            raise unreadable(source, e) from e
        words = " ".join(str(e).split()).rstrip(".")
        reason = f"{what}: {words}; fetch the file again"
        raise BadFileError(source, position, reason) from e


@contextlib.contextmanager
def _open(path: str, source: str) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        with _damaged(source, None, "cannot be read as Parquet"):
            local = files.is_local(path)
            raw = (
                pa.OSFile(files.local_path(path)) if local else pa.PythonFile(files.open_read(path), mode="r")
            )
            stack.enter_context(raw)
            # A buffer per column instead of whole column chunks keeps memory small.
            file = pq.ParquetFile(raw, buffer_size=1 << 20, page_checksum_verification=True)
        yield file


def _check_columns(schema: pa.Schema, slice: Slice, options: ReadOptions) -> None:
    def wrong(name: str, reason: str) -> BadFileError:
        return BadFileError(slice.source, None, reason, kind="column", column=name)

    columns = ", ".join(f"{field.name!r} ({field.type})" for field in schema)
    for name in options.fields:
        if (count := schema.names.count(name)) != 1:
            problem = "more than one" if count else "no"
            raise wrong(name, f"{problem} column {name!r}; the file has {columns}")
    for name in options.strict:
        found = schema.field(name).type
        kind = "id" if name == options.id_field else options.payload_kind
        if not is_taken(found, kind):
            raise wrong(name, f"column {name!r} is {found}, expected {EXPECTED[kind]}")


def _shortened(value: Any) -> Any:
    return value[:HEAD_BYTES] if isinstance(value, str | bytes) else value


FORMAT = Format("parquet", (".parquet", ".pq"), _read, _check, codecs=("",), cut=_cut)
