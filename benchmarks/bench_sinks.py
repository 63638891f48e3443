"""How fast the sinks are beside the least that the same file could cost; prints ratios, medians of one run.

Parquet: against a bare pyarrow ParquetWriter with the same settings that is handed row groups. TFRecord:
against `tf.train.Example` objects and `tf.io.TFRecordWriter`. Encodings of vectors: over plain zstd.

    python benchmarks/bench_sinks.py [OUTPUT]     vectors of an embedbeam output too, beside random ones
"""

from __future__ import annotations

import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.blocks import RowBlock
from transforms.output.reader import open_output
from transforms.output.schema import RowSchema, arrow_schema, record_batch
from transforms.output.sinks.parquet import COMPRESSION, ROW_GROUP_BYTES, ParquetSink
from transforms.output.sinks.tfrecord import TFRecordSink

DIM = 384
ROWS_PER_BLOCK = 512
CODECS: tuple[tuple[str, int | None], ...] = (
    *(("zstd", 1), ("zstd", 3), ("lz4", None), ("snappy", None), ("none", None)),
)
_ROUNDS = 5


def make_blocks(count: int) -> list[RowBlock]:
    """Rows with unit vectors, as they come from the chain."""
    rng = np.random.default_rng(0)
    blocks = []
    for first in range(0, count, ROWS_PER_BLOCK):
        rows = min(ROWS_PER_BLOCK, count - first)
        vectors = rng.standard_normal((rows, DIM), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = np.arange(first, first + rows)
        source = f"notes/{first // 5120}.jsonl"
        columns = {
            "doc_id": pa.array([f"{source}:{number * 211}" for number in numbers]),
            "source": pa.array([source] * rows),
            "position": pa.array(numbers * 211),
            "index": pa.array(numbers),
            "fingerprint": pa.array([rng.bytes(16) for _ in range(rows)], pa.binary(16)),
        }
        blocks.append(
            RowBlock("", rows, pa.record_batch(columns), vectors, numbers % 256, np.zeros(rows, np.int64))
        )
    return blocks


def write_parquet(blocks: Sequence[RowBlock], schema: RowSchema) -> bytes:
    file = io.BytesIO()  # the disk's moods are not the subject
    sink, arrow = ParquetSink(file, schema, {}), arrow_schema(schema, {})
    for block in blocks:
        sink.write(record_batch(schema, arrow, block))
    sink.close()
    return file.getvalue()


def write_bare(groups: Sequence[pa.Table]) -> bytes:
    names = [name for name in groups[0].schema.names if name != "embedding"]
    options: dict[str, Any] = {
        "compression": COMPRESSION,
        "use_dictionary": ["source"],
        "write_statistics": [name for name in names if name != "fingerprint"],
    }
    file = io.BytesIO()
    with pq.ParquetWriter(file, groups[0].schema, **options) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=len(group))
    return file.getvalue()


def row_groups(data: bytes) -> list[pa.Table]:
    """A file's row groups, in memory, a chunk a column."""
    file = pq.ParquetFile(io.BytesIO(data))
    groups = [file.read_row_group(i).combine_chunks() for i in range(file.num_row_groups)]
    return [group.replace_schema_metadata({}) for group in groups]


def write_tfrecord(blocks: Sequence[RowBlock], schema: RowSchema, path: str) -> None:
    arrow = arrow_schema(schema, {})
    with open(path, "wb") as file:
        sink = TFRecordSink(file, schema, {})
        for block in blocks:
            sink.write(record_batch(schema, arrow, block))
        sink.close()


def write_examples(rows: Sequence[dict[str, Any]], path: str) -> None:
    import tensorflow as tf

    def feature(value: Any) -> tf.train.Feature:
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        plain = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[plain]))

    with tf.io.TFRecordWriter(path) as writer:
        for row in rows:
            features = {name: feature(value) for name, value in row.items() if name != "embedding"}
            vector = tf.train.FloatList(value=row["embedding"])
            features["embedding"] = tf.train.Feature(float_list=vector)
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


def write_vectors(vectors: np.ndarray, *, split: bool, codec: str, level: int | None) -> int:
    """Writes [rows, dim] as one column; returns the file's bytes."""
    item = pa.field("item", pa.float32(), nullable=False)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1)), type=pa.list_(item, vectors.shape[1])
    )
    table = pa.table({"embedding": column})
    file = io.BytesIO()
    encoding = {"embedding.list.element": "BYTE_STREAM_SPLIT"} if split else None
    with pq.ParquetWriter(
        file,
        table.schema,
        compression=codec,
        compression_level=level,
        use_dictionary=False,
        column_encoding=encoding,
        write_statistics=False,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_BYTES // (4 * vectors.shape[1]))
    return len(file.getbuffer())


def compare_encodings(name: str, vectors: np.ndarray) -> None:
    """A line of the table "Parquet encoding of vectors" for each encoding: CPU time and bytes."""
    kinds = list(itertools.product((False, True), CODECS))
    seconds: dict[Any, list[float]] = {kind: [] for kind in kinds}
    sizes = {}
    for _ in range(_ROUNDS):  # each round has all of them, so that the machine's moods are shared
        for kind in kinds:
            split, (codec, level) = kind
            start = time.process_time()
            sizes[kind] = write_vectors(vectors, split=split, codec=codec, level=level)
            seconds[kind].append(time.process_time() - start)
    plain = kinds[0]
    for kind in kinds:
        split, (codec, level) = kind
        ratios = [ours / theirs for ours, theirs in zip(seconds[kind], seconds[plain], strict=True)]
        words = f"{'BYTE_STREAM_SPLIT' if split else 'PLAIN'}, {codec}{'' if level is None else f' {level}'}"
        micros = statistics.median(seconds[kind]) / len(vectors) * 1e6
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        size = f"{sizes[kind] / sizes[plain]:.3f} | {micros:.1f} | {sizes[kind] / len(vectors):.0f}"
        print(f"| {name} | {words} | {spread} | {size} |", flush=True)


def main() -> None:
    schema = RowSchema(DIM)
    blocks = make_blocks(50_000)
    groups = row_groups(write_parquet(blocks, schema))
    same = write_parquet(blocks, schema) == write_bare(groups)
    ratios = compare(lambda: write_parquet(blocks, schema), lambda: write_bare(groups), rounds=7)
    report(f"ParquetSink over bare pyarrow (50,000 rows, same bytes: {same})", ratios)

    few = blocks[:8]
    arrow = arrow_schema(schema, {})
    plain = [row for block in few for row in record_batch(schema, arrow, block).to_pylist()]
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = os.path.join(folder, "ours"), os.path.join(folder, "theirs")
        ratios = compare(
            lambda: write_tfrecord(few, schema, ours), lambda: write_examples(plain, theirs), rounds=7
        )
    report(f"TFRecordSink over tf.train.Example objects ({len(plain)} rows)", ratios)

    print("| vectors | encoding | time | size | µs/row | bytes/row |\n| --- | --- | --- | --- | --- | --- |")
    compare_encodings("random", np.concatenate([block.vectors for block in make_blocks(100_000)]))
    for path in sys.argv[1:]:
        real = np.concatenate([vectors for _, vectors in open_output(path).vectors()])
        compare_encodings("model's", np.resize(real, (100_000, real.shape[1])))


if __name__ == "__main__":
    main()
