"""The columns of the output, whatever the file format: their names, order, types, and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from transforms.blocks import RowBlock
from transforms.output.column_types import arrow_type
from transforms.output.vectors import SCALE, VECTOR_TYPES, stored, stored_dtype, stored_width

if TYPE_CHECKING:
    import pyarrow as pa

FLOAT16_MAX = 65504.0  # the largest finite float16


@dataclasses.dataclass(frozen=True, slots=True)
class RowSchema:
    """What a row holds.

    Attributes:
      dim: length of a vector.
      vector_dtype: float32, float16, int8 (with a column `scale`) or ubinary; see output/vectors.py.
      chunks: whether a row is a chunk (columns chunk, start and end) and not a document.
      seconds: whether start and end are seconds (float64) and not characters (int64).
      keep_text: whether the embedded text is a column.
      kept: (field, type) of the input's kept fields, in column order. A type is string, int64, double, bool,
        json (stored as a string), binary, or the str() of another flat Arrow type.
    """

    dim: int
    vector_dtype: str = "float32"
    chunks: bool = False
    keep_text: bool = False
    kept: tuple[tuple[str, str], ...] = ()
    seconds: bool = False

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim: expected at least 1, got {self.dim}")
        if self.vector_dtype not in VECTOR_TYPES:
            expected = ", ".join(VECTOR_TYPES)
            raise ValueError(f"vector_dtype: expected one of {expected}, got {self.vector_dtype!r}")
        taken = arrow_schema(dataclasses.replace(self, kept=()), {}).names if self.kept else []
        names = [name for name, _ in self.kept]
        for name, kind in self.kept:
            if not name or name in taken:
                raise ValueError(
                    f"keep field {name!r}: the output has its own column of this name; rename the field in "
                    f"the input (taken: {', '.join(sorted(taken))})"
                )
            if names.count(name) > 1:
                raise ValueError(f"keep field {name!r}: named twice")
            try:
                arrow_type(kind)
            except ValueError as e:
                raise ValueError(f"keep field {name!r}: {e}") from e


def arrow_schema(schema: RowSchema, metadata: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of the rows; `metadata` becomes the Parquet file's key-value metadata.

    Columns that every row fills are declared non-null.
    """
    import pyarrow as pa

    kind = schema.vector_dtype
    item = pa.field("item", pa.from_numpy_dtype(stored_dtype(kind)), nullable=False)
    fields = [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(item, stored_width(kind, schema.dim)), nullable=False),
        *([pa.field(SCALE, pa.float32(), nullable=False)] if kind == "int8" else []),
        pa.field("tokens", pa.int32()),
        pa.field("tokens_dropped", pa.int32()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.binary(16), nullable=False),
    ]
    if schema.chunks:
        fields.append(pa.field("chunk", pa.int32(), nullable=False))
        place = pa.float64() if schema.seconds else pa.int64()
        fields += [pa.field(name, place, nullable=False) for name in ("start", "end")]
    if schema.keep_text:
        fields.append(pa.field("text", pa.string(), nullable=False))
    fields += [pa.field(name, arrow_type(kind)) for name, kind in schema.kept]
    return pa.schema(fields, metadata=dict(metadata))


def record_batch(schema: RowSchema, arrow: pa.Schema, block: RowBlock) -> pa.RecordBatch:
    """A block's rows in the columns of the output; float32 vectors are not copied.

    Args:
      schema: the columns.
      arrow: arrow_schema of it.
      block: rows, with payloads where the text is a column.

    Raises:
      ValueError: the vectors are of another length; or, naming the document, float16 cannot hold one.
    """
    import pyarrow as pa

    rows, dim = block.vectors.shape
    if dim != schema.dim:
        raise ValueError(f"expected vectors of shape [{rows}, {schema.dim}], got [{rows}, {dim}]")
    doc_id, source, position, _, fingerprint, *kept = block.columns.columns
    vectors, scale = _vectors(schema, arrow, block)
    columns = [
        doc_id,
        vectors,
        *([] if scale is None else [scale]),
        block.tokens,
        block.dropped,
        source,
        position,
        fingerprint,
    ]
    if schema.chunks:
        columns += [block.chunk, block.start, block.end]
    if schema.keep_text:
        columns.append(block.payloads)
    columns += kept
    arrays = [
        pa.nulls(rows, field.type) if column is None else pa.array(column).cast(field.type)
        for column, field in zip(columns, arrow, strict=True)  # counts are None where the model cannot count
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow)


def _vectors(schema: RowSchema, arrow: pa.Schema, block: RowBlock) -> tuple[pa.Array, np.ndarray | None]:
    import pyarrow as pa

    vectors = np.ascontiguousarray(block.vectors, np.float32)
    if schema.vector_dtype == "float16":
        fits = (np.abs(vectors) <= FLOAT16_MAX).all(axis=1)  # False for NaN too
        if not fits.all():
            row = int(np.argmin(fits))
            value = vectors[row][~(np.abs(vectors[row]) <= FLOAT16_MAX)][0]
            raise ValueError(
                f"document {block.columns.column(0)[row].as_py()!r}: its vector holds {value}, and float16 "
                f"ends at {FLOAT16_MAX:.0f}; write float32 vectors"
            )
    numbers, scale = stored(vectors, schema.vector_dtype, block.scale)
    flat = pa.array(numbers.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=arrow.field("embedding").type), scale
