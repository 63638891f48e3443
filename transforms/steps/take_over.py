"""Shards whose input is the very same as in an earlier output: their parts taken over whole, not decoded."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Iterator

import apache_beam as beam

from transforms import observer
from transforms.elements import Shard, ShardReceipt
from transforms.output import attempts, layout, ledger
from transforms.output.folder import Folder
from transforms.output.shard import check_owner
from transforms.steps.reuse import Previous, ReuseConfig, previous


def take_over(shard: Shard, earlier: Previous, folder: Folder, job: str) -> ShardReceipt | None:
    """Commits a shard with the part file that the earlier output has of it.

    Returns:
      Its receipt; None where the part is damaged, or documents died or were forgotten: it is read anew.

    Raises:
      LedgerError: the folder is another job's by now.
    """
    found = earlier.receipt(int(shard.shard_id, 16))
    if found is None or found.part is None or found.dead_letters or found.forgotten:
        return None
    started = time.time()
    if attempts.read(folder, shard.shard_id, job):  # of a run that did not take it over
        folder.delete(layout.dead_letters(shard.shard_id))
    check_owner(folder, job, shard.shard_id)
    folder.take_over(earlier.output.folder.join(found.part), found.part)
    receipt = dataclasses.replace(
        found,
        job=job,
        started=started,
        finished=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        attempt=1,
        mini_batches=0,
        retries=0,
        model_span=0.0,
        model_idle=0.0,
        reused=found.documents,
        written_by=found.written_by or found.job,
    )
    return ledger.write_receipt(folder, receipt)


class _TakeOverFn(beam.DoFn):
    def __init__(self, config: ReuseConfig, output: str, job: str):
        self._config, self._output, self._job = config, output, job

    def process(self, shard: Shard) -> Iterator[Shard]:
        if shard.same_in is None:
            yield shard
            return
        one = self._config.outputs[shard.same_in]
        receipt = take_over(shard, previous(one.path, one.job), Folder(self._output), self._job)
        if receipt is None:
            yield shard
            return
        observer.tell(observer.Read(receipt.documents, shard.bytes))
        observer.tell(observer.Written(receipt.documents, 0))
        observer.tell(observer.ShardDone())


@dataclasses.dataclass(eq=False)
class TakeOverShards(beam.PTransform):
    """Shard -> Shard; those that an earlier output has as they are get committed and go no further."""

    config: ReuseConfig
    output: str
    job: str

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        take = _TakeOverFn(self.config, self.output, self.job)
        return shards | beam.ParDo(take).with_output_types(Shard)
