"""Long texts into spans that fit the model's window."""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Count = Callable[[Sequence[str]], np.ndarray]
Span = tuple[int, int, int]  # start and end in characters, tokens

_WORD = re.compile(r"\S+")


# A long text is cut in blocks of so many characters: its words take fifty times the memory of the text.
_BLOCK = 500_000


def window_spans(
    texts: Sequence[str], *, window: int, overlap: int, count: Count, most: int | None = None
) -> list[np.ndarray]:
    """Cuts texts into spans that each fit the window, at white space where possible.

    All texts go through the tokenizer together, in a few calls.

    Args:
      window: most tokens of a span, special tokens included.
      overlap: tokens of the end of a span that the next one repeats.
      count: tokens of texts, special tokens included.
      most: how many spans of a text are wanted, at least; None means all.

    Returns:
      For each text int64 [spans, 3]: start, end (in characters) and tokens; they cover every word, in order.
    """
    if sum(map(len, texts)) <= _BLOCK:
        found = _window_spans(texts, window=window, overlap=overlap, count=count)
        return [np.array(spans, np.int64).reshape(-1, 3) for spans in found]
    return [_block_spans(text, window=window, overlap=overlap, count=count, most=most) for text in texts]


def _block_spans(text: str, *, window: int, overlap: int, count: Count, most: int | None) -> np.ndarray:
    """Cuts one text block by block; a block begins where the last span of the one before it did."""
    done = [np.empty((0, 3), np.int64)]
    start = 0
    while start < len(text) and (most is None or sum(map(len, done)) < most):
        end = min(start + _BLOCK, len(text))
        (spans,) = _window_spans([text[start:end]], window=window, overlap=overlap, count=count)
        if end < len(text) and len(spans) > 1:
            spans, end = spans[:-1], start + spans[-1][0]  # its last one may have been cut short
        done.append(np.array(spans, np.int64).reshape(-1, 3) + np.array([start, start, 0]))
        start = end
    return np.concatenate(done)


def _window_spans(texts: Sequence[str], *, window: int, overlap: int, count: Count) -> list[list[Span]]:
    special = int(count([""])[0])
    room = max(1, window - special)
    words = [(number, *word.span()) for number, text in enumerate(texts) for word in _WORD.finditer(text)]
    pieces = _fitting(texts, words, room, lambda some: np.maximum(count(some) - special, 0))
    packed = [
        (n, *span) for n, some in enumerate(pieces) for span in _packed(some, room, min(overlap, room // 2))
    ]
    # Words need not add up in every model: each span is counted as a whole, and halved if it is too long.
    return _fitting(texts, packed, window, count)


def _packed(pieces: Sequence[Span], room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Packs a text's pieces, in order, into spans of at most `room` tokens."""
    before = list(itertools.accumulate((tokens for _, _, tokens in pieces), initial=0))
    first = last = 0
    while last < len(pieces):
        last = max(first + 1, bisect.bisect_right(before, before[first] + room) - 1)
        yield pieces[first][0], pieces[last - 1][1]
        if last < len(pieces):
            # No more is repeated than leaves room for the next piece: else a span would hold nothing new.
            most = min(overlap, room - pieces[last][2])
            first = max(first + 1, min(last, bisect.bisect_left(before, before[last] - most)))


def _fitting(
    texts: Sequence[str], todo: list[tuple[int, int, int]], most: int, count: Count
) -> list[list[Span]]:
    """Counts spans of texts, and halves those of more than `most` tokens until they fit.

    Args:
      todo: number of the text, start and end of each.

    Returns:
      For each text its [(start, end, tokens)], sorted.
    """
    done: list[list[Span]] = [[] for _ in texts]
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
    """A cut near the middle: at a space if there is one, and not before a combining mark."""
    middle = (start + end) // 2
    space = text.rfind(" ", start + 1, middle + 1)
    if space > start:
        return space
    middle = max(middle, start + 1)
    for cut in itertools.chain(range(middle, end), range(middle - 1, start, -1)):
        if not unicodedata.category(text[cut]).startswith("M"):
            return cut
    return middle
