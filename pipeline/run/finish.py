"""After the run: the books are balanced, the manifest is written, and _SUCCESS last of all."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from pipeline.job import Job, plain, row_schema
from pipeline.options.options import most_dead_letters
from transforms.elements import Shard, ShardFailed, ShardReceipt
from transforms.errors import BadFileError, JobFailed, LedgerError
from transforms.output import layout, ledger
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest

# What the manifest says of the job in fields of its own, and what says nothing there.
_ELSEWHERE = ("model", "model_digest", "dim", "identity")


def failure_text(failure: ShardFailed) -> str:
    """What is wrong with a shard's file, in the words of the error that it raised."""
    return str(BadFileError(failure.source, failure.position, failure.reason))


def balance(folder: Folder, job: str, shards: Sequence[Shard], receipts: Sequence[ShardReceipt]) -> None:
    """Checks that every shard is committed once, and that its documents are rows or dead letters.

    Args:
      folder: the output.
      job: the identity of the job.
      shards: of its plan.
      receipts: those of the job in the folder.

    Raises:
      JobFailed: files could not be read; names them.
      LedgerError: anything else is missing.
    """
    failures = ledger.read_failures(folder, job)
    if failures:
        listed = "\n".join(f"  {failure_text(failure)}" for failure in failures[:20])
        left = len(failures) - 20
        more = f"\n  and {left} more" if left > 0 else ""
        raise JobFailed(
            f"{len(failures)} of {len(shards)} shards failed on bad files; {len(receipts)} are committed. "
            "Mend the files and use a new output folder (or --overwrite), or pass --skip-bad-files:\n"
            f"{listed}{more}"
        )
    planned, committed = {s.shard_id for s in shards}, {r.shard_id for r in receipts}
    others = folder.shards(layout.RECEIPTS) - committed
    if others:
        raise LedgerError(
            f"{len(others)} receipts are of another job, e.g. {layout.receipt(min(others))}; run the same "
            "command again: these shards are embedded anew"
        )
    if planned != committed:
        raise LedgerError(
            f"{len(planned - committed)} shards of the plan have no receipt, and {len(committed - planned)} "
            f"receipts have no shard, e.g. {sorted(planned ^ committed)[0]}; run the same command again"
        )
    sizes = folder.names()
    for receipt in receipts:
        dead = sum(receipt.dead_letters.values())
        if receipt.rows + dead < receipt.documents:  # more rows than documents where a row is a chunk
            raise LedgerError(
                f"shard {receipt.shard_id}: {receipt.documents} documents read, {receipt.rows} rows and "
                f"{dead} dead letters written"
            )
        if receipt.part is not None and sizes.get(receipt.part) != receipt.part_bytes:
            found = "is gone" if receipt.part not in sizes else f"has {sizes[receipt.part]} bytes"
            raise LedgerError(
                f"{folder.join(receipt.part)} {found}, its receipt says {receipt.part_bytes} bytes; delete "
                f"{folder.join(layout.receipt(receipt.shard_id))} and run the same command again"
            )
    wrong = ledger.unpaired(folder, receipts)
    if wrong is not None:
        raise LedgerError(
            f"{folder.join(wrong.part or layout.dead_letters(wrong.shard_id))}: its checksum is not its "
            "receipt's, since another attempt wrote over it; delete "
            f"{folder.join(layout.receipt(wrong.shard_id))} and run the same command again"
        )


def check_dead_letters(receipts: Sequence[ShardReceipt], limit: str, output: str) -> None:
    """Raises JobFailed if there are more dead letters than the limit allows."""
    documents, reasons = sum(r.documents for r in receipts), ledger.by_reason(receipts)
    dead, most = sum(reasons.values()), most_dead_letters(limit, documents)
    if dead > most:
        common = ", ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:3])
        raise JobFailed(
            f"{dead} of {documents} documents are dead letters, more than --max-dead-letters {limit} allows "
            f"({most}). Most common: {common}. They lie in {output}/{layout.DEAD_LETTERS}/; all shards are "
            "committed: the same command with a higher limit ends at once"
        )


def make_manifest(
    job: Job, receipts: Sequence[ShardReceipt], *, output: str, wall_seconds: float, device: str
) -> Manifest:
    spec = None
    if job.output_format == "tfrecord":
        from transforms.output.sinks.tfrecord import feature_spec

        spec = feature_spec(row_schema(job))
    names = ("embedbeam", "apache-beam", "tensorflow", "tensorflow-text", "tensorflow-hub", "pyarrow")
    return Manifest(
        output=output,
        job=job.identity,
        options={k: v for k, v in plain(job).items() if k not in _ELSEWHERE},
        model=job.model,
        model_digest=job.model_digest,
        dim=job.dim,
        dtype=job.vector_dtype,
        documents=sum(r.documents for r in receipts),
        rows=sum(r.rows for r in receipts),
        dead_letters=ledger.by_reason(receipts),
        tokens=ledger.total([r.tokens for r in receipts]),
        tokens_dropped=ledger.total([r.tokens_dropped for r in receipts]),
        shards=len(receipts),
        parts=sum(r.part is not None for r in receipts),
        output_bytes=sum(r.part_bytes for r in receipts),
        wall_seconds=round(wall_seconds, 3),
        device=device,
        host=socket.gethostname(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions={"python": platform.python_version()} | {name: installed(name) for name in names},
        feature_spec=spec,
    )


def installed(name: str) -> str:
    """Version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
