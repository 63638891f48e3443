"""The columns of the output, whatever the file format: their names, order, types, and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transforms.elements import Embedding
from transforms.output.kept import BYTES_TYPES, FLOAT_TYPES, PLAIN_TYPES, TEXT_TYPES, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BYTES_TYPES",
    "FLOAT16_MAX",
    "FLOAT_TYPES",
    "RESERVED",
    "TEXT_TYPES",
    "RowSchema",
    "arrow_schema",
    "arrow_type",
    "columns",
    "stack_vectors",
]

_ALWAYS = ("doc_id", "embedding", "tokens", "tokens_dropped", "source", "position")
_IN_CHUNKS = ("chunk", "start", "end")
RESERVED = frozenset((*_ALWAYS, *_IN_CHUNKS, "text"))
FLOAT16_MAX = 65504.0  # the largest finite float16


@dataclasses.dataclass(frozen=True, slots=True)
class RowSchema:
    """What a row holds.

    Attributes:
      dim: length of a vector.
      vector_dtype: float32 or float16.
      chunks: whether a row is a chunk (columns chunk, start and end) and not a document.
      keep_text: whether the embedded text is a column.
      kept: (field, type) of the input's kept fields, in column order. A type is string, int64, double, bool,
        json (stored as a string), binary, or the str() of another flat Arrow type.
    """

    dim: int
    vector_dtype: Literal["float32", "float16"] = "float32"
    chunks: bool = False
    keep_text: bool = False
    kept: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim: expected at least 1, got {self.dim}")
        if self.vector_dtype not in ("float32", "float16"):
            raise ValueError(f"vector_dtype: expected float32 or float16, got {self.vector_dtype!r}")
        seen: set[str] = set()
        taken = {*_ALWAYS, *(_IN_CHUNKS if self.chunks else ()), *(("text",) if self.keep_text else ())}
        for name, kind in self.kept:
            if not name or name in taken:
                raise ValueError(
                    f"keep field {name!r}: the output has its own column of this name; rename the field in "
                    f"the input (taken: {', '.join(sorted(taken))})"
                )
            if name in seen:
                raise ValueError(f"keep field {name!r}: named twice")
            seen.add(name)
            _check_type_name(name, kind)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for the plan file."""
        return dataclasses.asdict(self) | {"kept": [list(pair) for pair in self.kept]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> RowSchema:
        """The schema that `to_json` wrote."""
        return cls(**{**plain, "kept": tuple((name, kind) for name, kind in plain["kept"])})


def _check_type_name(name: str, kind: str) -> None:
    if kind in PLAIN_TYPES:  # known without loading pyarrow
        return
    try:
        arrow_type(kind)
    except ValueError as e:
        raise ValueError(f"keep field {name!r}: {e}") from e


def arrow_schema(schema: RowSchema, metadata: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of the rows; `metadata` becomes the Parquet file's key-value metadata.

    Columns that every row fills are declared non-null.
    """
    import pyarrow as pa

    number = pa.float32() if schema.vector_dtype == "float32" else pa.float16()
    item = pa.field("item", number, nullable=False)
    fields = [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(item, schema.dim), nullable=False),
        pa.field("tokens", pa.int32()),
        pa.field("tokens_dropped", pa.int32()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
    if schema.chunks:
        fields.append(pa.field("chunk", pa.int32(), nullable=False))
        fields += [pa.field(name, pa.int64(), nullable=False) for name in ("start", "end")]
    if schema.keep_text:
        fields.append(pa.field("text", pa.string(), nullable=False))
    fields += [pa.field(name, arrow_type(kind)) for name, kind in schema.kept]
    return pa.schema(fields, metadata=dict(metadata))


def columns(schema: RowSchema, rows: Sequence[Embedding]) -> dict[str, list[Any]]:
    """The rows' values by column, in column order, without the vectors."""
    documents = [row.document for row in rows]
    values: dict[str, list[Any]] = {
        "doc_id": [document.doc_id for document in documents],
        "tokens": [row.tokens for row in rows],
        "tokens_dropped": [row.tokens_dropped for row in rows],
        "source": [document.source for document in documents],
        "position": [document.position for document in documents],
    }
    if schema.chunks:
        values |= {"chunk": [row.chunk for row in rows]}
        values |= {"start": [row.start for row in rows], "end": [row.end for row in rows]}
    if schema.keep_text:
        texts = [document.text for document in documents]
        if schema.chunks:  # start and end count characters of the document
            texts = [text[row.start : row.end] for text, row in zip(texts, rows, strict=True)]
        values["text"] = texts
    for name, _ in schema.kept:
        values[name] = [document.kept.get(name) for document in documents]
    return values


def stack_vectors(schema: RowSchema, rows: Sequence[Embedding], *, out: np.ndarray) -> None:
    """Copies the rows' vectors into `out`, [len(rows), dim] of the schema's dtype, C-contiguous.

    Raises:
      ValueError: naming the document, for a vector of another shape, or one that float16 cannot hold.
    """
    vectors = [row.vector for row in rows]
    if not vectors:
        return
    flat = np.empty(out.size, np.float32) if schema.vector_dtype == "float16" else out.reshape(-1)
    # Not by shape: len takes half the time, and concatenate itself refuses other ranks than out's.
    if set(map(len, vectors)) != {schema.dim}:
        raise _wrong_shape(schema, rows)
    try:
        np.concatenate(vectors, out=flat, casting="same_kind")
    except ValueError as e:
        raise _wrong_shape(schema, rows) from e
    if schema.vector_dtype == "float32":
        return
    block = flat.reshape(out.shape)
    fits = (np.abs(block) <= FLOAT16_MAX).all(axis=1)  # False for NaN too
    if not fits.all():
        row = int(np.argmin(fits))
        value = block[row][~(np.abs(block[row]) <= FLOAT16_MAX)][0]
        raise ValueError(
            f"document {rows[row].doc_id!r}: its vector holds {value}, and float16 ends at "
            f"{FLOAT16_MAX:.0f}; write float32 vectors"
        )
    out[...] = block


def _wrong_shape(schema: RowSchema, rows: Sequence[Embedding]) -> ValueError:
    wrong = next(row for row in rows if row.vector.shape != (schema.dim,))
    shape = list(wrong.vector.shape)
    return ValueError(f"document {wrong.doc_id!r}: expected a vector of shape [{schema.dim}], got {shape}")
