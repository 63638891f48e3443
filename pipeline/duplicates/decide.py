"""Whom each text belongs to: the first kept text that it is like, in the order of the plan.

Texts are decided by the block. Candidates are those that share a bucket (a band of the signature); first
the ones that earlier blocks kept, then, of what is left, those of the same block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.duplicates.jaccard import Bags
from pipeline.duplicates.read import mapped
from transforms.output.buckets import Buckets, begins

# A text is compared with the first so many kept ones of each of its buckets. Else a million texts from one
# template, alike but not enough, would be compared each with each.
MOST = 32
_DOCUMENTS = 4096  # of a block
_CHUNK = 1 << 20


class Kept:
    """The kept texts of each bucket, on disk.

    Args:
      path: of the files, as they begin.
      room: [buckets], how many are remembered.
    """

    def __init__(self, path: str, room: np.ndarray):
        self._room = room
        self._filled = mapped(f"{path}-filled", np.uint8, len(room), fill=0)
        self._ends = mapped(f"{path}-ends", np.int64, len(room), fill=0)
        np.cumsum(room, out=self._ends)
        self._texts = mapped(path, np.int64, int(self._ends[-1]) if len(room) else 0, fill=0)

    def candidates(self, ordinals: np.ndarray, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of an ordinal and a kept one of its bucket."""
        own = self._filled[buckets].astype(np.int64)
        starts = self._ends[buckets] - self._room[buckets]
        return np.repeat(ordinals, own), self._texts[_ranges(starts, own)]

    def add(self, ordinals: np.ndarray, buckets: np.ndarray) -> None:
        """Takes kept texts, in ascending order, each into its buckets, where there is room."""
        order = np.argsort(buckets, kind="stable")
        ordinals, buckets = ordinals[order], buckets[order]
        places = self._filled[buckets] + _ranks(buckets)
        fits = places < self._room[buckets]
        ordinals, buckets, places = ordinals[fits], buckets[fits], places[fits]
        self._texts[self._ends[buckets] - self._room[buckets] + places] = ordinals
        self._filled[buckets] = places + 1  # of a bucket that is named twice the last counts


def blocks(members: Buckets, shift: np.uint64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ordinals, int64, in order, each as often as it has buckets, and their buckets: some texts at a time."""
    for shifted, buckets in members.in_order():
        ordinals = (shifted >> shift).astype(np.int64)
        starts = np.flatnonzero(begins(ordinals))[::_DOCUMENTS]
        for low, high in zip(starts, np.append(starts[1:], len(ordinals)), strict=True):
            yield ordinals[low:high], buckets[low:high].astype(np.int64)


def decide(
    ordinals: np.ndarray, buckets: np.ndarray, kept: Kept, bags: Bags, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ordinals of a block that belong to others, to whom, and their similarity; the others are kept."""
    left, right, alike = _alike(*kept.candidates(ordinals, buckets), bags, threshold)
    left, first = np.unique(left, return_index=True)
    yield left, right[first], alike[first]
    open_ = ~np.isin(ordinals, left)
    ordinals, buckets = ordinals[open_], buckets[open_]
    left, right, alike = _alike(*_within(ordinals, buckets), bags, threshold)
    taken: dict[int, int] = {}  # those that belong to others, and the pair that says so
    for pair, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        if one not in taken and other not in taken:  # the other comes before, so it is decided
            taken[one] = pair
    chosen = np.fromiter(taken.values(), np.int64, len(taken))
    yield left[chosen], right[chosen], alike[chosen]
    stay = ~np.isin(ordinals, left[chosen])
    kept.add(ordinals[stay], buckets[stay])


def _within(ordinals: np.ndarray, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of an ordinal and one of the first of its bucket that come before it."""
    order = np.argsort(buckets, kind="stable")
    ordinals, ranks = ordinals[order], _ranks(buckets[order])
    before = np.minimum(ranks, MOST)
    return np.repeat(ordinals, before), ordinals[_ranges(np.arange(len(ordinals)) - ranks, before)]


def _alike(
    left: np.ndarray, right: np.ndarray, bags: Bags, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs that are alike enough, each once, in order, with their similarity."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    new = begins(left, right)
    left, right = left[new], right[new]
    one, other = bags.sizes[left], bags.sizes[right]
    may = np.minimum(one, other) >= threshold * np.maximum(one, other) - 1e-6
    left, right = left[may], right[may]
    similarity = bags.jaccard(left, right)
    enough = similarity >= threshold
    return left[enough], right[enough], similarity[enough]


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Numbers from each start on, so many of each."""
    return np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def _ranks(groups: np.ndarray) -> np.ndarray:
    """Place of each in its group; groups stand together."""
    place = np.arange(len(groups))
    return place - np.maximum.accumulate(np.where(begins(groups), place, 0))
