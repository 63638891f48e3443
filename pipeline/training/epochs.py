"""The mini-batches of an epoch, the same ones for the same seed, from any of them on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.training import balance, columns, order
from pipeline.training.balance import Balance
from pipeline.training.columns import Block
from pipeline.training.reading import made_ahead, read_pieces, windows
from pipeline.training.sources import BLOCK_ROWS, Source
from transforms.errors import UsageError

# Parts whose rows come in turns where they are shuffled; each holds a compressed row group in memory.
STREAMS = 4
WINDOW_ROWS = 65_536
_AHEAD = 4


class MiniBatches:
    """Mini-batches as dicts of arrays; each time it is iterated over is the next epoch.

    Rows are read in windows of a number of mini-batches, in which they are permuted, balanced or put in order
    of length. What a window holds follows from the numbers of rows of the parts, the seed and the epoch
    alone, so that an epoch can begin at any of its windows.

    Attributes:
      start: epoch and mini-batch to begin with.
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
        prepared: Balance | None = None,
    ):
        """Takes rows and how mini-batches are made of them.

        Args:
          shuffle: rows of a window; 0 keeps their order. Rows that lie in memory are one window.
          balance: the column whose values are to be as frequent as each other in each mini-batch.
          bucket: the column of lists whose lengths are to be alike in a mini-batch.
          shard: which of how many workers this is.
          start: epoch and mini-batch to begin with.
          prepared: what `prepare` gave.
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
        self.start, self.begun = start, 0
        order.check_share(*shard)
        self._pieces = None if source.parts is None else order.share(source.parts, *shard)
        rows = self.rows
        wanted = shuffle or (WINDOW_ROWS if balance or bucket else 1)
        if source.in_memory and (shuffle or balance):
            wanted = rows or 1
        self._window = -(-wanted // batch_size) * batch_size
        self._label = balance
        self._balance = None if prepared is None else self._own(prepared)

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

    def share_of(self, index: int, count: int, begun: int, prepared: Balance | None = None) -> MiniBatches:
        """What one of several workers has of an epoch, the mini-batches being taken from each in turns.

        Where an epoch is gone on with, the worker comes first whose turn it is.

        Args:
          begun: epochs before.
          prepared: what `prepare` gave.

        Raises:
          UsageError: an epoch is gone on with, and only when rows are read it is known how many each has.
        """
        mine, workers = self._shard
        epoch, first = self.start
        first = 0 if begun else first
        turn, done = 0, [first] * count
        if first and count > 1:
            if self.count is None:
                raise UsageError(
                    f"start {first}: how many rows a generator has is not known, so that {count} workers "
                    "cannot go on with an epoch; give num_workers=0, or the start of an epoch"
                )
            shards = [(mine * count + i, workers * count) for i in range(count)]
            counts = [MiniBatches(self._source, **self._given, shard=one).count or 0 for one in shards]
            turn, done = order.done_of(counts, first)
        turn = (turn + index) % count
        return MiniBatches(
            self._source,
            **self._given,
            shard=(mine * count + turn, workers * count),
            start=(epoch + begun, done[turn]),
            prepared=prepared,
        )

    @property
    def balanced(self) -> bool:
        """Whether classes are made as frequent as each other."""
        return self._label is not None

    @property
    def from_the_start(self) -> bool:
        """Whether each epoch is a whole one."""
        return self.start[1] == 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        number, self.begun = self.begun, self.begun + 1
        epoch, batch = self.start
        return self.epoch(epoch + number, 0 if number else batch)

    def epoch(self, number: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The mini-batches of an epoch from one on."""
        return made_ahead(self._batches(number, first), _AHEAD)

    def _batches(self, epoch: int, first: int) -> Iterator[dict[str, np.ndarray]]:
        if self._label is not None and self._balance is None:
            self._balance = self._own(self.prepare(alone=self._shard[1] == 1))
        each = self._window // self.batch_size
        number, skipped = divmod(first, each)
        blocks = self._blocks(epoch, number * self._window)
        try:
            for window in windows(blocks, self._window):
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
            long = columns.lengths(window[self._bucket])
            places = places[np.argsort(long[places], kind="stable")]
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

    def prepare(self, *, alone: bool = False) -> Balance:
        """Reads the labels of all rows, of whichever worker; and rows of each class.

        Args:
          alone: no other worker has rows, so that none need be kept where a window has them all.
        """
        assert self._label is not None
        labels = (block[self._label] for block in self._in_order([self._label]))
        classes, codes = balance.read_codes(labels, self._label)
        if alone and len(codes) <= self._window:
            return Balance(self._label, classes, len(codes))
        each = max(1, self._window // len(classes))
        random = np.random.default_rng([self._seed])
        places = balance.choose_reserve(codes, len(classes), each, random, BLOCK_ROWS)
        if self._source.parts is None:
            reserve = balance.at_places(self._in_order(None), places)
        else:
            pieces, own = order.around(self._source.parts, places, BLOCK_ROWS)
            reserve = balance.at_places(read_pieces(self._source, pieces, streams=2, ahead=6), own)
        return Balance(self._label, classes, len(codes), reserve, codes[places])

    def _own(self, prepared: Balance) -> Balance:
        """Without rows of each class where a window has all: then it is the same with workers and without."""
        if self._shard[1] == 1 and prepared.rows <= self._window:
            return dataclasses.replace(prepared, reserve=None, reserve_codes=None)
        return prepared

    def _in_order(self, names: list[str] | None) -> Iterator[Block]:
        source = self._source if names is None else self._source.only(names)
        if source.parts is None:
            return source.read(0, 0)
        return read_pieces(source, order.share(source.parts, 0, 1), streams=2, ahead=6)

    def _of_unknown(self, first: int) -> Iterator[Block]:
        """Of rows whose number is not known a worker takes every so many-th."""
        index, count = self._shard
        at = 0
        for block in self._source.read(0, first * count):
            own = np.flatnonzero((at + np.arange(columns.size(block))) % count == index)
            at += columns.size(block)
            yield columns.take(block, own) if count > 1 else block
