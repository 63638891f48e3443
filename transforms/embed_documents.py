"""The job's core for people with a Beam pipeline of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from transforms.elements import DeadLetter, Document
from transforms.encoder import policy
from transforms.encoder.hub import ModelConfig
from transforms.steps.batch import BatchByTokens, OrderByLength
from transforms.steps.chunk import ChunkConfig, ChunkDocuments, dead_letter
from transforms.steps.embed import EmbedMiniBatches
from transforms.steps.merge import MergeChunks
from transforms.steps.shared import SharedEncoder
from transforms.steps.windowed import at_origin

DEAD_LETTERS = "dead_letters"


class _TagOriginFn(beam.DoFn):
    """Numbers the documents of a bundle and remembers the timestamp and window they came with."""

    def start_bundle(self) -> None:
        self._index = 0

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Document | DeadLetter]:
        document = dataclasses.replace(as_document(element), index=self._index, origin=(timestamp, window))
        self._index += 1
        if not isinstance(document.text, str):
            yield _refused(document, f"the text is {type(document.text).__name__}, expected a string")
        elif not document.text.strip():
            yield _refused(document, "blank text")
        else:
            yield document


def as_document(element: Any) -> Document:
    """A Document as it is, or one made of a (doc_id, text) pair.

    Raises:
      TypeError: the element is neither.
    """
    if isinstance(element, Document):
        return element
    if isinstance(element, tuple) and len(element) == 2:
        return Document(*element)
    raise TypeError(f"EmbedDocuments takes Document or (doc_id, text) elements, got {type(element).__name__}")


def _refused(document: Document, reason: str) -> DeadLetter:
    payload = document.text if isinstance(document.text, str) else repr(document.text)
    return dataclasses.replace(dead_letter(document, "read", reason), payload=payload)


class _SplitFn(beam.DoFn):
    """Gives rows and dead letters back in the window of their document."""

    def process(self, element: Any) -> Iterator[Any]:
        result = at_origin(element)
        yield beam.pvalue.TaggedOutput(DEAD_LETTERS, result) if isinstance(element, DeadLetter) else result


@dataclasses.dataclass(eq=False)
class EmbedDocuments(beam.PTransform):
    """PCollection of documents in; PCollections of Embedding and of DeadLetter out.

    Elements are `Document(doc_id, text)` or (doc_id, text) pairs. Each comes back with the timestamp and the
    window it had. Mini-batches are formed within a bundle, so a batch pipeline should give large bundles.

        result = documents | EmbedDocuments("https://tfhub.dev/google/universal-sentence-encoder/4")
        result.embeddings | ...      # Embedding: doc_id, vector float32 [dim], tokens, tokens_dropped
        result.dead_letters | ...    # DeadLetter: doc_id, stage, reason, payload

    Attributes:
      model: TF Hub handle: a folder, a .tar.gz, a URL, or `minilm`.
      signature, model_output: which function of the model, and which of its outputs, where it has several.
      long_documents: mean, truncate or chunks (a row a chunk).
      chunk_overlap: tokens that a chunk repeats of the one before it.
      max_tokens: a window smaller than the one the model states, or that of a model that states none.
      batch_tokens: token budget of a mini-batch; the default suits a CPU.
    """

    model: str
    signature: str | None = None
    model_output: str | None = None
    long_documents: str = "mean"
    chunk_overlap: int = 32
    max_tokens: int | None = None
    batch_tokens: int = policy.default_batch_tokens("CPU")

    def __post_init__(self) -> None:
        if self.long_documents not in ("mean", "truncate", "chunks"):
            raise ValueError(f"long_documents={self.long_documents!r}: expected mean, truncate or chunks")
        if self.batch_tokens < 1 or self.chunk_overlap < 0:
            raise ValueError("batch_tokens must be at least 1, and chunk_overlap at least 0")

    def expand(self, documents: beam.PCollection) -> Any:
        encoder = SharedEncoder(ModelConfig(self.model, self.signature, self.model_output))
        config = ChunkConfig(self.long_documents, self.chunk_overlap, self.max_tokens, self.batch_tokens)
        outputs = (
            documents
            | "Tag" >> beam.ParDo(_TagOriginFn())
            | ChunkDocuments(encoder, config)
            | OrderByLength()
            | BatchByTokens(self.batch_tokens)
            | EmbedMiniBatches(encoder)
            | MergeChunks(self.long_documents, ordered=False)
            | "Split" >> beam.ParDo(_SplitFn()).with_outputs(DEAD_LETTERS, main="embeddings")
        )
        return outputs
