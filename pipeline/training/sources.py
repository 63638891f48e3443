"""Where rows come from: an output folder, arrays in memory, or a function that gives them one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.training import columns
from pipeline.training.columns import Block
from transforms.errors import UsageError
from transforms.output.reader import Output

BLOCK_ROWS = 4096
_KINDS_ROWS = 65_536  # of a generator, in which a column must have a value that tells its type


class Source(Protocol):
    """Rows in parts, each of which can be read by itself from any row on.

    Attributes:
      parts: rows of each; None where that is known only when all have been read.
      in_memory: whether rows anywhere can be had at no cost.
    """

    @property
    def parts(self) -> Sequence[int] | None: ...

    @property
    def in_memory(self) -> bool: ...

    def read(self, part: int, first: int) -> Iterator[Block]:
        """A part's rows from one on, in blocks."""

    def only(self, names: Sequence[str]) -> Source:
        """The same rows with some columns."""


class ArraySource:
    """Arrays of as many rows each."""

    in_memory = True

    def __init__(self, arrays: Mapping[str, Any]):
        """Takes a dict of arrays.

        Raises:
          UsageError: there are none, or they are not of one length.
        """
        self._block = {name: columns.of_values(name, values) for name, values in arrays.items()}
        counts = {name: len(column) for name, column in self._block.items()}
        if not counts or len(set(counts.values())) != 1:
            raise UsageError(f"arrays of as many rows each are expected, got {counts}")
        self.parts = [columns.size(self._block)]

    def read(self, part: int, first: int) -> Iterator[Block]:
        yield columns.part(self._block, first, self.parts[part])

    def only(self, names: Sequence[str]) -> Source:
        return ArraySource({name: self._block[name] for name in names})


class RowSource:
    """A function that returns an iterator of rows, dicts of values, and is called for each epoch.

    The first rows tell what each column's values are; all others must be the same.
    """

    in_memory, parts = False, None

    def __init__(
        self,
        rows: Callable[[], Iterable[Mapping[str, Any]]],
        names: Sequence[str] | None,
        kinds: Mapping[str, columns.Kind] | None = None,
    ):
        self._rows, self._names, self._kinds = rows, names, kinds

    def read(self, part: int, first: int) -> Iterator[Block]:
        rows = self._begun()
        if self._kinds is None:
            rows = self._settled(rows)
        rows = itertools.islice(rows, first, None)
        while some := list(itertools.islice(rows, BLOCK_ROWS)):
            yield {
                name: columns.of_kind(name, _values(some, name), kind)
                for name, kind in (self._kinds or {}).items()
            }

    def _begun(self) -> Iterator[Mapping[str, Any]]:
        rows = self._rows()
        try:
            return iter(rows)
        except TypeError:
            raise UsageError(
                f"the function returned {type(rows).__name__}: expected an iterator of rows, dicts of values"
            ) from None

    def _settled(self, rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The same rows, of which as many have been read as tell the columns' kinds."""
        seen: list[Mapping[str, Any]] = []
        kinds: dict[str, columns.Kind] = {}
        while len(seen) < _KINDS_ROWS and not (kinds and all(map(columns.is_known, kinds.values()))):
            some = list(itertools.islice(rows, BLOCK_ROWS))
            if not some:
                break
            for name in self._names or _names_of(some[0]):
                if name not in kinds or not columns.is_known(kinds[name]):
                    told = columns.kind_of(name, _values(some, name))
                    if name not in kinds or not pa.types.is_null(told):
                        kinds[name] = told
            seen += some
        self._kinds = kinds or None
        return itertools.chain(seen, rows)

    def only(self, names: Sequence[str]) -> Source:
        return RowSource(self._rows, names, self._kinds and {name: self._kinds[name] for name in names})


def _names_of(row: Mapping[str, Any]) -> list[str]:
    if not isinstance(row, Mapping) or not row:
        raise UsageError(f"rows of a generator are dicts of columns' values, got {row!r:.80}")
    return list(row)


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except (KeyError, TypeError, IndexError) as e:
        raise UsageError(f"rows of a generator are dicts with {name}: {e!r}") from e


class OutputSource:
    """The rows of an output folder, or some of them.

    Attributes:
      output: the folder.
    """

    in_memory = False

    def __init__(
        self,
        output: Output,
        names: Sequence[str],
        *,
        chosen: np.ndarray | None = None,
        more: Mapping[str, np.ndarray] | None = None,
    ):
        """Takes the columns that are wanted.

        Args:
          chosen: bool [rows], which rows there shall be, in the order of `Output.rows`; None: all.
          more: columns that are not in the folder, of all rows, in the same order.

        Raises:
          UsageError: there is no such column.
        """
        self.output, self._more = output, dict(more or {})
        self._wanted = read = [name for name in dict.fromkeys(names) if name not in self._more]
        stored = (output.vector_columns if name == "embedding" else [name] for name in read)
        self._names = list(dict.fromkeys(itertools.chain(*stored)))
        output.check_columns(self._names)
        found = [(receipt.part, receipt.rows) for receipt in output.receipts if receipt.part is not None]
        self._files = [name for name, _ in found]
        self._rows = [rows for _, rows in found]
        self._starts = np.cumsum([0, *self._rows])
        self._chosen = chosen
        self.parts = self._rows if chosen is None else [len(self._places(i)) for i in range(len(found))]

    def _places(self, part: int) -> np.ndarray:
        """Which of a part's rows there shall be."""
        assert self._chosen is not None
        return np.flatnonzero(self._chosen[self._starts[part] : self._starts[part + 1]])

    def only(self, names: Sequence[str]) -> Source:
        return OutputSource(self.output, names, chosen=self._chosen, more=_some(self._more, names))

    def read(self, part: int, first: int) -> Iterator[Block]:
        places = None if self._chosen is None else self._places(part)[first:]
        if places is not None:
            first = int(places[0]) if len(places) else self._rows[part]
        for begin, end, block in self._blocks(part, first):
            for name, values in self._more.items():
                block[name] = values[self._starts[part] + begin : self._starts[part] + end]
            if places is None:
                yield block
            else:
                low, high = np.searchsorted(places, [begin, end])
                yield columns.take(block, places[low:high] - begin)

    def _blocks(self, part: int, first: int) -> Iterator[tuple[int, int, Block]]:
        """Blocks with their first row's place and their end's; row groups that end before are not decoded."""
        if not self._names:
            yield first, self._rows[part], {}
            return
        name, groups, at = self._files[part], None, 0
        if first and self.output.format == "parquet":
            ends = self.output.row_group_ends(name)
            skipped = int(np.searchsorted(ends, first, side="right"))
            groups, at = list(range(skipped, len(ends))), int(ends[skipped - 1]) if skipped else 0
            if not groups:
                return
        for rows in self.output.part(name, self._names, block_rows=BLOCK_ROWS, row_groups=groups):
            begin, end = max(at, first), at + len(rows)
            if begin < end:
                yield begin, end, columns.of_arrow(rows.slice(begin - at), self._wanted)
            at = end


def _some(columns_by_name: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: columns_by_name[name] for name in names if name in columns_by_name}
