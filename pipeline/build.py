"""The job as one chain of steps."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.chain import EmbedBlocks
from transforms.steps.open import OpenShards
from transforms.steps.read import ReadConfig, ReadShards
from transforms.steps.reuse import FindKnown, ReuseConfig, TakeKnown
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
    rows = root | OpenShards(config.read) | ReadShards(config.read)
    if config.reuse is not None:
        rows |= FindKnown(config.reuse)
    rows |= config.embed  # ChunkDocuments, OrderByLength, BatchByTokens, EmbedMiniBatches, MergeChunks
    if config.reuse is not None:
        rows |= TakeKnown(config.reuse)
    return rows | WriteShards(config.write)
