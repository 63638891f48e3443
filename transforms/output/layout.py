"""Where things lie in an output folder. Names that begin with _ are skipped by Arrow, Spark, DuckDB globs."""

from __future__ import annotations

SUCCESS = "_SUCCESS"
DEAD_LETTERS = "_dead_letters"
STATE = "_embedbeam"
PLAN = f"{STATE}/plan.jsonl"
MANIFEST = f"{STATE}/manifest.json"
RUN = f"{STATE}/run.json"
LOCK = f"{STATE}/lock"
RECEIPTS = f"{STATE}/receipts"
FAILURES = f"{STATE}/failures"
ATTEMPTS = f"{STATE}/attempts"
TEMPORARY = f"{STATE}/tmp"
EXTENSIONS = {"parquet": ".parquet", "tfrecord": ".tfrecord"}


def part(shard_id: str, extension: str) -> str:
    return f"part-{shard_id}{extension}"


def dead_letters(shard_id: str) -> str:
    return f"{DEAD_LETTERS}/part-{shard_id}.jsonl"


def receipt(shard_id: str) -> str:
    return f"{RECEIPTS}/{shard_id}.json"


def attempt(shard_id: str) -> str:
    return f"{ATTEMPTS}/{shard_id}.json"


def failure(shard_id: str) -> str:
    return f"{FAILURES}/{shard_id}.json"
