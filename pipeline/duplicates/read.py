"""The documents of a plan, numbered through all its shards, and columns of numbers about them on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from transforms.blocks import INDEX, DeadLetters, DocumentBlock
from transforms.elements import DeadLetter, EndOfShard, Shard, ShardFailed
from transforms.errors import BadFileError
from transforms.steps.shards import ReadConfig, read_shard

_CHUNK = 1 << 20


class Corpus:
    """What a plan's shards hold, read in this process in the plan's order.

    A document's ordinal is its place among all records of the plan, dead letters counted too: those of the
    shards before, and its `index` in its shard.

    Attributes:
      offsets: int64 [shards + 1], ordinal of each shard's first record, and at last how many there are;
        complete once all blocks were read.
      letters: how many records are dead letters, of what was read.
      first_letter: of those; None if there is none.
    """

    def __init__(self, shards: Sequence[Shard], config: ReadConfig):
        self.offsets = np.zeros(len(shards) + 1, np.int64)
        self.letters = 0
        self.first_letter: DeadLetter | None = None
        self._shards, self._config = shards, dataclasses.replace(config, heard=False)

    @property
    def count(self) -> int:
        """Of all records."""
        return int(self.offsets[-1])

    def blocks(
        self, told: Callable[[str], None] = lambda text: None
    ) -> Iterator[tuple[np.ndarray, DocumentBlock]]:
        """Ordinals, int64 [documents], and the documents; dead letters are left out.

        Raises:
          BadFileError: a file cannot be read, and those are not skipped.
        """
        for shard in range(len(self._shards)):
            yield from self.shard(shard)
            told(f"read {shard + 1:,} of {len(self._shards):,} shards, {self.offsets[shard + 1]:,} documents")

    def shard(self, number: int) -> Iterator[tuple[np.ndarray, DocumentBlock]]:
        """The same of one shard, of which those before it were read."""
        first = self.offsets[number]
        for element in read_shard(self._shards[number], self._config):
            if isinstance(element, DocumentBlock):
                yield first + element.columns.column(INDEX).to_numpy(), element
            elif isinstance(element, DeadLetters):
                self.letters += len(element.letters)
                self.first_letter = self.first_letter or element.letters[0]
            elif isinstance(element, EndOfShard):
                self.offsets[number + 1] = first + element.documents
            elif isinstance(element, ShardFailed):
                raise BadFileError(element.source, element.position, element.reason, kind=element.kind)


class Column:
    """A number of each ordinal, on disk; 0 of those that none is given of."""

    def __init__(self, path: str, dtype: type[np.generic] = np.int64):
        self._path, self._dtype, self._count = path, dtype, 0

    def add(self, ordinals: np.ndarray, values: np.ndarray) -> None:
        """Numbers of ascending ordinals, behind all that were given before."""
        if not len(ordinals):
            return
        block = np.zeros(int(ordinals[-1]) + 1 - self._count, self._dtype)
        block[ordinals - self._count] = values
        self._append(block)

    def done(self, count: int) -> np.ndarray:
        """All of them, mapped into memory, [count]."""
        while self._count < count:
            self._append(np.zeros(min(_CHUNK, count - self._count), self._dtype))
        return mapped(self._path, self._dtype, count) if count else np.zeros(0, self._dtype)

    def _append(self, block: np.ndarray) -> None:
        with open(self._path, "ab") as file:
            block.tofile(file)
        self._count += len(block)


def mapped(path: str, dtype: type[np.generic], count: int, fill: int | None = None) -> np.ndarray:
    """A file of numbers as an array that lives on disk; a new one if it is to be filled.

    Args:
      fill: what each number is at first.
    """
    if not count:
        return np.zeros(0, dtype)
    array = np.memmap(path, dtype, "r+" if fill is None else "w+", shape=(count,))
    for at in range(0, count if fill else 0, _CHUNK):  # a new file is of zeros
        array[at : at + _CHUNK] = fill
    return array
