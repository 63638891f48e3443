"""The chain from documents to vectors, which the job and `EmbedDocuments` share."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps.batch import BatchByTokens, OrderByLength
from transforms.steps.chunk import ChunkDocuments
from transforms.steps.config import EmbedConfig
from transforms.steps.embed import EmbedMiniBatches
from transforms.steps.encoder import SharedEncoder
from transforms.steps.merge import MergeChunks


@dataclasses.dataclass(eq=False)
class EmbedBlocks(beam.PTransform):
    """DocumentBlock -> RowBlock and DeadLetters; end-of-shard markers pass, after all of their shard."""

    encoder: SharedEncoder
    config: EmbedConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return (
            documents
            | ChunkDocuments(self.encoder, self.config)
            | OrderByLength(self.config.batch_tokens, self.config.window_chunks)
            | BatchByTokens(self.config.batch_tokens)
            | EmbedMiniBatches(self.encoder, self.config)
            | MergeChunks(self.encoder, self.config)
        )
