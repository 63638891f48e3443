"""The job as one chain of steps."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.chain import EmbedBlocks
from transforms.steps.copies import CopiesConfig, KeepFirst, MarkCopies, ShardsWithCopies
from transforms.steps.find_copies import FindCopies
from transforms.steps.join import InFiles, JoinKnown
from transforms.steps.open import OpenShards
from transforms.steps.read import ReadShards
from transforms.steps.reuse import FindKnown, ReuseConfig, TakeKnown, in_indexes
from transforms.steps.shards import ReadConfig
from transforms.steps.take_over import TakeOverShards
from transforms.steps.write import WriteConfig, WriteShards


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What each step is told.

    Attributes:
      copies: what becomes of documents that are said more than once; None: each is embedded.
      find_copies: into how many groups the runner puts fingerprints to find these; 0: they are known.
      shared: the job that embeds those of them that are shared, before all others.
    """

    read: ReadConfig
    embed: EmbedBlocks
    write: WriteConfig
    reuse: ReuseConfig | None = None
    copies: CopiesConfig | None = None
    find_copies: int = 0
    shared: PipelineConfig | None = None


def build_pipeline(root: beam.Pipeline, config: PipelineConfig) -> beam.PCollection:
    """The way of the data; gives ShardReceipt and ShardFailed.

    After OpenShards everything is one fused chain: no document and no vector crosses a shuffle.
    """
    before = None
    if config.copies is not None and config.find_copies:
        before = root | FindCopies(config.read, config.find_copies, config.copies.keep_first)
    if config.shared is not None:
        before = root | EmbedShared(config.shared, before)
    shards = root | OpenShards(config.read, config.reuse, before)
    if config.reuse is not None:
        shards |= TakeOverShards(config.reuse, config.read.output, config.read.job)
    return embed_shards(shards, config, MarkCopies, before)


def embed_shards(
    shards: beam.PCollection,
    config: PipelineConfig,
    pick: type[MarkCopies] | type[KeepFirst],
    before: beam.PCollection | None,
) -> beam.PCollection:
    """Shard -> ShardReceipt and ShardFailed.

    Args:
      pick: what becomes of documents that have copies.
      before: what must be done before the earlier outputs are looked at.
    """
    read, reuse = config.read, config.reuse
    if reuse is not None and reuse.joined:
        shards |= JoinKnown(read, reuse, before)
    rows = shards | ReadShards(read)
    if config.copies is not None:
        rows |= pick(config.copies)
    if reuse is not None:
        rows |= FindKnown(reuse, InFiles(read.output, reuse) if reuse.joined else in_indexes)
    rows |= config.embed  # ChunkDocuments, OrderByLength, BatchByTokens, EmbedMiniBatches, MergeChunks
    if reuse is not None:
        rows |= TakeKnown(reuse)
    return rows | WriteShards(config.write)


@dataclasses.dataclass(eq=False)
class EmbedShared(beam.PTransform):
    """The same for documents that have copies, into an output of its own."""

    config: PipelineConfig
    before: beam.PCollection | None

    def expand(self, root: beam.Pipeline) -> beam.PCollection:
        config = self.config
        assert config.copies is not None
        shards = root | OpenShards(config.read, None, self.before) | ShardsWithCopies(config.copies)
        return embed_shards(shards, config, KeepFirst, self.before)
