"""Exact search: every row is held against every question, in blocks: memory does not grow with rows."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from transforms.output.reader import Output

METRICS = ("cosine", "dot")
QUESTIONS = 8192  # most that one pass over the rows answers: the next ones read these again
_BLOCK_ROWS = 4096
TILE = 256  # questions of one product: its scores, 4 MiB, are looked through while they are in a cache
_RUN = 128  # rows whose largest score is looked at first
_LANES = 4  # threads, each with parts of its own
_T = TypeVar("_T")


class Part(NamedTuple):
    """A part file, and the place of its first row among all rows of the output."""

    name: str
    first: int
    rows: int


class Best:
    """The best rows so far of some questions: of equal scores those that come first in the output.

    Attributes:
      scores: float32 [questions, k], descending; -inf where there are fewer rows.
      places: int64 [questions, k], of the rows among all rows of the output; -1 where there are fewer.
    """

    def __init__(self, questions: int, k: int):
        self.scores: np.ndarray = np.full((questions, k), -np.inf, np.float32)
        self.places: np.ndarray = np.full((questions, k), -1, np.int64)

    def add(self, scores: np.ndarray, places: np.ndarray, first: int = 0) -> None:
        """Takes scores [n, rows] of the n questions from `first` on, of rows at these places, ascending."""
        of, rows = slice(first, first + len(scores)), len(places) // _RUN * _RUN or len(places)
        if rows < len(places):
            self.add(scores[:, rows:], places[rows:], first)
        k, floor, last = self.scores.shape[1], self.scores[of, -1], self.places[of, -1]
        # Most rows are worse than all that a question has: the largest score of a run of them tells.
        runs = scores[:, :rows].reshape(len(scores), -1, min(rows, _RUN))
        tops = np.maximum.reduceat(scores[:, :rows], np.arange(0, rows, _RUN), axis=1)
        if np.isneginf(floor).any() and k < rows:
            some = tops if k <= tops.shape[1] else scores[:, :rows]
            floor = np.maximum(floor, np.partition(some, -k, axis=1)[:, -k])
            last = np.full(len(scores), np.iinfo(np.int64).max)
        question, run = np.nonzero(tops >= floor[:, np.newaxis])
        if not len(question):
            return
        values, least = runs[question, run], floor[question, np.newaxis]
        # Of equal rows the first count: none of a block that lies behind all that is there.
        pair, at = np.nonzero(values > least if places[0] > last.max() else values >= least)
        row = run[pair] * _RUN + at
        hot, whose = np.unique(question[pair], return_inverse=True)
        every = np.concatenate([self.scores[of][hot].ravel(), values[pair, at]])
        where = np.concatenate([self.places[of][hot].ravel(), places[row]])
        whose = np.concatenate([np.repeat(np.arange(len(hot)), k), whose])
        order = np.lexsort((where, -every, whose))
        starts = np.searchsorted(whose[order], np.arange(len(hot)))
        chosen = order[starts[:, np.newaxis] + np.arange(k)]  # each has k at least: those it had
        self.scores[hot + first], self.places[hot + first] = every[chosen], where[chosen]

    @staticmethod
    def of(some: Sequence[Best]) -> Best:
        """The best of several, each of which saw other rows."""
        if len(some) == 1:
            return some[0]
        best = Best(*some[0].scores.shape)
        scores, places = (
            np.concatenate(a, axis=1) for a in zip(*((b.scores, b.places) for b in some), strict=True)
        )
        order = np.lexsort((places, -scores), axis=1)[:, : best.scores.shape[1]]
        best.scores, best.places = (np.take_along_axis(a, order, axis=1) for a in (scores, places))
        return best

    def without(self, places: np.ndarray, k: int) -> Best:
        """Each question's first k rows besides these places, int64 [n], or its own, [questions, 1]."""
        own = np.isin(self.places, places) if places.ndim == 1 else self.places == places
        left = np.argsort(own, axis=1, kind="stable")[:, :k]
        best = Best(len(left), k)
        best.scores, best.places = (np.take_along_axis(a, left, axis=1) for a in (self.scores, self.places))
        return best


def parts_of(output: Output) -> list[Part]:
    """The committed part files, in the order of `Output.rows`."""
    found = [receipt for receipt in output.receipts if receipt.part is not None]
    firsts = itertools.accumulate((receipt.rows for receipt in found), initial=0)
    return [Part(one.part or "", first, one.rows) for one, first in zip(found, firsts, strict=False)]


def nearest(
    output: Output,
    questions: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    parts: Sequence[Part] | None = None,
    keep: Callable[[Part], np.ndarray] | None = None,
    seen: Callable[[int], None] = lambda rows: None,
) -> Best:
    """The k rows nearest to each question.

    Memory: of each of a few threads k scores and places for each question, and a block of rows. The same
    machine gives the same result: blocks do not depend on threads.

    Args:
      questions: float32 [n, dim]; with metric cosine of any length.
      metric: cosine, or dot for the bare product.
      parts: those that are searched; None for all.
      keep: which rows of a part are looked at, bool [rows]; None for all.
      seen: is told of rows as they are done.
    """
    questions = unit(questions) if metric == "cosine" else questions
    bests: list[Best] = []

    def search(blocks: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[int]:
        bests.append(best := Best(len(questions), k))
        for places, vectors in blocks:
            scale = None
            if metric == "cosine" and len(questions) > output.dim:
                vectors = unit(vectors)
            elif metric == "cosine":  # a vector's scores are no more than its numbers: scaled in its place
                scale = inverse_lengths(vectors)
            for first in range(0, len(questions), TILE):
                scores = questions[first : first + TILE] @ vectors.T
                best.add(scores if scale is None else np.multiply(scores, scale, out=scores), places, first)
            yield len(places)

    lanes = [search(blocks) for blocks in _lanes(output, "dot", parts, keep, seen)]
    # Each lane multiplies by itself: threads of BLAS beside those that decode would wait for each other.
    with threadpool_limits(max(1, (os.cpu_count() or 1) // len(lanes)), user_api="blas"):
        for rows in _ahead(lanes):
            seen(rows)
    return Best.of(bests)


def blocks_of(
    output: Output,
    metric: str,
    *,
    parts: Sequence[Part] | None = None,
    keep: Callable[[Part], np.ndarray] | None = None,
    seen: Callable[[int], None] = lambda rows: None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places and vectors, of length 1 for cosine, in blocks that threads read ahead, in a fixed order."""
    return _ahead(_lanes(output, metric, parts, keep, seen))


def _lanes(
    output: Output,
    metric: str,
    parts: Sequence[Part] | None,
    keep: Callable[[Part], np.ndarray] | None,
    seen: Callable[[int], None],
) -> list[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """The parts' blocks, as so many iterators as threads are worth it."""
    import pyarrow.parquet  # noqa: F401  # in this thread, and not first in one that ends

    parts = parts_of(output) if parts is None else parts
    count = max(1, min(_LANES, os.cpu_count() or 1, len(parts)))
    return [_blocks(output, parts[lane::count], metric, keep, seen) for lane in range(count)]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, dim] of length 1; those of length 0 stay as they are."""
    return vectors * inverse_lengths(vectors)[:, np.newaxis]


def inverse_lengths(vectors: np.ndarray) -> np.ndarray:
    """1 / the length of each vector, [n]; 1 for those of length 0."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return 1 / np.where(norms > 0, norms, norms.dtype.type(1))


def _ahead(lanes: Sequence[Iterator[_T]]) -> Iterator[_T]:
    """Takes turns among iterators, each of which makes its next item on a thread meanwhile."""
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="embedbeam reads") as threads:
        turns = collections.deque((lane, threads.submit(next, lane, None)) for lane in lanes)
        while turns:
            lane, future = turns.popleft()
            if (item := future.result()) is not None:
                turns.append((lane, threads.submit(next, lane, None)))
                yield item


def _blocks(
    output: Output,
    parts: Sequence[Part],
    metric: str,
    keep: Callable[[Part], np.ndarray] | None,
    seen: Callable[[int], None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places and vectors of the rows that are looked at."""
    for part in parts:
        groups, places, wanted = None, np.arange(part.rows), None
        if keep is not None:
            wanted = keep(part)
            seen(part.rows - int(wanted.sum()))
            if not wanted.any():
                continue
            groups, places = _groups(output, part, wanted)
        at = 0
        for block in output.part(part.name, output.vector_columns, block_rows=_BLOCK_ROWS, row_groups=groups):
            here, vectors = places[at : at + len(block)], output.matrix(block)
            at += len(block)
            if wanted is not None:
                here, vectors = here[wanted[here]], vectors[wanted[here]]
            if len(here):
                yield here + part.first, unit(vectors) if metric == "cosine" else vectors


def _groups(output: Output, part: Part, wanted: np.ndarray) -> tuple[list[int] | None, np.ndarray]:
    """The row groups that hold a wanted row, and the places of all their rows in the part."""
    if output.format != "parquet":
        return None, np.arange(part.rows)
    group_of = np.searchsorted(output.row_group_ends(part.name), np.arange(part.rows), side="right")
    groups = np.unique(group_of[wanted])
    return groups.tolist(), np.flatnonzero(np.isin(group_of, groups))
