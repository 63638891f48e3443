"""Rows and dead letters of a shard into files, committed together when the shard is whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms import observer
from transforms.blocks import DeadLetters, LeftOut, MiniBatches, RowBlock
from transforms.elements import Element, EndOfShard, ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.output import attempts, ledger
from transforms.output.folder import Folder
from transforms.output.shard import ShardWriter, WriteConfig, check_owner
from transforms.steps.behind import Behind

# Bytes of rows that may wait for the writing thread. A commit counts as half of it.
_MOST_WAITING = 16 << 20
_Committed = list[ShardReceipt | ShardFailed]


@dataclasses.dataclass(eq=False)
class _WriteFn(beam.DoFn):
    """Writes shard after shard, each committed at its end-of-shard marker.

    A thread encodes and commits while the chain goes on.
    """

    config: WriteConfig

    def setup(self) -> None:
        self._folder = Folder(self.config.output)
        self._writer: ShardWriter | None = None
        self._thread = ThreadPoolExecutor(1, "write")
        self._behind = Behind(self._thread, _MOST_WAITING)

    def start_bundle(self) -> None:
        self._give_up()  # what a bundle that failed has left

    def process(self, element: Any) -> Iterator[ShardReceipt | ShardFailed]:
        writer = self._of(element.shard_id)
        if isinstance(element, RowBlock):
            payloads = 0 if element.payloads is None else element.payloads.nbytes
            weight = element.vectors.nbytes + element.columns.nbytes + payloads
            yield from self._do(writer, lambda: writer.add_rows(element), weight)
            self._tell(observer.Written(element.documents, 0))
        elif isinstance(element, DeadLetters):
            yield from self._do(writer, lambda: writer.add_letters(element), element.weight)
            self._tell(observer.Written(len(element.letters), len(element.letters)))
        elif isinstance(element, LeftOut):
            yield from self._do(writer, lambda: writer.add_left_out(element), element.weight)
            self._tell(observer.Written(element.rows.num_rows, 0))
        elif isinstance(element, MiniBatches):
            yield from self._do(writer, lambda: writer.add_mini_batches(element.done), 1)
        else:
            end = self._commit if isinstance(element, EndOfShard) else self._fail
            done = self._do(writer, lambda: end(writer, element), _MOST_WAITING // 2)
            self._writer = None
            yield from done

    def finish_bundle(self) -> list[WindowedValue]:
        if self._writer is not None:
            shard_id = self._writer.shard_id
            self._give_up()
            raise LedgerError(f"shard {shard_id}: the bundle ended before its end-of-shard marker came")
        return [GlobalWindows.windowed_value(result) for result in self._behind.finish()]

    def teardown(self) -> None:
        self._give_up()
        self._thread.shutdown()

    def _do(self, writer: ShardWriter, work: Callable[[], Any], weight: int) -> Iterator[Any]:
        def unless_discarded() -> _Committed:
            if writer.discarded:  # what failed before was raised
                return []
            try:
                return work() or []
            except BaseException:
                writer.discard()
                raise

        return self._behind.do(unless_discarded, weight)

    def _commit(self, writer: ShardWriter, marker: EndOfShard) -> _Committed:
        receipt = writer.commit(marker)
        self._tell(observer.ShardDone())
        return [receipt]

    def _fail(self, writer: ShardWriter, failed: ShardFailed) -> _Committed:
        writer.discard()
        job = self.config.job
        check_owner(self._folder, job, failed.shard_id)
        ledger.write_failure(self._folder, failed, job)
        attempts.end(self._folder, failed.shard_id, job)
        self._tell(observer.ShardDone(failed=True))
        return [failed]

    def _tell(self, event: observer.Event) -> None:
        if self.config.heard:
            observer.tell(event)

    def _give_up(self) -> None:
        """Waits until the thread is idle, and forgets what it gave."""
        self._behind.drop()
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _of(self, shard_id: str) -> ShardWriter:
        if self._writer is None:
            self._writer = ShardWriter(shard_id, self._folder, self.config)
        elif self._writer.shard_id != shard_id:
            raise LedgerError(
                f"shard {shard_id} began before the end-of-shard marker of {self._writer.shard_id}"
            )
        return self._writer


@dataclasses.dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Row blocks and dead letters into part files; ShardReceipt (or ShardFailed) out."""

    config: WriteConfig

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | beam.ParDo(_WriteFn(self.config)).with_output_types(Element)
