"""In which order the rows of an epoch are read: pure arithmetic on the numbers of rows of the parts."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from transforms.errors import UsageError

PARTS_PER_SHARE = 4


class Piece(NamedTuple):
    """Rows of a part that follow each other: [low, high)."""

    part: int
    low: int
    high: int


def share(parts: Sequence[int], index: int, count: int) -> list[Piece]:
    """What one of several workers reads: each row is read by exactly one of them.

    Whole parts where there are at least PARTS_PER_SHARE for each, else rows that follow each other, as many
    for each worker, but for one.

    Args:
      parts: rows of each part.

    Raises:
      UsageError: there is no such worker.

    >>> share([10, 10], 1, 2)
    [Piece(part=1, low=0, high=10)]
    >>> share([10, 10], 1, 4)
    [Piece(part=0, low=5, high=10)]
    """
    check_share(index, count)
    if len(parts) >= PARTS_PER_SHARE * count:
        return [Piece(i, 0, rows) for i, rows in enumerate(parts) if i % count == index and rows]
    total = sum(parts)
    low, high = total * index // count, total * (index + 1) // count
    ends = list(itertools.accumulate(parts))
    pieces = (
        Piece(i, max(low - (end - rows), 0), min(high - (end - rows), rows))
        for i, (rows, end) in enumerate(zip(parts, ends, strict=True))
    )
    return [piece for piece in pieces if piece.low < piece.high]


def done_of(counts: Sequence[int], first: int) -> tuple[int, list[int]]:
    """Where items are taken from workers in turns, those that have no more being passed over.

    Args:
      counts: items of each worker.
      first: how many items were taken.

    Returns:
      Whose turn it is, and how many items were taken from each.

    >>> done_of([1, 3, 2], 4)  # of 0, 1, 2, 1, 2, 1
    (2, [1, 2, 1])
    """
    rounds = range(max(counts) + 1)
    whole = bisect.bisect_right(rounds, first, key=lambda n: sum(min(n, own) for own in counts)) - 1
    left = first - sum(min(whole, own) for own in counts)
    more = [worker for worker, own in enumerate(counts) if own > whole]
    turn = more[left] if more else 0
    return turn, [min(own, whole + (worker < turn)) for worker, own in enumerate(counts)]


def check_share(index: int, count: int) -> None:
    if not 0 <= index < count:
        raise UsageError(f"shard=({index}, {count}): expected (index, count) with 0 <= index < count")


def interleaved(pieces: Sequence[Piece], *, streams: int, rows: int) -> Iterator[Piece]:
    """Pieces cut into so many rows; those of so many pieces at a time come in turns.

    >>> pieces = [Piece(0, 0, 4), Piece(1, 0, 2), Piece(2, 0, 2)]
    >>> [(p.part, p.low) for p in interleaved(pieces, streams=2, rows=2)]
    [(0, 0), (1, 0), (0, 2), (2, 0)]
    """
    left = iter(pieces)
    active = list(itertools.islice(left, streams))
    while active:
        following = []
        for part, low, high in active:
            yield Piece(part, low, min(low + rows, high))
            rest = Piece(part, low + rows, high) if low + rows < high else next(left, None)
            if rest is not None:
                following.append(rest)
        active = following


def from_row(pieces: Iterator[Piece], first: int) -> Iterator[Piece]:
    """What is left after so many rows."""
    for part, low, high in pieces:
        skipped = min(first, high - low)
        first -= skipped
        if low + skipped < high:
            yield Piece(part, low + skipped, high)


def permuted(pieces: list[Piece], random: np.random.Generator) -> list[Piece]:
    """The pieces in an order of chance."""
    return [pieces[i] for i in random.permutation(len(pieces))]


def around(parts: Sequence[int], places: np.ndarray, gap: int) -> tuple[list[Piece], np.ndarray]:
    """Pieces that have the rows at some places, and few others.

    Args:
      places: int64 [n], n > 0, counted over all parts, ascending.
      gap: between rows of a piece that follow each other there are fewer.

    Returns:
      The pieces, and int64 [n]: the places in their rows.

    >>> around([10, 10], np.array([1, 3, 15]), 3)
    ([Piece(part=0, low=1, high=4), Piece(part=1, low=5, high=6)], array([0, 2, 3]))
    """
    ends = np.cumsum(parts)
    part = np.searchsorted(ends, places, side="right")
    begins = np.flatnonzero(np.diff(places, prepend=-gap) >= gap)
    begins = np.union1d(begins, np.flatnonzero(np.diff(part, prepend=-1)))
    stops = np.append(begins[1:], len(places))
    low, high = places[begins], places[stops - 1] + 1
    lengths, start = high - low, (ends - parts)[part[begins]]
    pieces = [
        Piece(*one)
        for one in zip(*map(np.ndarray.tolist, (part[begins], low - start, high - start)), strict=True)
    ]
    left_out = low - (np.cumsum(lengths) - lengths)
    return pieces, places - np.repeat(left_out, stops - begins)
