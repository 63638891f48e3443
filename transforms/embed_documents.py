"""The job's core for people with a Beam pipeline of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms import modality
from transforms.blocks import BLOCK_BYTES, BLOCK_DOCUMENTS, DeadLetters, DocumentBlock, RowBlock
from transforms.elements import DeadLetter, Document, Element, Embedding, Origin
from transforms.encoder import policy
from transforms.encoder.config import ModelConfig
from transforms.steps.chain import EmbedBlocks
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder
from transforms.steps.windowed import at_origin

DEAD_LETTERS = "dead_letters"


class _BlockFn(beam.DoFn):
    """Documents of a bundle into blocks, which remember their timestamps and windows."""

    def __init__(self, modality: str):
        self._modality = modality

    def start_bundle(self) -> None:
        self._held: list[Origin] = []
        self._bytes = self._index = 0

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        document = as_document(element)
        self._held.append(Origin(document, timestamp, window))
        self._bytes += len(document.payload) if hasattr(document.payload, "__len__") else 1
        if len(self._held) >= BLOCK_DOCUMENTS or self._bytes >= BLOCK_BYTES:
            yield from self._release()

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._release():
            yield at_origin(element)

    def _release(self) -> Iterator[Any]:
        held, first = self._held, self._index
        self._held, self._bytes, self._index = [], 0, first + len(held)
        if not held:
            return
        of = modality.get(self._modality)
        payloads, refusals = of.decode([origin.document.payload for origin in held], field="payload")
        good = [i for i in range(len(held)) if i not in refusals]
        if refusals:
            yield DeadLetters("", tuple(_refused(held[i], first + i, *why) for i, why in refusals.items()))
        if good:
            columns = pa.record_batch(
                {
                    "doc_id": pa.array([held[i].document.doc_id for i in good], pa.string()),
                    "source": pa.repeat("", len(good)),
                    "position": pa.repeat(0, len(good)),
                    "index": pa.array([first + i for i in good], pa.int64()),
                    "payload": payloads.take(pa.array(good)),
                }
            )
            yield DocumentBlock("", columns, tuple(held[i] for i in good))


def as_document(element: Any) -> Document:
    """A Document as it is, or one made of a (doc_id, payload) pair.

    Raises:
      TypeError: the element is neither.
    """
    if isinstance(element, Document):
        return element
    if isinstance(element, tuple) and len(element) == 2:
        return Document(*element)
    raise TypeError(f"EmbedDocuments takes Document or (doc_id, text) elements, got {type(element).__name__}")


def _refused(origin: Origin, index: int, kind: str, detail: str) -> DeadLetter:
    payload = origin.document.payload
    shown = payload if isinstance(payload, str) else repr(payload)
    return DeadLetter(origin.document.doc_id, "", 0, "read", kind, detail, shown, index, origin)


def _embeddings(block: RowBlock) -> Iterator[Embedding]:
    """A block's rows, one by one."""

    def value(column: Any, row: int) -> int | None:
        return None if column is None else int(column[row])

    origins = block.origins or ()
    for row, (origin, vector) in enumerate(zip(origins, block.vectors, strict=True)):
        yield Embedding(
            document=origin.document,
            vector=vector,
            tokens=value(block.tokens, row),
            tokens_dropped=value(block.dropped, row),
            chunk=value(block.chunk, row),
            start=value(block.start, row),
            end=value(block.end, row),
            last=origins[row + 1 : row + 2] != (origin,),
            origin=origin,
        )


class _SplitFn(beam.DoFn):
    """Gives rows and dead letters back in the window of their document."""

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, RowBlock):
            yield from map(at_origin, _embeddings(element))
        else:
            for letter in element.letters:
                yield beam.pvalue.TaggedOutput(DEAD_LETTERS, at_origin(letter))


@dataclasses.dataclass(eq=False)
class EmbedDocuments(beam.PTransform):
    """PCollection of documents in; PCollections of Embedding and of DeadLetter out.

    Elements are `Document(doc_id, payload)` or (doc_id, payload) pairs. Each comes back with the timestamp
    and the window it had. Mini-batches are formed within a bundle, so a batch pipeline should give large
    bundles.

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
        config = EmbedConfig(self.long_documents, self.chunk_overlap, self.max_tokens, self.batch_tokens)
        return (
            documents
            | "Blocks" >> beam.ParDo(_BlockFn(config.modality)).with_output_types(Element)
            | EmbedBlocks(encoder, config)
            | "Split" >> beam.ParDo(_SplitFn()).with_outputs(DEAD_LETTERS, main="embeddings")
        )
