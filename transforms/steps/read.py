"""Shards into blocks of documents, each ended by a marker that tells how many came before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

from transforms.elements import Element, Shard
from transforms.output import attempts
from transforms.output.folder import Folder
from transforms.steps.shards import ReadConfig, read_shard


@dataclasses.dataclass(eq=False)
class _ReadFn(beam.DoFn):
    """A runner that repeats a bundle, or all of the job, repeats no committed shard."""

    config: ReadConfig

    def process(self, shard: Shard) -> Iterator[Element]:
        attempt: int | None = 1
        if self.config.output:
            attempt = attempts.begin(Folder(self.config.output), shard.shard_id, self.config.job)
        if attempt is not None:
            yield from read_shard(shard, self.config, attempt)


@dataclasses.dataclass(eq=False)
class ReadShards(beam.PTransform):
    """Shard -> DocumentBlock, DeadLetters and, last, EndOfShard or ShardFailed."""

    config: ReadConfig

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | beam.ParDo(_ReadFn(self.config)).with_output_types(Element)
