"""The job as one chain of steps."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.chain import EmbedBlocks
from transforms.steps.open import OpenShards
from transforms.steps.read import ReadConfig, ReadShards
from transforms.steps.write import WriteConfig, WriteShards


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What each step is told."""

    read: ReadConfig
    embed: EmbedBlocks
    write: WriteConfig


def build_pipeline(root: beam.Pipeline, config: PipelineConfig) -> beam.PCollection:
    """The way of the data; gives ShardReceipt and ShardFailed.

    After OpenShards everything is one fused chain: no document and no vector crosses a shuffle.
    """
    return (
        root
        | OpenShards(config.read)
        | ReadShards(config.read)
        | config.embed  # ChunkDocuments, OrderByLength, BatchByTokens, EmbedMiniBatches, MergeChunks
        | WriteShards(config.write)
    )
