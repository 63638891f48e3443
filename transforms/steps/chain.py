"""The chain from documents to vectors, which the job and `EmbedDocuments` share."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from transforms.steps import coder as _  # noqa: F401  registers how elements are encoded
from transforms.steps.batch import WINDOW_CHUNKS, BatchByTokens, OrderByLength
from transforms.steps.chunk import ChunkConfig, ChunkDocuments
from transforms.steps.embed import EmbedMiniBatches
from transforms.steps.encoder import SharedEncoder
from transforms.steps.merge import MergeChunks, MergeConfig


@dataclasses.dataclass(eq=False)
class EmbedBlocks(beam.PTransform):
    """DocumentBlock -> RowBlock and DeadLetters; end-of-shard markers pass, after all of their shard.

    Attributes:
      vector_dtype: float32 or float16; what a float16 cannot hold is a dead letter.
      keep_payload: whether the rows carry what was embedded.
      window_chunks: chunks that are sorted together.
    """

    encoder: SharedEncoder
    chunk: ChunkConfig
    vector_dtype: str = "float32"
    keep_payload: bool = False
    window_chunks: int = WINDOW_CHUNKS

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return (
            documents
            | ChunkDocuments(self.encoder, self.chunk)
            | OrderByLength(self.chunk.batch_tokens, self.window_chunks)
            | BatchByTokens(self.chunk.batch_tokens)
            | EmbedMiniBatches(self.encoder, self.vector_dtype)
            | MergeChunks(self.encoder, MergeConfig(self.chunk.mode, self.keep_payload, self.chunk.modality))
        )
