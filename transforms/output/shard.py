"""One shard's files: its rows and its dead letters, committed together."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from transforms.blocks import DeadLetters, LeftOut, RowBlock
from transforms.elements import EndOfShard, ShardReceipt
from transforms.errors import LedgerError
from transforms.observer import MiniBatchDone
from transforms.output import attempts, layout, ledger, plan_file
from transforms.output.beside import LeftOutFile, LettersFile
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile
from transforms.output.schema import RowSchema, arrow_schema, record_batch
from transforms.output.trace import TraceFile


@dataclasses.dataclass(frozen=True)
class WriteConfig:
    """What is written, and where.

    Attributes:
      output: the output folder.
      job: the identity of the job; its plan is in the folder.
      format: parquet or tfrecord.
      schema: the columns.
      metadata: key-value metadata of each Parquet file.
      gzip: whether TFRecord files are compressed.
      trace: whether each mini-batch is written down.
      heard: whether observers are told what is written.
    """

    output: str
    job: str
    format: str
    schema: RowSchema
    metadata: Mapping[str, str]
    gzip: bool = False
    trace: bool = False
    heard: bool = True


def open_sink(config: WriteConfig, file: Any) -> Any:
    """The sink of the configured format, writing to a file."""
    metadata = {**config.metadata, "embedbeam.job": config.job}
    if config.format == "parquet":
        from transforms.output.sinks.parquet import ParquetSink

        return ParquetSink(file, config.schema, metadata)
    from transforms.output.sinks.tfrecord import TFRecordSink

    return TFRecordSink(file, config.schema, metadata, gzip=config.gzip)


class ShardWriter:
    """Writes one shard; nothing of it is visible before `commit`."""

    def __init__(self, shard_id: str, folder: Folder, config: WriteConfig):
        self.shard_id = shard_id
        self._folder, self._config = folder, config
        self._arrow = arrow_schema(config.schema, {})
        self._part: PendingFile | None = None
        self._part_name = layout.part(shard_id, f".{config.format}" + (".gz" if config.gzip else ""))
        self._sink: Any = None
        self._letters = LettersFile(folder, layout.dead_letters(shard_id))
        self._left_out = LeftOutFile(folder, layout.duplicates(shard_id))
        self._rows = self._documents = self._reused = self._copied = 0
        self._tokens: list[int | None] = []
        self._dropped: list[int | None] = []
        self._mini_batches = self._retries = 0
        self._span = self._idle = 0.0
        self._trace = TraceFile(folder, shard_id) if config.trace else None
        self._started = time.time()
        self.discarded = False

    def add_rows(self, block: RowBlock) -> None:
        """Appends rows.

        Raises:
          ValueError: as record_batch.
        """
        if self._part is None:
            self._part = self._folder.create(self._part_name)
            self._sink = open_sink(self._config, self._part)
        self._sink.write(record_batch(self._config.schema, self._arrow, block))
        self._rows += len(block.vectors)
        self._documents += block.documents
        self._reused += block.reused
        self._copied += block.copied
        self._tokens.append(None if block.tokens is None else int(block.tokens.sum()))
        self._dropped.append(None if block.dropped is None else int(block.dropped.sum()))

    def add_letters(self, letters: DeadLetters) -> None:
        """Appends dead letters, in any order."""
        self._letters.add(letters)
        self._documents += len(letters.letters)

    def add_left_out(self, left_out: LeftOut) -> None:
        """Appends documents that are left out, in their order."""
        self._left_out.add(left_out.rows)
        self._documents += left_out.rows.num_rows

    def add_mini_batches(self, done: Sequence[MiniBatchDone]) -> None:
        """Takes what mini-batches cost, in their order."""
        self._mini_batches += len(done)
        self._retries += sum(one.retries for one in done)
        self._span += sum(one.span for one in done)
        self._idle += sum(one.idle for one in done)
        if self._trace is not None:
            self._trace.add(done)

    def commit(self, marker: EndOfShard) -> ShardReceipt:
        """Dead letters first, then the part, then the receipt: a shard with a receipt is whole.

        If another attempt has committed the shard in the meantime, its commit stands.

        Raises:
          LedgerError: documents read and documents written differ, or the folder is another job's by now.
        """
        if self._documents != marker.documents:
            raise LedgerError(
                f"shard {self.shard_id}: {marker.documents} documents read, {self._documents} written; "
                "nothing of it was committed"
            )
        if self._sink is not None:
            self._sink.close()
        check_owner(self._folder, self._config.job, self.shard_id)
        if committed := ledger.committed(self._folder, self.shard_id, self._config.job):
            self.discard()
            return committed
        letters, left_out, part = self._letters.in_order(), self._left_out.done(), self._part
        names = self._letters.name, self._left_out.name, self._part_name
        for pending, name in zip((letters, left_out, part), names, strict=True):
            if pending is not None:
                pending.commit()
            elif marker.attempt > 1:  # an earlier one may have left a file
                self._folder.delete(name)
        if self._trace is not None:
            self._trace.commit()
        elif marker.attempt > 1:
            self._folder.delete(layout.trace(self.shard_id))
        receipt = ShardReceipt(
            job=self._config.job,
            shard_id=self.shard_id,
            documents=self._documents,
            rows=self._rows,
            dead_letters=dict(sorted(self._letters.reasons.items())),
            tokens=ledger.total(self._tokens),
            tokens_dropped=ledger.total(self._dropped),
            part=self._part_name if part else None,
            part_bytes=part.bytes if part else 0,
            part_sha256=part.sha256() if part else None,
            dead_letters_sha256=letters.sha256() if letters else None,
            started=self._started,
            finished=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            attempt=marker.attempt,
            skipped=dict(sorted(marker.skipped.items())),
            mini_batches=self._mini_batches,
            retries=self._retries,
            model_span=round(self._span, 6),
            model_idle=round(self._idle, 6),
            reused=self._reused,
            copied=self._copied,
            left_out=self._left_out.count,
            left_out_sha256=left_out.sha256() if left_out else None,
        )
        receipt = ledger.write_receipt(self._folder, receipt)
        if self._trace is not None:
            self._trace.show()
        attempts.end(self._folder, self.shard_id, self._config.job, marker.attempt)
        return receipt

    def discard(self) -> None:
        self.discarded = True
        for pending in (self._part, self._letters, self._left_out, self._trace):
            if pending is not None:
                pending.discard()


def check_owner(folder: Folder, job: str, shard_id: str) -> None:
    """A worker that was thought dead may come late, when its folder was given to another job.

    Raises:
      LedgerError: the plan in the folder is not this job's.
    """
    owner = plan_file.job_of(folder)
    if owner != job:
        raise LedgerError(
            f"{folder.path}: the folder belongs to another job now ({owner or 'one without a plan'}, this is "
            f"{job}); nothing of shard {shard_id} was committed"
        )
