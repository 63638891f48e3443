"""Rows of numbers put in order: spilled to disk in buckets, of which one at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BUCKETS = 256  # by the first byte of a row's first number
_HELD = 1 << 18  # rows in memory before they are spilled


def begins(*columns: np.ndarray) -> np.ndarray:
    """Where a run of equal rows begins, bool [n]; a column an argument, each [n]."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return new


class Buckets:
    """Takes rows of uint64 numbers in any order, and gives them back in ascending order.

    Rows are spread evenly where the first numbers are spread evenly over all that there are, as hashes are.

    Args:
      folder: where they are spilled; it exists and is the caller's to delete.
      name: of the files there begins with it.
      columns: numbers of a row.
    """

    def __init__(self, folder: str, name: str, columns: int):
        self.count = 0
        self._path, self._columns = f"{folder}/{name}", columns
        self._held: list[np.ndarray] = []
        self._waiting = 0

    def add(self, *columns: np.ndarray) -> None:
        """Takes rows, a column an argument, each [n]."""
        rows = np.stack([column.astype(np.uint64, copy=False) for column in columns], axis=1)
        self._held.append(rows)
        self.count += len(rows)
        self._waiting += len(rows)
        if self._waiting >= _HELD:
            self._spill()

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows, sorted by their numbers from the first to the last: uint64 [columns, n], a bucket each.

        No row may be added any more. Rows with the same first number are in the same bucket.
        """
        if self.count and self._waiting == self.count:  # all of them: they need no disk
            rows = np.concatenate(self._held).T
            yield rows[:, np.lexsort(rows[::-1])]
            return
        self._spill()
        for bucket in range(_BUCKETS):
            try:
                rows = np.fromfile(f"{self._path}-{bucket:03}", np.uint64).reshape(-1, self._columns).T
            except FileNotFoundError:
                continue
            yield rows[:, np.lexsort(rows[::-1])]

    def _spill(self) -> None:
        if not self._held:
            return
        rows = np.concatenate(self._held)
        self._held, self._waiting = [], 0
        bucket = (rows[:, 0] >> np.uint64(56)).astype(np.uint8)
        rows = rows[np.argsort(bucket, kind="stable")]
        ends = np.cumsum(np.bincount(bucket, minlength=_BUCKETS))
        for number, some in enumerate(np.split(rows, ends[:-1])):
            if len(some):
                with open(f"{self._path}-{number:03}", "ab") as file:
                    some.tofile(file)
