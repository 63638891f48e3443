"""Exact search: every row is held against every question, in blocks: memory does not grow with rows."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from transforms.output.reader import Output

METRICS = ("cosine", "dot")
QUESTIONS = 8192  # most that one pass over the rows answers: the next ones read these again
_BLOCK_ROWS = 8192
TILE = 256  # questions of one product: its scores, 8 MiB, are looked through while they are in a cache
_READERS = 4  # threads that decode; one keeps up with a matmul for some hundred questions
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
        of = slice(first, first + len(scores))
        k, floor, last = self.scores.shape[1], self.scores[of, -1], self.places[of, -1]
        # Most rows are worse than all that a question has: the largest score tells, in one quick pass.
        hot = np.flatnonzero(scores.max(axis=1, initial=-np.inf) >= floor)
        if not len(hot):
            return
        new, floor, last = scores[hot] if len(hot) < len(scores) else scores, floor[hot], last[hot]
        if np.isneginf(floor).any() and k < len(places):
            floor = np.maximum(floor, np.partition(new, -k, axis=1)[:, -k])
            last = np.full(len(hot), np.iinfo(np.int64).max)
        # Of equal rows the first count: none of a block that lies behind all that is there.
        late = places[0] > last.max()
        better = new > floor[:, np.newaxis] if late else new >= floor[:, np.newaxis]
        question, row = np.divmod(np.flatnonzero(better), len(places))
        every = np.concatenate([self.scores[of][hot].ravel(), new[question, row]])
        where = np.concatenate([self.places[of][hot].ravel(), places[row]])
        whose = np.concatenate([np.repeat(np.arange(len(hot)), k), question])
        order = np.lexsort((where, -every, whose))
        starts = np.searchsorted(whose[order], np.arange(len(hot)))
        chosen = order[starts[:, np.newaxis] + np.arange(k)]  # each has k at least: those it had
        self.scores[hot + first], self.places[hot + first] = every[chosen], where[chosen]

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

    Memory: the questions, k scores and places for each, and some blocks of rows. Threads read ahead while
    this one multiplies. The same machine gives the same result: blocks do not depend on threads.

    Args:
      questions: float32 [n, dim]; with metric cosine of any length.
      metric: cosine, or dot for the bare product.
      parts: those that are searched; None for all.
      keep: which rows of a part are looked at, bool [rows]; None for all.
      seen: is told of rows as they are done.
    """
    questions = unit(questions) if metric == "cosine" else questions
    best = Best(len(questions), k)
    for places, vectors in blocks_of(output, metric, parts=parts, keep=keep, seen=seen):
        for first in range(0, len(questions), TILE):
            best.add(questions[first : first + TILE] @ vectors.T, places, first)
        seen(len(places))
    return best


def blocks_of(
    output: Output,
    metric: str,
    *,
    parts: Sequence[Part] | None = None,
    keep: Callable[[Part], np.ndarray] | None = None,
    seen: Callable[[int], None] = lambda rows: None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places and vectors, of length 1 for cosine, in blocks that threads read ahead, in a fixed order."""
    import pyarrow.parquet  # noqa: F401  # in this thread, and not first in one that ends

    parts = parts_of(output) if parts is None else parts
    count = max(1, min(_READERS, os.cpu_count() or 1, len(parts)))
    return _ahead([_blocks(output, parts[lane::count], metric, keep, seen) for lane in range(count)])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, dim] of length 1; those of length 0 stay as they are."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.where(norms > 0, norms, 1)[:, np.newaxis]


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
