"""How fast the sinks are beside the least that the same file could cost; prints ratios, medians of one run.

Parquet: against a bare pyarrow ParquetWriter with the same settings and the same batches. TFRecord: against
`tf.train.Example` objects and `tf.io.TFRecordWriter`.
"""

from __future__ import annotations

import hashlib
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

from transforms.output.schema import RowSchema, arrow_schema
from transforms.output.sinks.parquet import VECTOR_ENCODING, ParquetSink
from transforms.output.sinks.tfrecord import TFRecordSink

DIM = 384
ROWS_PER_WRITE = 256


def make_rows(count: int, schema: RowSchema) -> list[pa.RecordBatch]:
    """Rows with unit vectors, as they come from mini-batches of `ROWS_PER_WRITE`."""
    rng, arrow = np.random.default_rng(0), arrow_schema(schema, {})
    batches: list[pa.RecordBatch] = []
    for begin in range(0, count, ROWS_PER_WRITE):
        numbers = np.arange(begin, min(begin + ROWS_PER_WRITE, count))
        vectors = rng.standard_normal((len(numbers), DIM), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        sources = [f"notes/{number // 5000}.jsonl" for number in numbers]
        values = {
            "doc_id": [f"{source}:{number * 211}" for source, number in zip(sources, numbers, strict=True)],
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.reshape(-1)), type=arrow.field("embedding").type
            ),
            "tokens": numbers % 256,
            "tokens_dropped": numbers * 0,
            "source": sources,
            "position": numbers * 211,
            "fingerprint": [hashlib.blake2b(number.tobytes(), digest_size=16).digest() for number in numbers],
        }
        arrays = [
            values[field.name] if field.name == "embedding" else pa.array(values[field.name], field.type)
            for field in arrow
        ]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=arrow))
    return batches


def write_parquet(batches: Sequence[pa.RecordBatch], schema: RowSchema) -> bytes:
    file = io.BytesIO()  # the disk's moods are not the subject
    sink = ParquetSink(file, schema, {})
    for batch in batches:
        sink.write(batch)
    sink.close()
    return file.getvalue()


def write_bare(batches: Sequence[pa.RecordBatch], rows_of_groups: Sequence[int]) -> bytes:
    """The same row groups, put together from the same batches."""
    schema = batches[0].schema
    names = [name for name in schema.names if name != "embedding"]
    vectors = "embedding.list.element"
    options = {
        "compression": {**dict.fromkeys(names, "zstd"), vectors: VECTOR_ENCODING["compression"]},
        "compression_level": {vectors: VECTOR_ENCODING["level"]},
        "use_dictionary": ["source"],
        "column_encoding": {vectors: VECTOR_ENCODING["encoding"]},
        "write_statistics": [name for name in names if name != "fingerprint"],
    }
    file, begin = io.BytesIO(), 0
    table = pa.Table.from_batches(batches)
    with pq.ParquetWriter(file, schema, **options) as writer:
        for rows in rows_of_groups:
            writer.write_table(table.slice(begin, rows).combine_chunks(), row_group_size=rows)
            begin += rows
    return file.getvalue()


def write_tfrecord(batches: Sequence[pa.RecordBatch], schema: RowSchema, path: str) -> None:
    with open(path, "wb") as file:
        sink = TFRecordSink(file, schema, {})
        for batch in batches:
            sink.write(batch)
        sink.close()


def write_examples(batches: Sequence[pa.RecordBatch], path: str) -> None:
    import tensorflow as tf

    def binary(value: str | bytes) -> tf.train.Feature:
        data = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))

    def integer(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(path) as writer:
        for row in (row for batch in batches for row in batch.to_pylist()):
            features = {
                name: integer(value) if isinstance(value, int) else binary(value)
                for name, value in row.items()
                if name != "embedding"
            }
            features["embedding"] = tf.train.Feature(float_list=tf.train.FloatList(value=row["embedding"]))
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
    batches = make_rows(50_000, schema)
    ours = write_parquet(batches, schema)
    metadata = pq.ParquetFile(io.BytesIO(ours)).metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    same = pq.read_table(io.BytesIO(ours)).equals(pq.read_table(io.BytesIO(write_bare(batches, groups))))
    ratios = compare(lambda: write_parquet(batches, schema), lambda: write_bare(batches, groups), rounds=7)
    report(f"ParquetSink over bare pyarrow ({metadata.num_rows} rows, the same: {same})", ratios)

    few = batches[:16]
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = os.path.join(folder, "ours"), os.path.join(folder, "theirs")
        ratios = compare(
            lambda: write_tfrecord(few, schema, mine), lambda: write_examples(few, theirs), rounds=7
        )
    report(f"TFRecordSink over tf.train.Example objects ({sum(map(len, few))} rows)", ratios)


if __name__ == "__main__":
    main()
