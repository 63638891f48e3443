"""Documents into chunks that fit the model's window."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from transforms.elements import Chunk, DeadLetter, Document, EndOfShard, ShardFailed
from transforms.encoder.hub import Encoder, first_line
from transforms.errors import ModelError
from transforms.modality.spans import Count, Span, window_spans
from transforms.observer import Chunked, tell
from transforms.steps.shared import SharedEncoder
from transforms.steps.windowed import at_origin

# Documents held back so that their tokens are counted in one call.
_HELD_DOCUMENTS = 512
_HELD_CHARACTERS = 2_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkConfig:
    """How long documents are treated.

    Attributes:
      mode: mean (merge the chunks' vectors), truncate (first window only) or chunks (a row each).
      overlap: tokens that a chunk shares with the one before it.
      max_tokens: the window in tokens where the model does not state one; None: unknown.
      batch_tokens: token budget of a mini-batch; no chunk costs more.
    """

    mode: str = "mean"
    overlap: int = 32
    max_tokens: int | None = None
    batch_tokens: int = 1000


def estimate_tokens(texts: Sequence[str]) -> np.ndarray:
    """Tokens of texts where the model cannot count: one for every four UTF-8 bytes, and two special ones.

    >>> estimate_tokens(["", "four", "a house"])
    array([2, 3, 4])
    """
    return np.array([2 + -(-len(text.encode()) // 4) for text in texts], dtype=np.int64)


def chunk_documents(
    documents: Sequence[Document], config: ChunkConfig, encoder: Encoder, count: Count
) -> Iterator[list[Chunk]]:
    """Yields the chunks of each document.

    Args:
      count: tokens of texts, counted by the model or estimated.
    """
    tokens = count([document.text for document in documents]).tolist()
    long = _cut_long(documents, tokens, config, encoder, count)
    for i, (document, total) in enumerate(zip(documents, tokens, strict=True)):
        spans = long.get(i) or [(0, len(document.text), total)]
        cut_off = i in long and config.mode == "truncate"
        dropped = max(0, total - spans[0][2]) if cut_off else 0
        yield [
            Chunk(
                document=document,
                number=number,
                count=len(spans),
                start=start,
                end=end,
                text=document.text[start:end],
                tokens=n if encoder.can_count else None,
                document_tokens=total if encoder.can_count else None,
                dropped=dropped if encoder.can_count else None,
                cost=max(1, min(n, config.batch_tokens)),
            )
            for number, (start, end, n) in enumerate(spans)
        ]


def _cut_long(
    documents: Sequence[Document], tokens: Sequence[int], config: ChunkConfig, encoder: Encoder, count: Count
) -> dict[int, list[Span]]:
    """The spans of the documents that are longer than the window, by their number."""
    stated = [n for n in (encoder.max_tokens, config.max_tokens) if n is not None]
    if not stated:
        return {}
    window = min(stated)
    long = [i for i, n in enumerate(tokens) if n > window]
    if not long:
        return {}
    texts = [documents[i].text for i in long]
    most = 2 if config.mode == "truncate" else None
    spans = window_spans(texts, window=window, overlap=config.overlap, count=count, most=most)
    if config.mode == "truncate":
        spans = [of_text[:2] for of_text in spans]
    if config.mode == "truncate" and encoder.max_tokens == window:
        spans = _to_the_brim(texts, spans, window, count)
    return dict(zip(long, (s[:1] if config.mode == "truncate" else s for s in spans), strict=True))


def _to_the_brim(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], window: int, count: Count
) -> list[list[Span]]:
    """First windows for a model that cuts by itself, between any two tokens.

    It gets the words beyond its window too, and so embeds exactly as many tokens as it can.
    """
    ends = [of_text[-1][1] for of_text in spans]
    tokens = count([text[:end] for text, end in zip(texts, ends, strict=True)]).tolist()
    return [[(0, end, min(window, n))] for end, n in zip(ends, tokens, strict=True)]


class _ChunkFn(beam.DoFn):
    """Holds a few hundred documents back, counts their tokens in one call and passes their chunks on."""

    def __init__(self, encoder: SharedEncoder, config: ChunkConfig):
        self._shared = encoder
        self._config = config

    def setup(self) -> None:
        # The whole of what is shared: Beam forgets it as soon as nobody holds it, and loads it anew.
        self._robust = self._shared.acquire()
        self._encoder = self._robust.encoder

    def start_bundle(self) -> None:
        self._held: list[Document] = []
        self._characters = 0

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, (EndOfShard, ShardFailed)):
            yield from self._release()
            yield element
        elif isinstance(element, Document):
            self._held.append(element)
            self._characters += len(element.text)
            if len(self._held) >= _HELD_DOCUMENTS or self._characters >= _HELD_CHARACTERS:
                yield from self._release()
        else:
            yield element

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._release():
            yield at_origin(element)

    def _release(self) -> Iterator[Chunk | DeadLetter]:
        held, self._held, self._characters = self._held, [], 0
        if not held:
            return
        try:
            yield from self._chunks(held)
        except _Refused:  # one of them; each alone tells which
            for document in held:
                yield from self._chunks_alone(document)

    def _chunks_alone(self, document: Document) -> Iterator[Chunk | DeadLetter]:
        try:
            yield from self._chunks([document])
        except _Refused as e:
            try:
                self._count([self._encoder.sample])
            except _Refused:
                raise ModelError(f"the model no longer counts tokens: {e}") from e
            yield dead_letter(document, "chunk", f"the model cannot count its tokens: {e}")

    def _chunks(self, documents: list[Document]) -> list[Chunk]:
        of_documents = chunk_documents(documents, self._config, self._encoder, self._count)
        chunks = [chunk for of_document in of_documents for chunk in of_document]
        tell(Chunked(len(chunks), sum(chunk.cost for chunk in chunks)))
        return chunks

    def _count(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return self._encoder.count_tokens(texts) if self._encoder.can_count else estimate_tokens(texts)
        except Exception as e:  # a tokenizer may raise anything for a text
            raise _Refused(first_line(e)) from e


class _Refused(Exception):
    """The model's tokenizer raised."""


def dead_letter(document: Document, stage: str, reason: str) -> DeadLetter:
    """A dead letter for a document that was read, with its text as the payload."""
    return DeadLetter(
        doc_id=document.doc_id,
        source=document.source,
        position=document.position,
        stage=stage,
        reason=reason,
        payload=document.text,
        index=document.index,
        shard_id=document.shard_id,
        origin=document.origin,
    )


@dataclasses.dataclass(eq=False)
class ChunkDocuments(beam.PTransform):
    """Document -> Chunk; dead letters and end-of-shard markers pass."""

    encoder: SharedEncoder
    config: ChunkConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_ChunkFn(self.encoder, self.config))
