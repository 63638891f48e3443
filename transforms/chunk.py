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


def window_spans(text: str, *, window: int, overlap: int, count: Count) -> list[tuple[int, int, int]]:
    """Cuts a text into spans that each fit the window, at white space where possible.

    Args:
      window: most tokens of a span, special tokens included.
      overlap: tokens of the end of a span that the next one repeats.
      count: tokens of texts, special tokens included.

    Returns:
      [(start, end, tokens)] in characters; the spans cover every word, in order.
    """
    special = int(count([""])[0])
    room = max(1, window - special)
    pieces = _pieces(text, room, lambda texts: np.maximum(count(texts) - special, 0))
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
        while back > first + 1 and repeated + pieces[back - 1][2] <= min(overlap, room // 2):
            back -= 1
            repeated += pieces[back][2]
        first = back
    return _verified(text, spans, window, count)


def _pieces(text: str, room: int, count: Count) -> list[tuple[int, int, int]]:
    """Words, those too long for the window cut into halves until they fit: [(start, end, tokens)]."""
    todo = [match.span() for match in _WORD.finditer(text)]
    done: list[tuple[int, int, int]] = []
    while todo:
        words = [text[start:end] for start, end in todo]
        unique = list(dict.fromkeys(words))
        tokens = dict(zip(unique, count(unique).tolist(), strict=True))
        halves: list[tuple[int, int]] = []
        for (start, end), word in zip(todo, words, strict=True):
            if tokens[word] <= room or end - start == 1:
                done.append((start, end, tokens[word]))
            else:
                middle = _character_boundary(text, start, end)
                halves += [(start, middle), (middle, end)]
        todo = halves
    return sorted(done)


def _character_boundary(text: str, start: int, end: int) -> int:
    """A cut near the middle that does not part a letter from its combining marks."""
    middle = (start + end) // 2
    for cut in range(middle, end):
        if not unicodedata.combining(text[cut]) and cut > start:
            return cut
    return max(middle, start + 1)


def _verified(
    text: str, spans: list[tuple[int, int]], window: int, count: Count
) -> list[tuple[int, int, int]]:
    """Counts every span as a whole and halves those over the window: words need not add up in every model."""
    done: list[tuple[int, int, int]] = []
    while spans:
        again: list[tuple[int, int]] = []
        for (start, end), tokens in zip(spans, count([text[s:e] for s, e in spans]).tolist(), strict=True):
            if tokens <= window or end - start == 1:
                done.append((start, end, tokens))
            else:
                space = text.rfind(" ", start + 1, (start + end) // 2 + 1)
                middle = space if space > start else _character_boundary(text, start, end)
                again += [(start, middle), (middle, end)]
        spans = again
    return sorted(done)


def chunk_document(document: Document, tokens: int, config: ChunkConfig, encoder: Encoder) -> list[Chunk]:
    """Cuts one document into its chunks.

    Args:
      tokens: the document's tokens, counted by the model or estimated.
    """
    text, exact = document.text, encoder.can_count
    window = encoder.max_tokens or config.max_tokens
    count = encoder.count_tokens if exact else estimate_tokens
    whole = (0, len(text), tokens)
    dropped = 0
    if window is None or tokens <= window:
        spans = [whole]
    else:
        spans = window_spans(text, window=window, overlap=config.overlap, count=count) or [whole]
        if config.mode == "truncate":
            start, end, kept = spans[0]
            if encoder.max_tokens:
                # The model truncates by itself, at a token: give it the words that overflow its window too.
                end = spans[1][1] if len(spans) > 1 else end
                start, kept = 0, window
            spans = [(start, end, kept)]
            dropped = tokens - kept
    return [
        Chunk(
            document=document,
            number=number,
            count=len(spans),
            start=start,
            end=end,
            text=text[start:end],
            tokens=span_tokens if exact else None,
            document_tokens=tokens if exact else None,
            dropped=dropped if exact else None,
            cost=max(1, min(span_tokens, config.batch_tokens)),
        )
        for number, (start, end, span_tokens) in enumerate(spans)
    ]


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
        for document, tokens in zip(held, self._tokens(held), strict=True):
            try:
                if isinstance(tokens, Exception):
                    raise tokens
                chunks = chunk_document(document, tokens, self._config, self._encoder)
            except Exception as e:  # a tokenizer may refuse a text; only that document is lost
                yield dead_letter(document, "chunk", f"the model cannot count its tokens: {first_line(e)}")
            else:
                yield from chunks

    def _tokens(self, documents: list[Document]) -> list[int | Exception]:
        texts = [document.text for document in documents]
        if not self._encoder.can_count:
            return estimate_tokens(texts).tolist()
        try:
            return self._encoder.count_tokens(texts).tolist()
        except Exception:  # one of them; each alone tells which
            return [self._count_one(text) for text in texts]

    def _count_one(self, text: str) -> int | Exception:
        try:
            return int(self._encoder.count_tokens([text])[0])
        except Exception as e:
            return e


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
