"""How fast the sinks are beside the least that the same file could cost; prints ratios, medians of one run.

Parquet: against a bare pyarrow ParquetWriter with the same settings that is handed finished Arrow columns and
only has to stack the vectors. TFRecord: against `tf.train.Example` objects and `tf.io.TFRecordWriter`.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.elements import Document, Embedding
from transforms.output.schema import RowSchema, arrow_schema, columns
from transforms.output.sinks.parquet import ROW_GROUP_BYTES, ParquetSink
from transforms.output.sinks.tfrecord import TFRecordSink

DIM = 384
ROWS_PER_WRITE = 256


def make_rows(count: int) -> list[Embedding]:
    """Rows with unit vectors, as they come from mini-batches of `ROWS_PER_WRITE`."""
    rng = np.random.default_rng(0)
    rows: list[Embedding] = []
    while len(rows) < count:
        block = rng.standard_normal((ROWS_PER_WRITE, DIM), np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        for vector in block:
            number = len(rows)
            document = Document(
                f"notes/{number // 5000}.jsonl:{number * 211}",
                "",
                f"notes/{number // 5000}.jsonl",
                number * 211,
            )
            rows.append(Embedding(document, vector, number % 256, 0))
    return rows[:count]


def write_parquet(rows: Sequence[Embedding], schema: RowSchema) -> bytes:
    file = io.BytesIO()  # the disk's moods are not the subject
    sink = ParquetSink(file, schema, {})
    for begin in range(0, len(rows), ROWS_PER_WRITE):
        sink.write(rows[begin : begin + ROWS_PER_WRITE])
    sink.close()
    return file.getvalue()


def write_bare(table: pa.Table, vectors: list[np.ndarray]) -> bytes:
    """Everything but the vectors is in Arrow columns before the clock starts."""
    group = -(-ROW_GROUP_BYTES // (DIM * 4 + 64))
    options = {
        "compression": "zstd",
        "use_dictionary": ["source"],
        "write_statistics": [name for name in table.schema.names if name != "embedding"],
    }
    field = table.schema.field("embedding")
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, **options) as writer:
        for begin in range(0, len(table), group):
            part = table.slice(begin, group)
            flat = pa.array(np.stack(vectors[begin : begin + group]).reshape(-1))
            stacked = pa.FixedSizeListArray.from_arrays(flat, type=field.type)
            writer.write_table(part.set_column(1, field, stacked), row_group_size=group)
    return file.getvalue()


def write_tfrecord(rows: Sequence[Embedding], schema: RowSchema, path: str) -> None:
    with open(path, "wb") as file:
        sink = TFRecordSink(file, schema, {})
        for begin in range(0, len(rows), ROWS_PER_WRITE):
            sink.write(rows[begin : begin + ROWS_PER_WRITE])
        sink.close()


def write_examples(rows: Sequence[Embedding], path: str) -> None:
    import tensorflow as tf

    def string(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    def integer(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(path) as writer:
        for row in rows:
            features = {
                "doc_id": string(row.doc_id),
                "embedding": tf.train.Feature(float_list=tf.train.FloatList(value=row.vector)),
                "tokens": integer(row.tokens or 0),
                "tokens_dropped": integer(row.tokens_dropped or 0),
                "source": string(row.document.source),
                "position": integer(row.document.position),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def compare(ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int) -> list[float]:
    """Their time over ours, round by round; the two take turns, and turns at being first."""
    ratios = []
    for number in range(rounds + 1):
        seconds = {}
        for work in (ours, theirs) if number % 2 else (theirs, ours):
            start = time.perf_counter()
            work()
            seconds[work] = time.perf_counter() - start
        if number:  # the first round loads libraries
            ratios.append(seconds[theirs] / seconds[ours])
    return ratios


def report(what: str, ratios: list[float]) -> None:
    print(
        f"{what}: {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}, n={len(ratios)})"
    )


def main() -> None:
    schema = RowSchema(DIM)
    rows = make_rows(50_000)
    vectors = [row.vector for row in rows]
    arrow = arrow_schema(schema, {})
    plain = {name: pa.array(column, arrow.field(name).type) for name, column in columns(schema, rows).items()}
    nothing = pa.FixedSizeListArray.from_arrays(
        pa.array(np.zeros(len(rows) * DIM, np.float32)), type=arrow.field("embedding").type
    )
    table = pa.Table.from_arrays([plain.get(name, nothing) for name in arrow.names], schema=arrow)
    del nothing
    same = write_parquet(rows, schema) == write_bare(table, vectors)
    ratios = compare(lambda: write_parquet(rows, schema), lambda: write_bare(table, vectors), rounds=7)
    report(f"ParquetSink over bare pyarrow ({len(rows)} rows, same bytes: {same})", ratios)

    few = rows[:4096]
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = os.path.join(folder, "ours"), os.path.join(folder, "theirs")
        ratios = compare(
            lambda: write_tfrecord(few, schema, ours), lambda: write_examples(few, theirs), rounds=7
        )
    report(f"TFRecordSink over tf.train.Example objects ({len(few)} rows)", ratios)


if __name__ == "__main__":
    main()
