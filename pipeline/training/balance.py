"""Mini-batches with as many rows of each class: a class that is rare is drawn from again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.training import columns
from pipeline.training.columns import Block, Column
from transforms.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Balance:
    """Which classes there are, and rows of each for windows that lack them.

    Attributes:
      label: the column that tells a row's class.
      classes: its values, sorted; a null is none.
      rows: how many there are.
      reserve: rows drawn at random, of each class as many as any, or all that it has; None where the rows
        are a single window.
      reserve_codes: int [rows of the reserve], the place of each row's class in `classes`.
    """

    label: str
    classes: Column
    rows: int
    reserve: Block | None = None
    reserve_codes: np.ndarray | None = None

    def codes(self, block: Block) -> np.ndarray:
        """int64 [rows]: the place of each row's class; -1 for a null."""
        return codes_of(block[self.label], self.classes)

    def draw(self, window: Block, first: int, random: np.random.Generator) -> np.ndarray:
        """As many rows as the window has, the classes in turns, so that mini-batches that are cut from
        them differ by one row of a class at most. Of a class with more rows some are left out.

        Args:
          first: how many rows of the epoch came before.

        Returns:
          int64 [rows of the window]: places in the window, and from its number of rows on in the reserve.
        """
        rows, count = columns.size(window), len(self.classes)
        wanted = (first + np.arange(rows)) % count
        codes, drawn = self.codes(window), []
        for code, need in enumerate(np.bincount(wanted, minlength=count).tolist()):
            fresh = random.permutation(np.flatnonzero(codes == code))[:need]
            if len(fresh) < need:
                kept = self._of_reserve(code)
                more = rows + random.permutation(kept) if len(kept) else fresh
                fresh = np.concatenate([fresh, np.resize(more, need - len(fresh))])
            drawn.append(fresh)
        places = np.empty(rows, np.int64)
        places[np.argsort(wanted, kind="stable")] = np.concatenate(drawn)
        return places

    def _of_reserve(self, code: int) -> np.ndarray:
        if self.reserve_codes is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.reserve_codes == code)


def take(window: Block, reserve: Block | None, places: np.ndarray) -> Block:
    """Rows of a window, and from its number of rows on of the reserve."""
    rows = columns.size(window)
    own = places < rows
    if reserve is None or own.all():
        return columns.take(window, places)
    both = columns.joined([columns.take(window, places[own]), columns.take(reserve, places[~own] - rows)])
    order = np.empty(len(places), np.int64)
    order[np.flatnonzero(own)] = np.arange(own.sum())
    order[np.flatnonzero(~own)] = np.arange(own.sum(), len(places))
    return columns.take(both, order)


def read_codes(labels: Iterable[Column], label: str) -> tuple[Column, np.ndarray]:
    """A column's values, sorted, without nulls; and int32 [rows], the place of each row's, -1 for a null.

    Raises:
      UsageError: it has none.
    """
    blocks = []
    for column in labels:
        own = unique(column)
        blocks.append((own, codes_of(column, own).astype(np.int32)))
    classes = classes_of((own for own, _ in blocks), label)
    codes = [np.append(codes_of(own, classes), -1).astype(np.int32)[places] for own, places in blocks]
    return classes, np.concatenate(codes)


def classes_of(labels: Iterable[Column], label: str) -> Column:
    """The values of a column, sorted, without nulls.

    Raises:
      UsageError: it has none.
    """
    found: list[Column] = []
    for column in labels:
        known = columns.joined([{label: one} for one in [*found, unique(column)]])[label]
        found = [unique(known)]
    if not found or not len(found[0]):
        raise UsageError(f"column {label!r}: every row's is null, so that there are no classes to balance")
    return found[0]


def unique(column: Column) -> Column:
    if isinstance(column, np.ndarray):
        some = np.unique(column)
        return some[some == some]  # NaN is no class
    some = pc.unique(column).drop_null()
    return some.take(pc.array_sort_indices(some))


def codes_of(column: Column, classes: Column) -> np.ndarray:
    """int64 [rows]: places in the sorted classes; -1 for what is none of them."""
    if not len(classes):
        return np.full(len(column), -1)
    if isinstance(column, np.ndarray):
        places = np.minimum(np.searchsorted(classes, column), len(classes) - 1)
        return np.where(classes[places] == column, places, -1)
    assert isinstance(classes, pa.Array)
    return pc.index_in(column, value_set=classes).fill_null(-1).to_numpy().astype(np.int64)


def choose_reserve(
    codes: np.ndarray, count: int, each: int, random: np.random.Generator, run: int
) -> np.ndarray:
    """Places of rows, ascending: of each class `each` at most, of as few runs of rows as has them.

    The runs are taken in an order of chance, one after the other: any row of a class may come, and those of
    a run are equally likely; but a row in a run with few of its class is likelier than one among many.

    Args:
      run: rows of a run.
    """
    order = random.permutation(-(-len(codes) // run))
    chosen = []
    for code in range(count):
        rows = random.permutation(np.flatnonzero(codes == code))
        chosen.append(rows[np.argsort(order[rows // run], kind="stable")[:each]])
    return np.sort(np.concatenate(chosen))


def at_places(blocks: Iterator[Block], places: np.ndarray) -> Block:
    """The rows at these places, counted over all blocks; ascending."""
    found: list[Block] = []
    begin = 0
    for block in blocks:
        end = begin + columns.size(block)
        low, high = np.searchsorted(places, [begin, end])
        if low < high or not found:
            found.append(columns.take(block, places[low:high] - begin))
        begin = end
    return columns.joined(found)
