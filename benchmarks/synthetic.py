"""Output folders of vectors that no model made, as large as wanted: written by the steps that write a job's.

python -m benchmarks.synthetic OUT --rows 1000000 --dim 384
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.blocks import RowBlock
from transforms.elements import EndOfShard, Shard, Slice
from transforms.output import layout, ledger, plan_file
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest
from transforms.output.reader import row_schema
from transforms.output.shard import ShardWriter, WriteConfig

HEAD: dict[str, Any] = {
    "model": "synthetic",
    "model_digest": "0" * 64,
    "vector_dtype": "float32",
    "long_documents": "mean",
    "keep_text": False,
    "kept": [],
    "output_format": "parquet",
    "tfrecord_gzip": False,
    "input": [],
    "modality": "text",
}
Rows = Mapping[str, Any]  # doc_id, vectors [n, dim], text where it is kept, kept fields, real fingerprints


def write_output(path: str, shards: Iterable[Iterable[Rows]], **head: Any) -> None:
    """Writes a finished output.

    Args:
      path: a folder that is not there.
      shards: of each its rows, in blocks.
      head: what differs from HEAD in the job's choices; `dim` must be told. `kept` lists the kept fields'
        names and Arrow types.
    """
    head = HEAD | head
    folder, schema, shards = Folder(path), row_schema(head), list(shards)
    ids = [f"{number * 2654435761 % 2**32:08x}{number:08x}" for number in range(len(shards))]
    planned = [Shard(one, (Slice(f"/in/{one}", one, "jsonl", bytes=100),)) for one in ids]
    folder.create_new(layout.PLAN, plan_file.to_bytes(head, planned))
    job = plan_file.job_of(folder) or ""
    config = WriteConfig(path, job, head["output_format"], schema, {}, head["tfrecord_gzip"])
    for shard_id, blocks in zip(ids, shards, strict=True):
        writer, count = ShardWriter(shard_id, folder, config), 0
        for rows in blocks:
            writer.add_rows(_block(shard_id, rows, count, head["kept"]))
            count += len(rows["doc_id"])
        writer.commit(EndOfShard(shard_id, count))
    _finish(folder, job, head)


def _block(shard_id: str, rows: Rows, first: int, kept: list[Any]) -> RowBlock:
    count = len(rows["doc_id"])
    places = pa.array(np.arange(first, first + count))
    prints = rows.get("fingerprint")
    if prints is None:
        prints = pa.array([str(one).encode()[-16:].rjust(16) for one in rows["doc_id"]], pa.binary(16))
    columns = {
        "doc_id": pa.array(rows["doc_id"], pa.string()),
        "source": pa.array([f"{shard_id}.jsonl"] * count, pa.string()),
        "position": places,
        "index": places,
        "fingerprint": prints,
    } | {name: pa.array(rows[name]) for name, _ in kept}
    tokens = rows.get("tokens", np.full(count, 10))
    return RowBlock(
        shard_id=shard_id,
        documents=count,
        columns=pa.RecordBatch.from_pydict(columns),
        vectors=np.asarray(rows["vectors"], np.float32),
        tokens=np.asarray(tokens, np.int64),
        dropped=np.zeros(count, np.int64),
        payloads=pa.array(rows["text"], pa.string()) if "text" in rows else None,
    )


def _finish(folder: Folder, job: str, head: Mapping[str, Any]) -> None:
    receipts = ledger.read_receipts(folder, job)
    made = Manifest(
        output=folder.path,
        job=job,
        options=dict(head),
        model=head["model"],
        model_digest=head["model_digest"],
        dim=head["dim"],
        dtype=head["vector_dtype"],
        documents=sum(r.documents for r in receipts),
        rows=sum(r.rows for r in receipts),
        dead_letters={},
        tokens=ledger.total([r.tokens for r in receipts]),
        tokens_dropped=0,
        shards=len(receipts),
        parts=len(receipts),
        output_bytes=sum(r.part_bytes for r in receipts),
        wall_seconds=1.0,
        device="CPU",
        host="localhost",
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions={},
    )
    folder.write(layout.MANIFEST, made.to_json())
    folder.write(layout.SUCCESS, b"")


def clouds(
    rows: int, dim: int, *, shards: int = 20, kinds: int = 50, seed: int = 0
) -> Iterator[Iterator[Rows]]:
    """Shards of unit vectors in clouds around random centres; the field `kind` tells which."""
    centres = np.random.default_rng(seed).standard_normal((kinds, dim)).astype(np.float32)

    def blocks(number: int, low: int, high: int) -> Iterator[Rows]:
        random = np.random.default_rng([seed, number])
        for begin in range(low, high, 10_000):
            count = min(10_000, high - begin)
            kind = random.integers(kinds, size=count)
            vectors = centres[kind] + random.standard_normal((count, dim), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            names = [f"d{i}" for i in range(begin, begin + count)]
            yield {"doc_id": names, "vectors": vectors, "kind": kind}

    bounds = np.linspace(0, rows, shards + 1).astype(int).tolist()
    return (blocks(i, low, high) for i, (low, high) in enumerate(itertools.pairwise(bounds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--format", default="parquet", choices=("parquet", "tfrecord"))
    given = parser.parse_args()
    shards = clouds(given.rows, given.dim)
    write_output(given.output, shards, dim=given.dim, kept=[["kind", "int64"]], output_format=given.format)


if __name__ == "__main__":
    main()
