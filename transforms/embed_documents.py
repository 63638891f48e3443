"""The job's core for people with a Beam pipeline of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms.blocks import BLOCK_BYTES, BLOCK_DOCUMENTS, DeadLetters, DocumentBlock, RowBlock
from transforms.elements import DeadLetter, Document, Element, Embedding, Origin
from transforms.encoder import policy
from transforms.encoder.config import ModelConfig
from transforms.encoder.model.handle import pin
from transforms.steps.chain import EmbedBlocks
from transforms.steps.chunk import select
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder
from transforms.steps.step import at_origin

DEAD_LETTERS = "dead_letters"


class _BlockFn(beam.DoFn):
    """Documents of a bundle into blocks, which remember their timestamps and windows."""

    def __init__(self, encoder: SharedEncoder):
        self._encoder = encoder

    def setup(self) -> None:
        # What a payload is may depend on the model: a row has the columns that it takes.
        self._robust = self._encoder.acquire()

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
        return map(at_origin, self._release())

    def _release(self) -> Iterator[Any]:
        held, first = self._held, self._index
        self._held, self._bytes, self._index = [], 0, first + len(held)
        if not held:
            return
        of = self._robust.encoder.modality
        payloads, refusals = of.decode({"payload": [origin.document.payload for origin in held]})
        columns = {
            "doc_id": pa.array([origin.document.doc_id for origin in held], pa.string()),
            "source": pa.repeat("", len(held)),
            "position": pa.repeat(0, len(held)),
            "index": pa.array(range(first, first + len(held)), pa.int64()),
            "payload": payloads,
        }
        if refusals:
            letters = []
            for i, why in refusals.items():
                shown, doc_id = of.shown(held[i].document.payload), held[i].document.doc_id
                letters.append(DeadLetter(doc_id, "", 0, "read", *why, shown, first + i, held[i]))
            yield DeadLetters("", tuple(letters))
        if good := [i for i in range(len(held)) if i not in refusals]:
            yield select(DocumentBlock("", pa.record_batch(columns), tuple(held)), good)


def as_document(element: Any) -> Document:
    """A Document as it is, or one made of a (doc_id, payload) pair.

    Raises:
      TypeError: the element is neither, or its id is no string.
    """
    document = Document(*element) if isinstance(element, tuple) and len(element) == 2 else element
    if not isinstance(document, Document):
        found = type(element).__name__
        raise TypeError(f"EmbedDocuments takes Document or (doc_id, text) elements, got {found}")
    if not isinstance(document.doc_id, str):
        found = type(document.doc_id).__name__
        raise TypeError(f"EmbedDocuments: doc_id {document.doc_id!r} is {found}, expected str")
    return document


def _embeddings(block: RowBlock) -> Iterator[Embedding]:
    """A block's rows, one by one."""
    columns = {"tokens": block.tokens, "tokens_dropped": block.dropped}
    columns |= {"chunk": block.chunk, "start": block.start, "end": block.end}
    origins = block.origins or ()
    for row, (origin, vector) in enumerate(zip(origins, block.vectors, strict=True)):
        numbers = {name: None if column is None else column[row].item() for name, column in columns.items()}
        last = row + 1 == len(origins) or origins[row + 1] is not origin
        yield Embedding(origin.document, vector, **numbers, last=last, origin=origin)


def _split(element: RowBlock | DeadLetters) -> Iterator[Any]:
    """Gives rows and dead letters back in the window of their document."""
    if isinstance(element, RowBlock):
        return map(at_origin, _embeddings(element))
    return (beam.pvalue.TaggedOutput(DEAD_LETTERS, at_origin(letter)) for letter in element.letters)


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
      model: TF Hub handle: a folder, a .tar.gz, a URL, `hf://`, `kaggle://`, or `minilm`.
      signature, model_output: which function of the model, and which of its outputs, where it has several.
      long_documents: mean, truncate or chunks (a row a chunk).
      chunk_overlap: tokens that a chunk repeats of the one before it.
      max_tokens: a window smaller than the one the model states, or that of a model that states none.
      batch_tokens: token budget of a mini-batch; the default suits a CPU.
      modality: what the payloads are.
      payload: how payloads become the model's input: options of `embed` by their names in Python, such as
        `{"image_range": "caffe"}`.
    """

    model: str
    signature: str | None = None
    model_output: str | None = None
    long_documents: str = "mean"
    chunk_overlap: int = 32
    max_tokens: int | None = None
    batch_tokens: int = policy.default_batch_tokens("CPU")
    modality: str = "text"
    payload: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.long_documents not in ("mean", "truncate", "chunks"):
            raise ValueError(f"long_documents={self.long_documents!r}: expected mean, truncate or chunks")
        if self.batch_tokens < 1 or self.chunk_overlap < 0:
            raise ValueError("batch_tokens must be at least 1, and chunk_overlap at least 0")

    def expand(self, documents: beam.PCollection) -> Any:
        encoder = SharedEncoder(
            ModelConfig(
                pin(self.model),
                self.signature,
                self.model_output,
                modality=self.modality,
                max_tokens=self.max_tokens,
                **self.payload,
            )
        )
        config = EmbedConfig(
            self.long_documents,
            self.chunk_overlap,
            self.max_tokens,
            self.batch_tokens,
        )
        return (
            documents
            | "Blocks" >> beam.ParDo(_BlockFn(encoder)).with_output_types(Element)
            | EmbedBlocks(encoder, config)
            | "Split" >> beam.FlatMap(_split).with_outputs(DEAD_LETTERS, main="embeddings")
        )
