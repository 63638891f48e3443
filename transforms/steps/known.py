"""Known documents among those that were embedded: their rows taken from the earlier outputs, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from transforms.blocks import FINGERPRINT, INDEX, Known, RowBlock
from transforms.elements import ShardReceipt
from transforms.errors import LedgerError
from transforms.output.reader import Output
from transforms.output.sample import rows_of_part
from transforms.output.vectors import SCALE

# Known documents are taken together, since a row group is decoded for one row as for all of it.
_BYTES_AT_ONCE = 64 << 20
_FINGERPRINT = FINGERPRINT - 1  # the payload is gone
_PER_ROW = ("vectors", "tokens", "dropped", "payloads", "chunk", "start", "end")


class Earlier(Protocol):
    """An earlier output, and the sound part files of its shards."""

    output: Output

    def receipt(self, shard: int) -> ShardReceipt | None: ...


class Taker:
    """Puts known documents among those that were embedded, in the order of the input."""

    def __init__(self, earlier: Sequence[Earlier], shared: int | None = None):
        """`shared` is the number of the output that is of this job."""
        self._earlier, self._shared = earlier, shared
        self._row_bytes = 4 * earlier[0].output.dim
        self.clear()

    def clear(self) -> None:
        self._known: list[Known] = []
        self._missed: np.ndarray = np.empty(0, np.int64)  # neither embedded nor dead so far
        self._bytes = 0

    def add(self, known: Known) -> Iterator[RowBlock]:
        self._missed = np.concatenate([self._missed, known.missed])
        if len(known.rows):
            self._known.append(known)
            self._bytes += int(known.rows.sum()) * self._row_bytes + known.weight
        if self._bytes >= _BYTES_AT_ONCE:
            yield from self.before(self._missed.min(initial=np.iinfo(np.int64).max))

    def dead(self, indices: Sequence[int]) -> None:
        self._missed = np.setdiff1d(self._missed, indices)

    def embedded(self, block: RowBlock) -> Iterator[RowBlock]:
        """The rows of a block, with the known ones before and between them."""
        own = block.columns.column(INDEX).to_numpy()
        self._missed = np.setdiff1d(self._missed, own)
        yield from self.before(int(own[0]))
        low = 0
        for piece in self.before(int(own[-1])):  # one at a time: many may lie between a shard's two new ones
            high = int(np.searchsorted(own, piece.columns.column(INDEX)[-1].as_py()))
            yield _in_order([_rows(block, low, high), piece]) if high > low else piece
            low = high
        yield _rows(block, low, len(own)) if low else block

    def before(self, index: int) -> Iterator[RowBlock]:
        """The known documents that come before a place in the shard."""
        taken: list[Known] = []
        left: list[Known] = []
        for known in self._known:
            first = int(np.searchsorted(known.columns.column(INDEX).to_numpy(), index))
            taken += [known.part(0, first)] if first else []
            left += [known.part(first, len(known.rows))] if first < len(known.rows) else []
        self._known = left
        self._bytes = sum(int(one.rows.sum()) * self._row_bytes + one.weight for one in left)
        some: list[Known] = []
        for one in taken:
            some.append(one)
            if sum(int(known.rows.sum()) for known in some) * self._row_bytes >= _BYTES_AT_ONCE:
                yield take(some, self._earlier, self._shared)
                some = []
        if some:
            yield take(some, self._earlier, self._shared)


def _rows(block: RowBlock, low: int, high: int) -> RowBlock:
    """Some rows of a block that was embedded, all of their documents."""
    columns = block.columns.slice(low, high - low)
    parts: dict[str, Any] = {name: getattr(block, name) for name in _PER_ROW}
    some: dict[str, Any] = {name: None if part is None else part[low:high] for name, part in parts.items()}
    return RowBlock(
        shard_id=block.shard_id,
        documents=len(columns.column(INDEX).unique()),
        columns=columns,
        **some,
    )


def take(some: Sequence[Known], earlier: Sequence[Earlier], shared: int | None = None) -> RowBlock:
    """The rows of known documents as the earlier outputs have them, under their new ids and places."""
    columns = pa.concat_batches([known.columns for known in some])
    source, shards, firsts, rows = (
        np.concatenate([getattr(known, name) for known in some])
        for name in ("source", "shards", "firsts", "rows")
    )
    output = earlier[0].output
    owners = np.repeat(np.arange(len(rows)), rows)
    wanted = firsts[owners] + np.arange(len(owners)) - np.repeat(np.cumsum(rows) - rows, rows)
    schema = output.schema
    names = ["fingerprint", *output.vector_columns, "tokens", "tokens_dropped"]
    names += ["chunk", "start", "end"] if schema.chunks else []
    keeps = some[0].payloads is not None
    names += ["text"] if keeps and schema.chunks else []
    kinds = pa.schema([output.arrow.field(name) for name in names])
    tables, order = [], []
    by_part = np.lexsort((shards[owners], source[owners]))
    changes = (np.diff(source[owners[by_part]]) != 0) | (np.diff(shards[owners[by_part]]) != 0)
    for mine in np.split(by_part, np.flatnonzero(changes) + 1):
        chosen, at = np.unique(wanted[mine], return_inverse=True)
        one = earlier[source[owners[mine[0]]]]
        receipt = one.receipt(int(shards[owners[mine[0]]]))
        if receipt is None or receipt.part is None or chosen[-1] >= receipt.rows:
            raise _changed(earlier)
        found = pa.Table.from_batches(rows_of_part(one.output, receipt.part, chosen, names))
        tables.append(found.cast(kinds).take(pa.array(at)))
        order.append(mine)
    back = np.argsort(np.concatenate(order), kind="stable")
    table = pa.concat_tables(tables).take(pa.array(back)).combine_chunks()
    if not table["fingerprint"].chunk(0).equals(columns.column(_FINGERPRINT).take(pa.array(owners))):
        raise _changed(earlier)

    def numbers(name: str) -> np.ndarray | None:
        column = table.column(name)
        return None if column.null_count else column.to_numpy()

    payloads = None
    if keeps:
        given = pa.concat_arrays([known.payloads for known in some])
        payloads = table.column("text").combine_chunks() if schema.chunks else given
    spans: dict[str, Any] = {name: numbers(name) for name in ("chunk", "start", "end") if name in names}
    return RowBlock(
        shard_id=some[0].shard_id,
        documents=len(rows),
        columns=columns.take(pa.array(owners)),
        vectors=output.matrix(table),
        tokens=numbers("tokens"),
        dropped=numbers("tokens_dropped"),
        payloads=payloads,
        **spans,
        scale=numbers(SCALE) if SCALE in names else None,
        reused=int((source != shared).sum()) if shared is not None else len(rows),
        copied=sum(int(known.copies.sum()) for known in some),
    )


def _changed(earlier: Sequence[Earlier]) -> LedgerError:
    paths = ", ".join(one.output.folder.path for one in earlier)
    return LedgerError(f"{paths}: has changed since it was opened; run the same command again")


def _in_order(blocks: Sequence[RowBlock]) -> RowBlock:
    """Blocks of one shard as one, by the places of their documents in it."""
    columns = pa.concat_batches([block.columns for block in blocks])
    order = np.argsort(columns.column(INDEX).to_numpy(), kind="stable")
    scales = [block.scale for block in blocks]

    def joined(name: str) -> Any:
        values = [getattr(block, name) for block in blocks]
        if any(value is None for value in values):
            return None
        if isinstance(values[0], np.ndarray):
            return np.concatenate(values)[order]
        return pa.concat_arrays(values).take(pa.array(order))

    scale = None
    if any(one is not None for one in scales):
        computed = (np.full(len(block.vectors), np.nan, np.float32) for block in blocks)
        scale = np.concatenate(
            [new if one is None else one for one, new in zip(scales, computed, strict=True)]
        )[order]
    return RowBlock(
        shard_id=blocks[0].shard_id,
        documents=sum(block.documents for block in blocks),
        columns=columns.take(pa.array(order)),
        **{name: joined(name) for name in _PER_ROW},
        scale=scale,
        reused=sum(block.reused for block in blocks),
        copied=sum(block.copied for block in blocks),
    )
