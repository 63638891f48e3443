"""The job as one chain of steps."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.batch import BatchByTokens, OrderByLength
from transforms.steps.chunk import ChunkConfig, ChunkDocuments
from transforms.steps.embed import EmbedMiniBatches
from transforms.steps.merge import MergeChunks
from transforms.steps.read import OpenShards, ReadConfig, ReadShards
from transforms.steps.shared import SharedEncoder
from transforms.steps.write import WriteConfig, WriteShards


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What each step is told."""

    read: ReadConfig
    chunk: ChunkConfig
    encoder: SharedEncoder
    write: WriteConfig
    window_chunks: int


def build_pipeline(root: beam.Pipeline, config: PipelineConfig) -> beam.PCollection:
    """The way of the data; gives ShardReceipt and ShardFailed.

    After OpenShards everything is one fused chain: no document and no vector crosses a shuffle.
    """
    return (
        root
        | OpenShards(config.write.output)
        | ReadShards(config.read)
        | ChunkDocuments(config.encoder, config.chunk)
        | OrderByLength(config.window_chunks)
        | BatchByTokens(config.chunk.batch_tokens)
        | EmbedMiniBatches(config.encoder, config.write.schema.vector_dtype)
        | MergeChunks(config.chunk.mode)
        | WriteShards(config.write)
    )
