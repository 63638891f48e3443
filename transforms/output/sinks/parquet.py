"""Rows to a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from transforms.elements import Embedding
from transforms.output.schema import BYTES_TYPES, TEXT_TYPES, RowSchema, arrow_schema, columns, stack_vectors

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_BYTES = 64 << 20


class ParquetSink:
    """Writes rows to one Parquet file, whose bytes are a pure function of the rows and the metadata.

    Vectors are a FixedSizeList without dictionary or statistics; pages are compressed with zstd. A row
    group ends with the row that fills it: a row weighs its vector, a fixed share for its numbers, and the
    characters of its text and kept strings, so where none of these is written the cut depends on the schema
    alone. At most one row group is held in memory.
    """

    def __init__(
        self,
        file: BinaryIO,
        schema: RowSchema,
        metadata: Mapping[str, str],
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        """Starts the file.

        Args:
          file: where the bytes go; stays open when the sink is closed.
          schema: the columns.
          metadata: the file's key-value metadata.
          row_group_bytes: weight of a row group before encoding, bytes.
        """
        import pyarrow.parquet as pq

        self._schema = schema
        self._arrow = arrow_schema(schema, metadata)
        self._row_weight = schema.dim * np.dtype(schema.vector_dtype).itemsize + 64 + 16 * len(schema.kept)
        self._group_weight = row_group_bytes
        self._unbounded = ["text"] if schema.keep_text else []
        self._unbounded += [name for name, kind in schema.kept if kind in TEXT_TYPES + BYTES_TYPES]
        self._values: dict[str, list[Any]] = {}
        self._rows = 0
        self._weight = 0
        most_rows = -(-row_group_bytes // self._row_weight)
        self._vectors = np.empty((most_rows, schema.dim), schema.vector_dtype)  # its pages come with the rows
        text_columns = ["source"] + [name for name, kind in schema.kept if kind in TEXT_TYPES]
        self._writer = pq.ParquetWriter(
            file,
            self._arrow,
            compression="zstd",
            use_dictionary=text_columns,
            # Bounds of a float or of a long text prune nothing, and computing them takes time.
            write_statistics=[name for name in self._arrow.names if name not in ("embedding", "text")],
        )

    def write(self, rows: Sequence[Embedding]) -> None:
        """Appends rows; how they are spread over calls makes no difference to the file.

        Raises:
          ValueError: naming the document, for a vector or a text that the file cannot hold.
        """
        values = columns(self._schema, rows)
        weights = np.full(len(rows), self._row_weight)
        for name in self._unbounded:
            weights += np.fromiter((len(value) if value else 0 for value in values[name]), int, len(rows))
        total = np.cumsum(weights)  # weight of the rows up to and with each
        begin = 0
        while begin < len(rows):
            written = int(total[begin - 1]) if begin else 0
            full = int(np.searchsorted(total, self._group_weight - self._weight + written))
            end = min(full + 1, len(rows))
            target = self._vectors[self._rows : self._rows + end - begin]
            stack_vectors(self._schema, rows[begin:end], out=target)
            for name, column in values.items():
                self._values.setdefault(name, []).extend(column[begin:end])
            self._rows += end - begin
            self._weight += int(total[end - 1]) - written
            if self._weight >= self._group_weight:
                self._end_row_group()
            begin = end

    def close(self) -> None:
        """Writes what is pending and the footer; the file stays open. A file without rows is a valid one."""
        if self._writer.is_open:
            if self._rows:
                self._end_row_group()
            self._writer.close()

    def __del__(self) -> None:
        # A sink given up midway: pyarrow's own __del__ would write a footer, into a file long closed.
        if writer := getattr(self, "_writer", None):
            writer.is_open = False

    def _end_row_group(self) -> None:
        import pyarrow as pa

        arrays = [self._array(field) for field in self._arrow]
        table = pa.Table.from_arrays(arrays, schema=self._arrow)
        self._writer.write_table(table, row_group_size=self._rows)
        self._values, self._rows, self._weight = {}, 0, 0

    def _array(self, field: pa.Field) -> pa.Array:
        import pyarrow as pa

        if field.name == "embedding":
            flat = pa.array(self._vectors[: self._rows].reshape(-1))  # shares the buffer, no copy
            return pa.FixedSizeListArray.from_arrays(flat, type=field.type)
        try:
            return pa.array(self._values[field.name], field.type)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError) as e:
            raise ValueError(f"column {field.name!r}, {self._culprit(field)}: {e}") from e

    def _culprit(self, field: pa.Field) -> str:
        """Which document's value Arrow does not take."""
        import pyarrow as pa

        for doc_id, value in zip(self._values["doc_id"], self._values[field.name], strict=True):
            try:
                pa.scalar(value, type=field.type)
            except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError):
                return f"document {doc_id!r}"
        return f"{self._rows} documents"
