"""Rows and dead letters of a shard into files, committed together when the shard is whole."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from transforms.elements import DeadLetter, Embedding, EndOfShard, ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.observer import ShardDone, Written, tell
from transforms.output import attempts, layout
from transforms.output.folder import Folder, PendingFile
from transforms.output.schema import RowSchema

# Rows collected before they go to the sink as one block of arrays.
_BLOCK_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class WriteConfig:
    """What is written, and where.

    Attributes:
      output: the output folder.
      format: parquet or tfrecord.
      schema: the columns.
      metadata: key-value metadata of each Parquet file.
      gzip: whether TFRecord files are compressed.
    """

    output: str
    format: str
    schema: RowSchema
    metadata: Mapping[str, str]
    gzip: bool = False

    @property
    def extension(self) -> str:
        return layout.EXTENSIONS[self.format] + (".gz" if self.gzip else "")


def open_sink(config: WriteConfig, file: Any) -> Any:
    """The sink of the configured format, writing to a file."""
    if config.format == "parquet":
        from transforms.output.sinks.parquet import ParquetSink

        return ParquetSink(file, config.schema, dict(config.metadata))
    from transforms.output.sinks.tfrecord import TFRecordSink

    return TFRecordSink(file, config.schema, dict(config.metadata), gzip=config.gzip)


def kind_of(reason: str) -> str:
    """A dead letter's reason without its details, which stand behind a colon.

    >>> kind_of("not UTF-8: byte 0xff at 17")
    'not UTF-8'
    """
    return reason.partition(":")[0]


def letter_line(letter: DeadLetter) -> bytes:
    """A dead letter as a JSON line."""
    fields = ("doc_id", "source", "position", "stage", "reason", "payload")
    record = {name: getattr(letter, name) for name in fields}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _to_json(record: ShardReceipt | ShardFailed) -> bytes:
    text = json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


class ShardWriter:
    """Writes one shard; nothing of it is visible before `commit`."""

    def __init__(self, shard_id: str, folder: Folder, config: WriteConfig):
        self.shard_id = shard_id
        self._folder, self._config = folder, config
        self._part: PendingFile | None = None
        self._letters: PendingFile | None = None
        self._sink: Any = None
        self._block: list[Embedding] = []
        self._reasons: collections.Counter[str] = collections.Counter()
        self._rows = self._documents = 0
        self._tokens: int | None = 0
        self._dropped: int | None = 0
        self._started = time.time()

    def add_row(self, row: Embedding) -> None:
        self._block.append(row)
        self._rows += 1
        self._tokens = None if row.tokens is None or self._tokens is None else self._tokens + row.tokens
        dropped = row.tokens_dropped
        self._dropped = None if dropped is None or self._dropped is None else self._dropped + dropped
        self._documents += row.last
        if len(self._block) >= _BLOCK_ROWS:
            self._flush()

    def add_dead_letter(self, letter: DeadLetter) -> None:
        if self._letters is None:
            self._letters = self._folder.create(layout.dead_letters(self.shard_id))
        self._letters.file.write(letter_line(letter))
        self._reasons[kind_of(letter.reason)] += 1
        self._documents += 1

    def commit(self, marker: EndOfShard) -> ShardReceipt:
        """Dead letters first, then the part, then the receipt: a shard with a receipt is whole.

        If another attempt has committed the shard in the meantime, its commit stands.

        Raises:
          LedgerError: documents read and documents written differ.
        """
        if self._documents != marker.documents:
            raise LedgerError(
                f"shard {self.shard_id}: {marker.documents} documents read, {self._documents} written; "
                "nothing of it was committed"
            )
        committed = self._folder.read(layout.receipt(self.shard_id))
        if committed is not None:
            self.discard()
            return ShardReceipt(**json.loads(committed))
        self._flush()
        if self._sink is not None:
            self._sink.close()
        names = (layout.dead_letters(self.shard_id), layout.part(self.shard_id, self._config.extension))
        for name, pending in zip(names, (self._letters, self._part), strict=True):
            if pending is not None:
                pending.commit()
            else:
                self._folder.delete(name)  # an earlier attempt, under another model state, may have left one
        receipt = ShardReceipt(
            shard_id=self.shard_id,
            documents=self._documents,
            rows=self._rows,
            dead_letters=dict(sorted(self._reasons.items())),
            tokens=self._tokens,
            tokens_dropped=self._dropped,
            part=names[1] if self._part else None,
            part_bytes=self._part.file.bytes if self._part else 0,
            part_sha256=self._part.file.sha256() if self._part else None,
            dead_letters_sha256=self._letters.file.sha256() if self._letters else None,
            started=self._started,
            finished=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            attempt=marker.attempt,
        )
        self._folder.write(layout.receipt(self.shard_id), _to_json(receipt))
        attempts.end(self._folder, self.shard_id)
        self._folder.delete(layout.failure(self.shard_id))
        return receipt

    def discard(self) -> None:
        for pending in (self._part, self._letters):
            if pending is not None:
                pending.discard()

    def _flush(self) -> None:
        if not self._block:
            return
        if self._part is None:
            self._part = self._folder.create(layout.part(self.shard_id, self._config.extension))
            self._sink = open_sink(self._config, self._part.file)
        self._sink.write(self._block)
        self._block = []


class _WriteFn(beam.DoFn):
    """Writes shard after shard; commits each at its end-of-shard marker."""

    def __init__(self, config: WriteConfig):
        self._config = config

    def setup(self) -> None:
        self._folder = Folder(self._config.output)
        self._writer: ShardWriter | None = None

    def start_bundle(self) -> None:
        self._give_up()  # what a bundle that failed has left

    def process(self, element: Any) -> Iterator[ShardReceipt | ShardFailed]:
        if isinstance(element, Embedding):
            self._of(element.document.shard_id).add_row(element)
            tell(Written(int(element.last), 0))
        elif isinstance(element, DeadLetter):
            self._of(element.shard_id).add_dead_letter(element)
            tell(Written(1, 1))
        elif isinstance(element, EndOfShard):
            receipt = self._of(element.shard_id).commit(element)
            self._writer = None
            tell(ShardDone())
            yield receipt
        else:
            self._of(element.shard_id)
            self._give_up()
            # Not over the commit of another attempt, which could read the file.
            if self._folder.read(layout.receipt(element.shard_id)) is None:
                self._folder.write(layout.failure(element.shard_id), _to_json(element))
            attempts.end(self._folder, element.shard_id)
            tell(ShardDone(failed=True))
            yield element

    def finish_bundle(self) -> None:
        if self._writer is not None:
            shard_id = self._writer.shard_id
            self._give_up()
            raise LedgerError(f"shard {shard_id}: the bundle ended before its end-of-shard marker came")

    def teardown(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _of(self, shard_id: str) -> ShardWriter:
        if self._writer is None:
            self._writer = ShardWriter(shard_id, self._folder, self._config)
        elif self._writer.shard_id != shard_id:
            raise LedgerError(
                f"shard {shard_id} began before the end-of-shard marker of {self._writer.shard_id}"
            )
        return self._writer


@dataclasses.dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Embeddings and dead letters into part files; ShardReceipt (or ShardFailed) out."""

    config: WriteConfig

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | beam.ParDo(_WriteFn(self.config))
