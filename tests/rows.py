"""Output rows as tests write them, and the blocks made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.blocks import DeadLetters, RowBlock
from transforms.elements import DeadLetter
from transforms.output.column_types import arrow_type
from transforms.output.schema import RowSchema, arrow_schema, record_batch


@dataclasses.dataclass(frozen=True)
class Row:
    """One row."""

    doc_id: str
    vector: Sequence[float]
    source: str = "in.jsonl"
    position: int = 0
    tokens: int | None = 5
    dropped: int | None = 1
    text: str = "a text"
    chunk: int = 0
    start: int = 0
    end: int = 0
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fingerprint(self) -> bytes:
        return self.doc_id.encode()[:16].ljust(16, b"\0")


def column(rows: Sequence[Row], name: str) -> np.ndarray | None:
    values = [getattr(row, name) for row in rows]
    return None if None in values else np.array(values, np.int64)


def block(
    rows: Sequence[Row], schema: RowSchema, *, shard_id: str = "", documents: int | None = None
) -> RowBlock:
    """A RowBlock of them; counts are None for all if they are for one."""
    columns = {
        "doc_id": pa.array([row.doc_id for row in rows], pa.string()),
        "source": pa.array([row.source for row in rows], pa.string()),
        "position": pa.array([row.position for row in rows], pa.int64()),
        "index": pa.array(range(len(rows)), pa.int64()),
        "fingerprint": pa.array([row.fingerprint for row in rows], pa.binary(16)),
    }
    kept = {n: pa.array([row.kept.get(n) for row in rows], arrow_type(kind)) for n, kind in schema.kept}
    arrays = [*columns.values(), *kept.values()]
    return RowBlock(
        shard_id=shard_id,
        documents=len(rows) if documents is None else documents,
        columns=pa.RecordBatch.from_arrays(arrays, names=[*columns, *kept]),
        vectors=np.array([row.vector for row in rows], np.float32).reshape(len(rows), -1),
        tokens=column(rows, "tokens"),
        dropped=column(rows, "dropped"),
        payloads=pa.array([row.text for row in rows], pa.string()) if schema.keep_text else None,
        chunk=column(rows, "chunk") if schema.chunks else None,
        start=column(rows, "start") if schema.chunks else None,
        end=column(rows, "end") if schema.chunks else None,
    )


def batch(rows: Sequence[Row], schema: RowSchema) -> pa.RecordBatch:
    arrow = arrow_schema(schema, {})
    if not rows:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in arrow], schema=arrow)
    return record_batch(schema, arrow, block(rows, schema))


def write(sink: Any, rows: Sequence[Row], schema: RowSchema, *, at_once: int = 1000) -> None:
    """All rows through a sink, and its end."""
    for begin in range(0, len(rows), at_once):
        sink.write(batch(rows[begin : begin + at_once], schema))
    sink.close()
    sink.close()


def expected(rows: Sequence[Row], schema: RowSchema) -> list[dict[str, Any]]:
    """The rows as a reader is to give them."""
    plain = []
    counted = [column(rows, name) is not None for name in ("tokens", "dropped")]
    for row in rows:
        values: dict[str, Any] = {
            "doc_id": row.doc_id,
            "embedding": np.array(row.vector, np.float32).astype(schema.vector_dtype).astype(float).tolist(),
            "tokens": row.tokens if counted[0] else None,
            "tokens_dropped": row.dropped if counted[1] else None,
            "source": row.source,
            "position": row.position,
            "fingerprint": row.fingerprint,
        }
        if schema.chunks:
            values |= {"chunk": row.chunk, "start": row.start, "end": row.end}
        if schema.keep_text:
            values["text"] = row.text
        plain.append(values | {name: row.kept.get(name) for name, _ in schema.kept})
    return plain


def letters(*some: DeadLetter, shard_id: str) -> DeadLetters:
    return DeadLetters(shard_id, some)
