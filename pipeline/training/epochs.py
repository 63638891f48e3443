"""The mini-batches of an epoch, the same ones for the same seed, from any of them on."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from pipeline.training import balance, columns, order
from pipeline.training.balance import Balance
from pipeline.training.columns import Block
from pipeline.training.reading import read_pieces
from pipeline.training.sources import BLOCK_ROWS, Source

# Parts whose rows come in turns where they are shuffled; each holds a compressed row group in memory.
STREAMS = 4
WINDOW_ROWS = 65_536
_AHEAD = 4
_T = TypeVar("_T")


class MiniBatches:
    """Mini-batches as dicts of arrays; each time it is iterated over is the next epoch.

    Rows are read in windows of a number of mini-batches, in which they are permuted, balanced or put in order
    of length. What a window holds follows from the numbers of rows of the parts, the seed and the epoch
    alone, so that an epoch can begin at any of its windows.

    Attributes:
      begun: how many epochs were begun.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        shuffle: int = 0,
        seed: int = 0,
        drop_remainder: bool = False,
        balance: str | None = None,
        bucket: str | None = None,
        shard: tuple[int, int] = (0, 1),
        start: tuple[int, int] = (0, 0),
    ):
        """Takes rows and how mini-batches are made of them.

        Args:
          shuffle: rows of a window; 0 keeps their order. Rows that lie in memory are one window.
          balance: the column whose values are to be as frequent as each other in each mini-batch.
          bucket: the column of lists whose lengths are to be alike in a mini-batch.
          shard: which of how many workers this is.
          start: epoch and mini-batch to begin with.
        """
        self._given: dict[str, Any] = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "seed": seed,
            "drop_remainder": drop_remainder,
            "balance": balance,
            "bucket": bucket,
        }
        self._source, self.batch_size, self._seed = source, batch_size, seed
        self._shuffle, self._drop, self._bucket, self._shard = shuffle, drop_remainder, bucket, shard
        self._start, self.begun = start, 0
        order.check_share(*shard)
        self._pieces = None if source.parts is None else order.share(source.parts, *shard)
        rows = self.rows
        wanted = shuffle or (WINDOW_ROWS if balance or bucket else 1)
        if source.in_memory and (shuffle or balance):
            wanted = rows or 1
        self._window = -(-wanted // batch_size) * batch_size
        self._label = balance
        self._balance: Balance | None = None

    @property
    def rows(self) -> int | None:
        """Rows of an epoch; None where they are not known before they have been read."""
        return None if self._pieces is None else sum(piece.high - piece.low for piece in self._pieces)

    @property
    def count(self) -> int | None:
        """Mini-batches of an epoch; None as for rows."""
        rows = self.rows
        if rows is None:
            return None
        return rows // self.batch_size if self._drop else -(-rows // self.batch_size)

    def share_of(self, index: int, count: int, begun: int) -> MiniBatches:
        """What one of several workers has of an epoch, the mini-batches being taken from each in turns.

        Where an epoch is gone on with, the worker comes first whose turn it is.

        Args:
          begun: epochs before.
        """
        mine, workers = self._shard
        epoch, first = self._start
        first = 0 if begun else first
        turn = (index + first) % count
        return MiniBatches(
            self._source,
            **self._given,
            shard=(mine * count + turn, workers * count),
            start=(epoch + begun, max(0, -(-(first - turn) // count))),
        )

    @property
    def from_the_start(self) -> bool:
        """Whether each epoch is a whole one."""
        return self._start[1] == 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        number, self.begun = self.begun, self.begun + 1
        epoch, batch = self._start
        return self.epoch(epoch + number, 0 if number else batch)

    def epoch(self, number: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The mini-batches of an epoch from one on."""
        return _ahead(self._batches(number, first), _AHEAD)

    def _batches(self, epoch: int, first: int) -> Iterator[dict[str, np.ndarray]]:
        if self._label is not None and self._balance is None:
            self._balance = self._prepare_balance(self._label)
        each = self._window // self.batch_size
        number, skipped = divmod(first, each)
        blocks = self._blocks(epoch, number * self._window)
        try:
            for window in _windows(blocks, self._window):
                for batch in itertools.islice(self._cut(window, epoch, number), skipped, None):
                    yield columns.finished(batch)
                number, skipped = number + 1, 0
        finally:
            blocks.close()

    def _cut(self, window: Block, epoch: int, number: int) -> Iterator[Block]:
        """A window's mini-batches."""
        rows, size = columns.size(window), self.batch_size
        random = np.random.default_rng([self._seed, epoch, number])
        places = None
        if self._balance is not None:
            places = self._balance.draw(window, number * self._window, random)
        elif self._shuffle:
            places = random.permutation(rows)
        firsts = np.arange(0, rows - rows % size if self._drop else rows, size)
        if self._bucket is not None:
            if places is None:
                places = np.arange(rows)
            reserve = self._balance.reserve if self._balance else None
            name = self._bucket
            lists = balance.take(_only(window, name), _only(reserve, name), places)[name]
            long = columns.lengths(lists)
            places = places[np.argsort(long, kind="stable")]
            if self._shuffle:  # short ones do not come first; what is left over comes last
                whole = rows // size
                firsts = np.concatenate([random.permutation(firsts[:whole]), firsts[whole:]])
        for first in firsts.tolist():
            if places is None:
                yield columns.part(window, first, min(first + size, rows))
            else:
                reserve = self._balance.reserve if self._balance else None
                yield balance.take(window, reserve, places[first : first + size])

    def _blocks(self, epoch: int, first: int) -> Any:
        """The rows of an epoch in its order, from one on."""
        if self._pieces is None:
            return self._of_unknown(first)
        pieces, streams = self._pieces, 1
        if self._shuffle and not self._source.in_memory:
            random = np.random.default_rng([self._seed, epoch])
            pieces, streams = order.permuted(pieces, random), STREAMS
        rows = max(self._window, BLOCK_ROWS) if self._source.in_memory else BLOCK_ROWS
        wanted = list(order.from_row(order.interleaved(pieces, streams=streams, rows=rows), first))
        ahead = (1 if self._source.in_memory else 2) if streams > 1 else 6
        return read_pieces(self._source, wanted, streams=max(2, streams), ahead=ahead)

    def _of_unknown(self, first: int) -> Iterator[Block]:
        """Of rows whose number is not known a worker takes every so many-th."""
        index, count = self._shard
        at = 0
        for block in self._source.read(0, first * count):
            own = np.flatnonzero((at + np.arange(columns.size(block))) % count == index)
            at += columns.size(block)
            yield columns.take(block, own) if count > 1 else block

    def _prepare_balance(self, label: str) -> Balance:
        """Reads the labels; and rows of each class, unless a window has them all."""
        found = [block[label] for block in self._in_order([label])]
        classes = balance.classes_of(iter(found), label)
        codes = np.concatenate([balance.codes_of(column, classes) for column in found])
        if len(codes) <= self._window:
            return Balance(label, classes)
        each = max(1, self._window // len(classes))
        random = np.random.default_rng([self._seed])
        places = balance.choose_reserve(codes, len(classes), each, random)
        return Balance(label, classes, balance.at_places(self._in_order(None), places), codes[places])

    def _in_order(self, names: list[str] | None) -> Iterator[Block]:
        source = self._source if names is None else self._source.only(names)
        if self._pieces is None:
            return self._of_unknown(0)
        return read_pieces(source, self._pieces, streams=2, ahead=6)


def _only(block: Any, name: str) -> Any:
    return None if block is None else {name: block[name]}


def _windows(blocks: Iterator[Block], rows: int) -> Iterator[Block]:
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


def _ahead(items: Iterator[_T], count: int) -> Iterator[_T]:
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
