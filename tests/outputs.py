"""Output folders written by the steps alone, without a model or a pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rows
from fakes import bundle

from benchmarks import synthetic
from transforms.blocks import DeadLetters
from transforms.elements import DeadLetter, EndOfShard, Shard, Slice
from transforms.output import layout, ledger, plan_file
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest
from transforms.output.reader import row_schema
from transforms.steps.write import WriteConfig, _WriteFn

HEAD: dict[str, Any] = synthetic.HEAD | {"model": "m", "dim": 3}
# What a whole record of a job has besides, for commands that compare two jobs.
JOB: dict[str, Any] = {
    **{"embedbeam": "0", "root": "/in", "files": 1, "input_bytes": 1, "shard_bytes": 1},
    **{"model_dtype": "float32", "batch_tokens": 1, "window_chunks": 1},
}


@dataclasses.dataclass
class Made:
    """A folder and what was put into it, by shard in the order of the plan."""

    path: Path
    job: str
    shards: list[str]
    rows: dict[str, list[rows.Row]]
    letters: dict[str, list[DeadLetter]]


def make(
    path: Path,
    *,
    shards: int = 3,
    per_shard: int = 20,
    leave: int = 0,
    values: Any = None,
    row: Callable[[str, int], dict[str, Any]] = lambda shard_id, i: {},
    letter: Callable[[str, int], dict[str, Any]] = lambda shard_id, i: {},
    **head: Any,
) -> Made:
    """Writes an output; `leave` shards at the end of the plan are not committed.

    `values` are the kept fields' in every other row; `row` and `letter` give fields of their own.
    """
    head = HEAD | head
    ids = [f"{50000 - i * 7919:04x}" * 4 for i in range(shards)]
    planned = [Shard(i, (Slice(f"/in/{i}", i, "jsonl", bytes=100),)) for i in ids]
    folder = Folder(str(path))
    folder.create_new(layout.PLAN, plan_file.to_bytes(head, planned))
    job, schema = plan_file.job_of(folder) or "", row_schema(head)
    made = Made(path, job, ids, {}, {})
    fn = _WriteFn(
        WriteConfig(str(path), job, head["output_format"], schema, {"k": "v"}, head["tfrecord_gzip"])
    )
    fn.setup()
    for number, shard_id in enumerate(ids[: shards - leave]):
        random = np.random.default_rng(number)
        some = [
            dataclasses.replace(
                rows.Row(
                    f"{shard_id}:{i}",
                    random.standard_normal(head["dim"]).astype(np.float32).tolist(),
                    chunk=i,
                    kept=(values or {}) if i % 2 else {},
                ),
                **row(shard_id, i),
            )
            for i in range(per_shard)
        ]
        dead = [
            dataclasses.replace(
                DeadLetter(f"{shard_id}:dead{i}", "in", i, "read", "not JSON", f"line {i}", "{", i),
                **letter(shard_id, i),
            )
            for i in range(number)
        ]
        elements = [DeadLetters(shard_id, tuple(dead))] if dead else []
        made.rows[shard_id], made.letters[shard_id] = some, dead
        marker = EndOfShard(shard_id, per_shard + number)
        bundle(fn, [*elements, rows.block(some, schema, shard_id=shard_id), marker])
    fn.teardown()
    if not leave:
        finish(folder, job)
    return made


def finish(folder: Folder, job: str) -> None:
    receipts = ledger.read_receipts(folder, job)
    numbers = {
        "documents": sum(r.documents for r in receipts),
        "tokens": ledger.total([r.tokens for r in receipts]),
        "tokens_dropped": ledger.total([r.tokens_dropped for r in receipts]),
        "shards": len(receipts),
        "parts": len(receipts),
    }
    text = dict.fromkeys(("model", "model_digest", "dtype", "device", "host", "finished"), "")
    manifest = Manifest(
        output=folder.path,
        job=job,
        options={},
        dim=3,
        rows=sum(r.rows for r in receipts),
        dead_letters=ledger.by_reason(receipts),
        output_bytes=sum(r.part_bytes for r in receipts),
        wall_seconds=0.0,
        versions={},
        **numbers,
        **text,
    )
    folder.write(layout.MANIFEST, manifest.to_json())
    folder.write(layout.SUCCESS, b"")
