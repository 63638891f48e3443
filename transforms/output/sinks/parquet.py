"""Rows to a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.output.column_types import BYTES_TYPES, TEXT_TYPES
from transforms.output.schema import RowSchema, arrow_schema
from transforms.output.vectors import stored_dtype, stored_width

ROW_GROUP_BYTES = 64 << 20
# Everybody reads plain zstd. Spark 3.5 reads no BYTE_STREAM_SPLIT, which is faster to write and as small, and
# BigQuery does not list it; docs/benchmarks.md, "Parquet encoding of vectors".
COMPRESSION = "zstd"


class ParquetSink:
    """Writes rows to one Parquet file, whose bytes are a pure function of the rows and the metadata.

    Vectors are a FixedSizeList without dictionary or statistics; pages are compressed with zstd. A row group
    ends with the row that fills it: a row weighs its vector, a fixed share for its numbers, and the bytes of
    its id, its text and its kept strings. At most one row group is held in memory.
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
        self._arrow = arrow_schema(schema, metadata)
        width, dtype = stored_width(schema.vector_dtype, schema.dim), stored_dtype(schema.vector_dtype)
        self._row_weight = width * dtype.itemsize + 80 + 16 * len(schema.kept)
        self._group_weight = row_group_bytes
        texts = [name for name, kind in schema.kept if kind in TEXT_TYPES]
        self._unbounded = ["doc_id", *(["text"] if schema.keep_text else []), *texts]
        self._unbounded += [name for name, kind in schema.kept if kind in BYTES_TYPES]
        most_rows = -(-row_group_bytes // self._row_weight)
        self._vectors = np.empty((most_rows, width), dtype)  # its pages come with the rows
        self._others: list[pa.RecordBatch] = []
        self._rows = self._weight = 0
        names = [name for name in self._arrow.names if name != "embedding"]
        self._writer = pq.ParquetWriter(
            file,
            self._arrow,
            compression=COMPRESSION,
            use_dictionary=["source", *texts],
            # Bounds of a float or of a long text prune nothing, and computing them takes time.
            write_statistics=[name for name in names if name not in ("text", "fingerprint")],
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows; how they are spread over calls makes no difference to the file.

        Args:
          batch: of the schema's own columns and types.
        """
        weights = np.full(batch.num_rows, self._row_weight)
        for name in self._unbounded:
            weights += pc.binary_length(batch.column(name)).fill_null(0).to_numpy()
        total = np.concatenate([[0], np.cumsum(weights)])  # weight of the rows before each
        at = self._arrow.get_field_index("embedding")
        vectors = batch.column(at).flatten().to_numpy().reshape(-1, self._vectors.shape[1])
        others = batch.remove_column(at)
        begin = 0
        while begin < batch.num_rows:
            full = int(np.searchsorted(total, total[begin] + self._group_weight - self._weight))
            end = min(full, batch.num_rows)
            self._vectors[self._rows : self._rows + end - begin] = vectors[begin:end]
            self._others.append(others.slice(begin, end - begin))
            self._rows += end - begin
            self._weight += int(total[end] - total[begin])
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
        # One chunk a column: where pages are cut depends on chunks too.
        table = pa.Table.from_batches(self._others).combine_chunks()
        flat = pa.array(self._vectors[: self._rows].reshape(-1))  # shares the buffer, no copy
        field = self._arrow.field("embedding")
        vectors = pa.FixedSizeListArray.from_arrays(flat, type=field.type)
        table = table.add_column(self._arrow.get_field_index("embedding"), field, vectors)
        self._writer.write_table(table.cast(self._arrow), row_group_size=self._rows)
        self._others, self._rows, self._weight = [], 0, 0
