"""Near duplicates: texts whose bags of shingles are alike, each with the first kept text that it is like.

A chain (A like B, B like C, A not like C) makes no group of three: B goes with A, and C, which is not like A,
is kept. So each document that is left out is as alike as was asked for to the one kept in its place, which
connected components do not promise.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from pipeline.duplicates.decide import MOST, Kept, blocks, decide
from pipeline.duplicates.jaccard import Bags
from pipeline.duplicates.lsh import band_keys, shared
from pipeline.duplicates.read import Column, mapped
from pipeline.duplicates.shingles import shingles
from transforms.output.buckets import Buckets

_CHUNK = 1 << 20
_THREADS = 2  # shingles are made by NumPy and Arrow, off Python's lock
_TOGETHER, _TEXT = 4 << 20, 512  # bytes of texts that are prepared together, and of one for what it costs
_Prepared = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # ordinals, shingles, sizes, keys of bands


class NearDuplicates:
    """Takes texts in the order of the plan, and then says which are near duplicates of which.

    Args:
      folder: for what is spilled; it exists and is the caller's to delete.
      threshold: least Jaccard similarity.
    """

    def __init__(self, folder: str, threshold: float):
        self._folder, self._threshold = folder, threshold
        self._bags, self._bands = Bags(folder), Buckets(folder, "bands", 2)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._pending: collections.deque[Future[_Prepared]] = collections.deque()
        self._ordinals: list[np.ndarray] = []
        self._texts: list[pa.Array] = []
        self._waiting = 0

    def add(self, ordinals: np.ndarray, texts: pa.Array) -> None:
        """Takes texts, string [n] without nulls, with their ordinals, int64 [n]."""
        self._ordinals.append(ordinals)
        self._texts.append(texts)
        self._waiting += texts.nbytes + _TEXT * len(texts)
        if self._waiting >= _TOGETHER:
            self._prepare()

    def _prepare(self) -> None:
        ordinals, texts = np.concatenate(self._ordinals), pa.concat_arrays(self._texts)
        self._ordinals, self._texts, self._waiting = [], [], 0
        self._pending.append(self._pool.submit(_prepared, ordinals, texts, self._threshold))
        if len(self._pending) > _THREADS:
            self._take(self._pending.popleft().result())

    def _take(self, prepared: _Prepared) -> None:
        ordinals, made, sizes, keys = prepared
        self._bags.add(ordinals, made, sizes)
        self._bands.add(keys.ravel(), np.repeat(ordinals[sizes > 0], keys.shape[1]))

    def owners(
        self, copies: np.ndarray, similarity: np.ndarray, told: Callable[[str], None] = lambda text: None
    ) -> np.ndarray:
        """Of each ordinal that of the document that is kept in its place, int64 [n]; see Duplicates.

        Args:
          copies: int64 [n], owners of exact copies.
          similarity: float32 [n], gets that of near duplicates with their owners.
        """
        if self._texts:
            self._prepare()
        with self._pool:
            while self._pending:
                self._take(self._pending.popleft().result())
        count = len(copies)
        self._bags.done(count)
        owners = mapped(f"{self._folder}/near", np.int64, count, fill=0)
        owners[:] = copies
        told("near duplicates: looking for texts that share a band")
        members = Buckets(self._folder, "members", 2)
        shift = np.uint64(64 - max(1, (count - 1).bit_length()))
        sizes = Column(f"{self._folder}/shared", np.uint8)
        buckets = 0
        for ordinals, own in shared(self._bands, copies):
            members.add(ordinals.astype(np.uint64) << shift, np.repeat(np.arange(len(own)) + buckets, own))
            sizes.add(np.arange(len(own)) + buckets, np.minimum(own, MOST))
            buckets += len(own)
        kept = Kept(f"{self._folder}/kept", sizes.done(buckets))
        for ordinals, own in blocks(members, shift):
            told(f"near duplicates: compared {ordinals[-1]:,} of {count:,} documents")
            for left, right, alike in decide(ordinals, own, kept, self._bags, self._threshold):
                owners[left], similarity[left] = right, alike
        for at in range(0, count, _CHUNK):  # an exact copy of a near duplicate goes where that goes
            some = copies[at : at + _CHUNK]
            there = np.flatnonzero(some >= 0)
            first = some[there]
            owners[at + there], similarity[at + there] = owners[first], similarity[first]
        return owners


def _prepared(ordinals: np.ndarray, texts: pa.Array, threshold: float) -> _Prepared:
    made, sizes = shingles(texts)
    keys = band_keys(made, sizes[sizes > 0], threshold) if len(made) else np.zeros((0, 0), np.uint64)
    return ordinals, made, sizes, keys
