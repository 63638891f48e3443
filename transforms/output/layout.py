"""Where things lie in an output folder. Names that begin with _ are skipped by Arrow, Spark, DuckDB globs."""

from __future__ import annotations

import re

SUCCESS = "_SUCCESS"
POINTER = "_published.json"  # in a store, all that lies below the name of the current output
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
TRACE = f"{STATE}/trace"
CHECKS = f"{STATE}/checks"  # of verify on a cluster, while it runs
TENSORBOARD = f"{TRACE}/tensorboard"
FINGERPRINTS = f"{STATE}/fingerprints"  # where each is, for runs that reuse the vectors
KNOWN = f"{STATE}/known"  # of documents of a shard those that are reused, as found on a cluster
COPIES = f"{STATE}/copies"  # which documents of a shard are copies, while the job runs
SHARED = f"{STATE}/shared"  # an output of the documents that have copies, while the job runs
ERRANDS = f"{STATE}/errands"  # of forget on a cluster, while workers are at it
DUPLICATES = "_duplicates"
FORGET = f"{STATE}/forget.json"  # what is being forgotten, until it is
FORGOTTEN = f"{STATE}/forgotten.jsonl"  # hashes of ids that were

# Made of the rows later, by commands that look at them.
REPORT = "_report.html"
MAP = "_map"
PROJECTOR = "_projector"
INDEX = "_index"
CLUSTERS = "_clusters"
MADE_LATER = (MAP, PROJECTOR, INDEX, CLUSTERS)
# Folders that tell of single documents: gone when some are forgotten.
OF_DOCUMENTS = (*MADE_LATER, CHECKS, KNOWN, COPIES, SHARED)

_RECORD = re.compile(r"([0-9a-f]{16})\.(?:json|arrow)")
_PART = re.compile(r"part-([0-9a-f]{16})\.(?:jsonl|parquet|tfrecord)(?:\.gz)?")


def part(shard_id: str, extension: str) -> str:
    return f"part-{shard_id}{extension}"


def dead_letters(shard_id: str) -> str:
    return f"{DEAD_LETTERS}/part-{shard_id}.jsonl"


def duplicates(shard_id: str) -> str:
    return f"{DUPLICATES}/part-{shard_id}.parquet"


def copies(shard_id: str) -> str:
    return f"{COPIES}/{shard_id}.arrow"


def trace(shard_id: str) -> str:
    return f"{TRACE}/part-{shard_id}.parquet"


def receipt(shard_id: str) -> str:
    return f"{RECEIPTS}/{shard_id}.json"


def attempt(shard_id: str) -> str:
    return f"{ATTEMPTS}/{shard_id}.json"


def failure(shard_id: str) -> str:
    return f"{FAILURES}/{shard_id}.json"


def shard_of_record(name: str) -> str | None:
    """The shard of a receipt, failure or attempt; None for any other name (.nfs0001, x.tmp).

    >>> shard_of_record("0123456789abcdef.json"), shard_of_record(".nfs0001")
    ('0123456789abcdef', None)
    """
    found = _RECORD.fullmatch(name)
    return found[1] if found else None


def shard_of_part(name: str) -> str | None:
    """The shard of a part file or of a file of dead letters; None for a name that is not ours."""
    found = _PART.fullmatch(name)
    return found[1] if found else None
