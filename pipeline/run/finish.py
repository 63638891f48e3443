"""After the run: the books are balanced, the manifest is written, and _SUCCESS last of all."""

from __future__ import annotations

import dataclasses
import json
import platform
import socket
import time
from collections.abc import Sequence
from typing import Any

from pipeline.job import Job, job_of
from pipeline.options.options import Options
from pipeline.options.values import most_dead_letters
from pipeline.report.write import write_at_end
from pipeline.run.output import output_lock, read_run
from pipeline.version import installed
from transforms.elements import Shard, ShardFailed, ShardReceipt
from transforms.errors import BadFileError, JobFailed, LedgerError
from transforms.output import forgotten, layout, ledger, manifest
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest
from transforms.output.plan_file import PlanFile
from transforms.output.reader import open_output, row_schema
from transforms.output.rewrite import left_out_of_dead

# What the manifest says of the job in fields of its own, and what says nothing there.
_ELSEWHERE = ("model", "model_digest", "model_revision", "dim", "identity")
_PACKAGES = ("embedbeam", "apache-beam", "tensorflow", "tensorflow-text", "tensorflow-hub", "pyarrow")


def failure_text(failure: ShardFailed) -> str:
    """What is wrong with a shard's file, in the words of the error that it raised."""
    return str(BadFileError(failure.source, failure.position, failure.reason))


@dataclasses.dataclass(frozen=True)
class Books:
    """What is committed of a job, to be held against its plan.

    Attributes:
      folder: the output, which `options` name as the user does.
      job, shards: as in its plan.
    """

    folder: Folder
    job: Job
    shards: Sequence[Shard]
    options: Options

    @classmethod
    def of(cls, folder: Folder, plan: PlanFile, options: Options) -> Books:
        """Those of the job that a folder has the plan of."""
        return cls(folder, job_of(plan, folder), plan.shards, options)

    def left(self) -> int:
        """How many shards are not committed."""
        return len(self.shards) - len(self.folder.shards(layout.RECEIPTS))

    def finished(self) -> Manifest | None:
        """The manifest of a job that is done already; None if there is something to do."""
        if self.folder.read(layout.SUCCESS) is None:
            return None
        made = manifest.read(self.folder, self.job.identity)
        there = sum(size for name, size in self.folder.names().items() if layout.shard_of_part(name))
        if made is None or self.left() or there != made.output_bytes:
            return None
        if sum(made.dead_letters.values()):
            self.check_dead_letters(self.receipts())
        return dataclasses.replace(made, output=self.options.output)  # the folder may have been moved

    def receipts(self) -> list[ShardReceipt]:
        return ledger.read_receipts(self.folder, self.job.identity)

    def complete(self, receipts: Sequence[ShardReceipt], started: float | None = None) -> Manifest:
        """Balances the books of a job whose shards are all done, and writes the manifest and _SUCCESS.

        `started` is when this process began the run; None where it was another's.
        """
        last_run = read_run(self.folder, self.job.identity)
        ended = time.time()
        if started is None:
            started = float(last_run.get("time", 0)) or min((r.started for r in receipts), default=ended)
            ended = max((r.finished for r in receipts), default=ended)
        balance(self.folder, self.job.identity, self.shards, receipts)
        made = self.make_manifest(receipts, max(0.0, ended - started), last_run.get("device", "unknown"))
        self.check_dead_letters(receipts)
        self.folder.sweep()  # what attempts left that were killed
        self.folder.delete_files(layout.ATTEMPTS)
        for sub in (layout.KNOWN, layout.COPIES, layout.SHARED):
            self.folder.delete_folder(sub)
        self.folder.write(layout.MANIFEST, made.to_json())
        write_at_end(lambda: open_output(self.folder.path), made, receipts)
        self.folder.write(layout.SUCCESS, b"")
        return made

    def check_dead_letters(self, receipts: Sequence[ShardReceipt]) -> None:
        """Raises JobFailed if there are more dead letters than the limit allows."""
        output, limit = self.options.output, self.options.max_dead_letters
        documents, reasons = sum(r.documents for r in receipts), ledger.by_reason(receipts)
        dead, most = sum(reasons.values()), most_dead_letters(limit, documents)
        if dead > most:
            common = ", ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:3])
            raise JobFailed(
                f"{dead} of {documents} documents are dead letters, more than --max-dead-letters {limit} "
                f"allows ({most}). Most common: {common}. They lie in {output}/{layout.DEAD_LETTERS}/; all "
                "shards are committed: the same command with a higher limit ends at once"
            )

    def make_manifest(self, receipts: Sequence[ShardReceipt], wall_seconds: float, device: str) -> Manifest:
        job, spec = self.job, None
        plain = json.loads(json.dumps(dataclasses.asdict(job)))  # as it is read back
        if job.output_format == "tfrecord":
            from transforms.output.sinks.tfrecord import feature_spec

            spec = feature_spec(row_schema(plain))
        return Manifest(
            output=self.options.output,
            job=job.identity,
            options={name: value for name, value in plain.items() if name not in _ELSEWHERE},
            model=job.model,
            model_digest=job.model_digest,
            dim=job.dim,
            dtype=job.vector_dtype,
            **totals(receipts),
            left_out_of_dead=left_out_of_dead(self.folder.path, receipts),
            wall_seconds=round(wall_seconds, 3),
            device=device,
            host=socket.gethostname(),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            versions={"python": platform.python_version()} | {name: installed(name) for name in _PACKAGES},
            feature_spec=spec,
            model_revision=job.model_revision,
            embedded=sum(_embedded(r) for r in receipts),
        )


def _embedded(receipt: ShardReceipt) -> int:
    """Documents of a shard that went through the model."""
    others = receipt.reused + receipt.copied + receipt.left_out
    return receipt.documents - others - sum(receipt.dead_letters.values())


def balance(folder: Folder, job: str, shards: Sequence[Shard], receipts: Sequence[ShardReceipt]) -> None:
    """Checks that every shard is committed once, and that all its documents are accounted for.

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
            f"{len(failures)} of {len(shards)} shards failed on bad files; {len(receipts)} are "
            "committed. Mend the files and use a new output folder (or --overwrite), or pass "
            f"--skip-bad-files:\n{listed}{more}"
        )
    planned, committed = {s.shard_id for s in shards}, {r.shard_id for r in receipts}
    others = folder.shards(layout.RECEIPTS) - committed
    if others:
        raise LedgerError(
            f"{len(others)} receipts are of another job, e.g. {layout.receipt(min(others))}; run the "
            "same command again: these shards are embedded anew"
        )
    if planned != committed:
        raise LedgerError(
            f"{len(planned - committed)} shards of the plan have no receipt, and "
            f"{len(committed - planned)} receipts have no shard, e.g. {min(planned ^ committed)}; run "
            "the same command again"
        )
    sizes = folder.names()
    for receipt in receipts:
        dead = sum(receipt.dead_letters.values())
        # More rows than documents where a row is a chunk.
        if receipt.rows + dead + receipt.left_out + receipt.forgotten < receipt.documents:
            raise LedgerError(
                f"shard {receipt.shard_id}: {receipt.documents} documents read, {receipt.rows} rows and "
                f"{dead} dead letters written, {receipt.left_out} left out, {receipt.forgotten} forgotten"
            )
        if receipt.part is not None and sizes.get(receipt.part) != receipt.part_bytes:
            found = "is gone" if receipt.part not in sizes else f"has {sizes[receipt.part]} bytes"
            raise LedgerError(
                f"{folder.join(receipt.part)} {found}, its receipt says {receipt.part_bytes} bytes; "
                f"{_anew(folder, receipt)}"
            )
    wrong = ledger.unpaired(folder, receipts)
    if wrong is not None:
        raise LedgerError(
            f"{folder.join(wrong.part or layout.dead_letters(wrong.shard_id))}: its checksum is not its "
            f"receipt's, since another attempt wrote over it; {_anew(folder, wrong)}"
        )


def _anew(folder: Folder, receipt: ShardReceipt) -> str:
    again = f", then `embedbeam forget {folder.path}`" if receipt.forgotten else ""
    name = folder.join(layout.receipt(receipt.shard_id))
    return f"delete {name} and run the same command again{again}"


def totals(receipts: Sequence[ShardReceipt]) -> dict[str, Any]:
    """What a manifest says that is the sum of the receipts."""
    return {
        "documents": sum(r.documents for r in receipts),
        "rows": sum(r.rows for r in receipts),
        "dead_letters": ledger.by_reason(receipts),
        "tokens": ledger.total([r.tokens for r in receipts]),
        "tokens_dropped": ledger.total([r.tokens_dropped for r in receipts]),
        "shards": len(receipts),
        "parts": sum(r.part is not None for r in receipts),
        "output_bytes": sum(r.part_bytes for r in receipts),
        "skipped": ledger.skipped(receipts),
        "mini_batches": sum(r.mini_batches for r in receipts),
        "retries": sum(r.retries for r in receipts),
        "reused": sum(r.reused for r in receipts),
        "copied": sum(r.copied for r in receipts),
        "left_out": sum(r.left_out for r in receipts),
        "forgotten": sum(r.forgotten for r in receipts),
        "model_waited": ledger.waiting(receipts),
    }


def finish_job(output: str, max_dead_letters: str) -> Manifest:
    """Balances a job whose shards are all done, as `run` does at its end.

    Raises:
      UsageError: there is no job in the folder.
      EmbedbeamError: shards are missing, or the books do not balance.
    """
    opened = open_output(output)
    options = Options(input="-", output=opened.folder.path, max_dead_letters=max_dead_letters)
    books = Books.of(opened.folder, opened.plan, options)
    with output_lock(opened.folder):
        forgotten.check_ended(opened.folder, opened.plan.job)
        return books.finished() or books.complete(books.receipts())
