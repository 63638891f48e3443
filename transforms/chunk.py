"""Documents into chunks that fit the model's window."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from transforms.elements import Chunk, DeadLetter, Document, EndOfShard, ShardFailed
from transforms.encoder.encoder import Encoder, first_line
from transforms.encoder.shared import SharedEncoder
from transforms.windowed import at_origin

Count = Callable[[Sequence[str]], np.ndarray]

_WORD = re.compile(r"\S+")
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


def window_spans(
    texts: Sequence[str], *, window: int, overlap: int, count: Count
) -> list[list[tuple[int, int, int]]]:
    """Cuts texts into spans that each fit the window, at white space where possible.

    All texts go through the tokenizer together, in a few calls.

    Args:
      window: most tokens of a span, special tokens included.
      overlap: tokens of the end of a span that the next one repeats.
      count: tokens of texts, special tokens included.

    Returns:
      For each text [(start, end, tokens)], in characters; the spans cover every word, in order.
    """
    special = int(count([""])[0])
    room = max(1, window - special)
    words = [match.span() for text in texts for match in _WORD.finditer(text)]
    owners = [number for number, text in enumerate(texts) for _ in _WORD.finditer(text)]
    pieces = _fitting(texts, owners, words, room, lambda some: np.maximum(count(some) - special, 0))
    packed = [_packed(of_text, room, min(overlap, room // 2)) for of_text in pieces]
    owners = [number for number, spans in enumerate(packed) for _ in spans]
    # Words need not add up in every model: each span is counted as a whole, and halved if it is too long.
    return _fitting(texts, owners, [span for spans in packed for span in spans], window, count)


def _packed(pieces: Sequence[tuple[int, int, int]], room: int, overlap: int) -> list[tuple[int, int]]:
    """Packs a text's pieces, in order, into spans of at most `room` tokens."""
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(pieces):
        last, total = first, 0
        while last < len(pieces) and (last == first or total + pieces[last][2] <= room):
            total += pieces[last][2]
            last += 1
        spans.append((pieces[first][0], pieces[last - 1][1]))
        if last == len(pieces):
            break
        back, repeated = last, 0
        while back > first + 1 and repeated + pieces[back - 1][2] <= overlap:
            back -= 1
            repeated += pieces[back][2]
        first = back
    return spans


def _fitting(
    texts: Sequence[str], owners: Sequence[int], spans: Sequence[tuple[int, int]], most: int, count: Count
) -> list[list[tuple[int, int, int]]]:
    """Counts spans of texts, and halves those of more than `most` tokens until they fit.

    Returns:
      For each text its [(start, end, tokens)], sorted.
    """
    done: list[list[tuple[int, int, int]]] = [[] for _ in texts]
    todo = [(owner, start, end) for owner, (start, end) in zip(owners, spans, strict=True)]
    while todo:
        contents = [texts[owner][start:end] for owner, start, end in todo]
        unique = list(dict.fromkeys(contents))
        tokens = dict(zip(unique, count(unique).tolist(), strict=True))
        halves = []
        for (owner, start, end), content in zip(todo, contents, strict=True):
            if tokens[content] <= most or end - start == 1:
                done[owner].append((start, end, tokens[content]))
            else:
                middle = _cut(texts[owner], start, end)
                halves += [(owner, start, middle), (owner, middle, end)]
        todo = halves
    return [sorted(of_text) for of_text in done]


def _cut(text: str, start: int, end: int) -> int:
    """A cut near the middle: at a space if there is one, never before a combining mark if it can be helped."""
    middle = (start + end) // 2
    space = text.rfind(" ", start + 1, middle + 1)
    if space > start:
        return space
    for cut in range(max(middle, start + 1), end):
        if not unicodedata.combining(text[cut]):
            return cut
    return max(middle, start + 1)


def chunk_documents(
    documents: Sequence[Document], tokens: Sequence[int], config: ChunkConfig, encoder: Encoder
) -> Iterator[list[Chunk]]:
    """Yields the chunks of each document.

    Args:
      tokens: each document's tokens, counted by the model or estimated.
    """
    window = encoder.max_tokens or config.max_tokens
    count = encoder.count_tokens if encoder.can_count else estimate_tokens
    long = [i for i, n in enumerate(tokens) if window is not None and n > window]
    spans: dict[int, list[tuple[int, int, int]]] = {}
    if long and window is not None:
        texts = [documents[i].text for i in long]
        cut = window_spans(texts, window=window, overlap=config.overlap, count=count)
        spans = dict(zip(long, cut, strict=True))
    for i, (document, total) in enumerate(zip(documents, tokens, strict=True)):
        chosen, dropped = spans.get(i) or [(0, len(document.text), total)], 0
        if i in spans and config.mode == "truncate":
            chosen = [_first_window(chosen, window or total, own=encoder.max_tokens is not None)]
            dropped = total - chosen[0][2]
        yield [
            Chunk(
                document=document,
                number=number,
                count=len(chosen),
                start=start,
                end=end,
                text=document.text[start:end],
                tokens=n if encoder.can_count else None,
                document_tokens=total if encoder.can_count else None,
                dropped=dropped if encoder.can_count else None,
                cost=max(1, min(n, config.batch_tokens)),
            )
            for number, (start, end, n) in enumerate(chosen)
        ]


def _first_window(spans: Sequence[tuple[int, int, int]], window: int, *, own: bool) -> tuple[int, int, int]:
    """The first window of a long text.

    A model with a window of its own cuts by itself, between any two tokens: it gets the words beyond its window
    too, and so embeds exactly as many tokens as it can.
    """
    if own and len(spans) > 1:
        return 0, spans[1][1], window
    return spans[0]


class _ChunkFn(beam.DoFn):
    """Holds a few hundred documents back, counts their tokens in one call and passes their chunks on."""

    def __init__(self, encoder: SharedEncoder, config: ChunkConfig):
        self._shared = encoder
        self._config = config

    def setup(self) -> None:
        self._encoder = self._shared.acquire().encoder

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
                try:
                    yield from self._chunks([document])
                except _Refused as e:
                    yield dead_letter(document, "chunk", f"the model cannot count its tokens: {e}")

    def _chunks(self, documents: list[Document]) -> list[Chunk]:
        count = self._encoder.count_tokens if self._encoder.can_count else estimate_tokens
        try:
            tokens = count([document.text for document in documents]).tolist()
            chunks = chunk_documents(documents, tokens, self._config, self._encoder)
            return [chunk for of_document in chunks for chunk in of_document]
        except Exception as e:  # a tokenizer may refuse a text; only that document is lost
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
