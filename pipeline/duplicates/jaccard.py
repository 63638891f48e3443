"""Bags of shingles on disk, and how alike two of them are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.duplicates.read import Column, mapped

_AT_ONCE = 1 << 22  # shingles of the pairs that are compared together


class Bags:
    """Writes the shingles of texts, and reads those of some again.

    Args:
      folder: where they lie; it exists and is the caller's to delete.
    """

    def __init__(self, folder: str):
        self._path, self._sizes = f"{folder}/shingles", Column(f"{folder}/sizes")
        open(self._path, "wb").close()

    def add(self, ordinals: np.ndarray, shingles: np.ndarray, sizes: np.ndarray) -> None:
        """Takes texts in ascending order; arguments as `shingles` gives them."""
        with open(self._path, "ab") as file:
            shingles.tofile(file)
        self._sizes.add(ordinals, sizes)

    def done(self, count: int) -> None:
        """Begins the reading, of so many ordinals; those that were not added have empty bags."""
        self.sizes = self._sizes.done(count)
        self._ends = mapped(f"{self._path}-ends", np.int64, count, fill=0)
        np.cumsum(self.sizes, out=self._ends)
        self._file = open(self._path, "rb")  # noqa: SIM115 - as long as this object

    def jaccard(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Jaccard similarity of the bags of pairs: what they share over what they have together.

        Args:
          left, right: int64 [pairs], ordinals.

        Returns:
          float64 [pairs]; 0 of two empty bags.
        """
        made = np.zeros(len(left))
        for some in self._parts(self.sizes[left] + self.sizes[right]):
            one, other = self._rows(left[some], right[some])
            shared = np.diff(one.multiply(other).indptr)
            every = self.sizes[left[some]] + self.sizes[right[some]] - shared
            made[some] = shared / np.maximum(every, 1)
        return made

    def _parts(self, weights: np.ndarray) -> Iterator[slice]:
        """Pairs cut into parts of so many shingles, and of one pair at least."""
        ends, low = np.cumsum(weights), 0
        while low < len(weights):
            before = ends[low - 1] if low else 0
            high = max(low + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
            yield slice(low, high)
            low = high

    def _rows(self, *ordinals: np.ndarray) -> list[Any]:
        """Bags as rows of a sparse matrix, which has a column for each possible shingle, in each order."""
        from scipy.sparse import csr_array

        chosen, places = np.unique(np.concatenate(ordinals), return_inverse=True)
        sizes = self.sizes[chosen]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        # Read, not mapped: pages that were looked at would count as this process's memory.
        where = zip((8 * sizes).tolist(), (8 * (self._ends[chosen] - sizes)).tolist(), strict=True)
        data = b"".join(os.pread(self._file.fileno(), size, at) for size, at in where)
        columns = (np.frombuffer(data, np.uint64) >> np.uint64(1)).astype(np.int64)
        shape = (len(chosen), np.iinfo(np.int64).max)
        matrix = csr_array((np.ones(len(columns), np.int8), columns, starts), shape=shape)
        matrix.sort_indices()
        return [matrix[some] for some in np.split(places, len(ordinals))]
