"""The job as one chain of steps."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.chain import EmbedBlocks
from transforms.steps.join import InFiles, JoinKnown
from transforms.steps.open import OpenShards
from transforms.steps.read import ReadConfig, ReadShards
from transforms.steps.reuse import FindKnown, ReuseConfig, TakeKnown, in_indexes
from transforms.steps.take_over import TakeOverShards
from transforms.steps.write import WriteConfig, WriteShards


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What each step is told."""

    read: ReadConfig
    embed: EmbedBlocks
    write: WriteConfig
    reuse: ReuseConfig | None = None


def build_pipeline(root: beam.Pipeline, config: PipelineConfig) -> beam.PCollection:
    """The way of the data; gives ShardReceipt and ShardFailed.

    After OpenShards everything is one fused chain: no document and no vector crosses a shuffle.
    """
    read, reuse = config.read, config.reuse
    shards = root | OpenShards(read, reuse)
    if reuse is not None:
        shards |= TakeOverShards(reuse, read.output, read.job)
        if reuse.joined:
            shards |= JoinKnown(read, reuse)
    rows = shards | ReadShards(read)
    if reuse is not None:
        rows |= FindKnown(reuse, InFiles(read.output, reuse) if reuse.joined else in_indexes)
    rows |= config.embed  # ChunkDocuments, OrderByLength, BatchByTokens, EmbedMiniBatches, MergeChunks
    if reuse is not None:
        rows |= TakeKnown(reuse)
    return rows | WriteShards(config.write)
