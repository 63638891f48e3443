"""Reads pieces of parts in a given order, each part on a thread of its own, ahead of who wants them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.training import columns
from pipeline.training.columns import Block
from pipeline.training.order import Piece
from pipeline.training.sources import Source

FAR = 16_384  # rows between two pieces of a part that are not read: it is opened again behind them
_T = TypeVar("_T")


class _Stream:
    """A part that is read ahead from one row on; rows are asked for in order."""

    def __init__(self, source: Source, part: int, first: int, ahead: int):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedbeam reads rows")
        self._blocks = source.read(part, first)
        self._coming: deque[Future[Block | None]] = deque()
        self._rest: Block | None = None
        self.at = first
        for _ in range(ahead):
            self._ask()

    def _ask(self) -> None:
        self._coming.append(self._thread.submit(next, self._blocks, None))

    def skip(self, rows: int) -> None:
        for _ in self.rows(rows):
            pass

    def rows(self, wanted: int) -> Iterator[Block]:
        """The next so many rows, in blocks."""
        self.at += wanted
        while wanted:
            block = self._rest
            if block is None:
                block = self._coming.popleft().result()
                self._ask()
                if block is None:
                    raise RuntimeError("a part has fewer rows than its receipt says")
            size = columns.size(block)
            self._rest = columns.part(block, wanted, size) if size > wanted else None
            if size:
                yield columns.part(block, 0, min(size, wanted))
            wanted -= min(size, wanted)

    def close(self) -> None:
        for one in self._coming:
            one.cancel()
        self._thread.shutdown(wait=True)


def read_pieces(source: Source, pieces: Sequence[Piece], *, streams: int, ahead: int) -> Iterator[Block]:
    """The rows of pieces in their order.

    Args:
      streams: how many parts are read at a time, at least as many as come in turns.
      ahead: blocks of each that are read before they are wanted.
    """
    last = {piece.part: i for i, piece in enumerate(pieces)}
    first: dict[int, int] = {}
    for piece in pieces:
        first.setdefault(piece.part, piece.low)
    waiting, open_now = deque(first), dict[int, _Stream]()
    try:
        for i, piece in enumerate(pieces):
            while waiting and (len(open_now) < streams or piece.part not in open_now):
                part = waiting.popleft()
                open_now[part] = _Stream(source, part, first[part], ahead)
            stream = open_now[piece.part]
            if piece.low - stream.at > FAR:
                stream.close()
                stream = open_now[piece.part] = _Stream(source, piece.part, piece.low, ahead)
            stream.skip(piece.low - stream.at)
            yield from stream.rows(piece.high - piece.low)
            if last[piece.part] == i:
                open_now.pop(piece.part).close()
    finally:
        for stream in open_now.values():
            stream.close()


def windows(blocks: Iterator[Block], rows: int) -> Iterator[Block]:
    """Blocks of so many rows each; the last one may have fewer."""
    waiting: list[Block] = []
    there = 0
    for block in blocks:
        while there + columns.size(block) >= rows:
            cut = rows - there
            yield columns.joined([*waiting, columns.part(block, 0, cut)])
            block, waiting, there = columns.part(block, cut, columns.size(block)), [], 0
        if columns.size(block):
            waiting.append(block)
            there += columns.size(block)
    if waiting:
        yield columns.joined(waiting)


def made_ahead(items: Iterator[_T], count: int) -> Iterator[_T]:
    """The same items, made on a thread so many before they are wanted."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="embedbeam makes mini-batches") as thread:
        coming = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not end:
                coming.append(thread.submit(next, items, end))
                yield item
        finally:
            for one in coming:
                one.cancel()
            thread.submit(getattr(items, "close", bool)).result()
