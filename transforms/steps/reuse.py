"""Documents whose vectors an earlier output has: found behind the reading, taken before the writing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.blocks import FINGERPRINT, INDEX, PAYLOAD, DeadLetters, DocumentBlock, Known, RowBlock
from transforms.elements import Element, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.output.fingerprints import PLACE, ROWS, find, index_of, is_sound
from transforms.output.reader import Output, open_output
from transforms.output.sample import rows_at
from transforms.output.vectors import SCALE

# Known documents are looked up together, since a row group is decoded for one row as for all of it.
_BYTES_AT_ONCE = 64 << 20
_PER_ROW = ("vectors", "tokens", "dropped", "payloads", "chunk", "start", "end")


@dataclasses.dataclass(frozen=True)
class ReuseConfig:
    """Which outputs have vectors that fit.

    Attributes:
      outputs: paths or URLs and the identities of their jobs; the first that has a document gives its rows.
      keep_payload: whether the rows carry what was embedded.
    """

    outputs: tuple[tuple[str, str], ...]
    keep_payload: bool = False


class Previous:
    """An earlier output, and where its fingerprints are."""

    def __init__(self, path: str, job: str):
        self.output = open_output(path)
        if self.output.plan.job != job:
            raise LedgerError(f"{path}: is another job's by now; run the command again")
        self.index = index_of(self.output)
        found = [receipt for receipt in self.output.receipts if receipt.part is not None]
        self._receipts, self._ends = found, np.cumsum([receipt.rows for receipt in found])
        self._sound: dict[int, bool] = {}

    def find(self, fingerprints: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Of documents the place of their first row, -1 where there is none, and how many they have.

        Parts that are damaged have none.
        """
        at = find(self.index, fingerprints)
        places, rows = np.full(len(at), -1), np.zeros(len(at), np.int64)
        there = at >= 0
        places[there], rows[there] = self.index[PLACE, at[there]], self.index[ROWS, at[there]]
        parts = np.searchsorted(self._ends, places, side="right")
        for part in np.unique(parts[there]).tolist():
            if not self._is_sound(part):
                places[there & (parts == part)] = -1
        return places, rows

    def _is_sound(self, part: int) -> bool:
        """Whether the part file is, byte for byte, what its receipt says; looked at once."""
        if part not in self._sound:
            self._sound[part] = is_sound(self.output, self._receipts[part])
        return self._sound[part]


@functools.cache
def previous(path: str, job: str) -> Previous:
    """The process's own, which all its DoFns share."""
    return Previous(path, job)


class _FindFn(beam.DoFn):
    def __init__(self, config: ReuseConfig):
        self._config = config

    def setup(self) -> None:
        self._all = [previous(*one) for one in self._config.outputs]

    def process(self, element: Any) -> Iterator[Any]:
        if not isinstance(element, DocumentBlock):
            yield element
            return
        count = element.columns.num_rows
        source, places, rows = np.full(count, -1), np.full(count, -1), np.zeros(count, np.int64)
        for number, one in enumerate(self._all):
            left = np.flatnonzero(source < 0)
            if len(left):
                there, many = one.find(element.columns.column(FINGERPRINT).take(pa.array(left)))
                hits = left[there >= 0]
                source[hits], places[hits], rows[hits] = number, there[there >= 0], many[there >= 0]
        known, missed = np.flatnonzero(source >= 0), np.flatnonzero(source < 0)
        columns = element.columns.take(pa.array(known))
        yield Known(
            shard_id=element.shard_id,
            columns=columns.remove_column(PAYLOAD),
            payloads=columns.column(PAYLOAD) if self._config.keep_payload else None,
            source=source[known],
            places=places[known],
            rows=rows[known],
            missed=element.columns.column(INDEX).to_numpy()[missed],
        )
        if len(missed):
            rest = element if len(missed) == count else None
            yield rest or DocumentBlock(element.shard_id, element.columns.take(pa.array(missed)))


class Taker:
    """Puts known documents among those that were embedded, in the order of the input."""

    def __init__(self, outputs: Sequence[Output]):
        self._outputs = outputs
        self.clear()

    def clear(self) -> None:
        self._known: list[Known] = []
        self._missed: np.ndarray = np.empty(0, np.int64)  # neither embedded nor dead so far
        self._bytes = 0

    def add(self, known: Known) -> Iterator[RowBlock]:
        self._missed = np.concatenate([self._missed, known.missed])
        if len(known.rows):
            self._known.append(known)
            self._bytes += int(known.rows.sum()) * 4 * self._outputs[0].dim + known.weight
        if self._bytes >= _BYTES_AT_ONCE:
            yield from self.before(self._missed.min(initial=np.iinfo(np.int64).max))

    def dead(self, indices: Sequence[int]) -> None:
        self._missed = np.setdiff1d(self._missed, indices)

    def embedded(self, block: RowBlock) -> Iterator[RowBlock]:
        """The rows of a block, with the known ones before and between them."""
        own = block.columns.column(INDEX).to_numpy()
        self._missed = np.setdiff1d(self._missed, own)
        yield from self.before(int(own[0]))
        between = list(self.before(int(own[-1])))
        yield _in_order([block, *between]) if between else block

    def before(self, index: int) -> Iterator[RowBlock]:
        """The known documents that come before a place in the shard."""
        taken: list[Known] = []
        left: list[Known] = []
        for known in self._known:
            first = int(np.searchsorted(known.columns.column(INDEX).to_numpy(), index))
            taken += [known.part(0, first)] if first else []
            left += [known.part(first, len(known.rows))] if first < len(known.rows) else []
        self._known = left
        self._bytes = sum(int(one.rows.sum()) * 4 * self._outputs[0].dim + one.weight for one in left)
        some: list[Known] = []
        for one in taken:
            some.append(one)
            if sum(int(known.rows.sum()) for known in some) * 4 * self._outputs[0].dim >= _BYTES_AT_ONCE:
                yield take(some, self._outputs)
                some = []
        if some:
            yield take(some, self._outputs)


def take(some: Sequence[Known], outputs: Sequence[Output]) -> RowBlock:
    """The rows of known documents as the earlier outputs have them, under their new ids and places."""
    columns = pa.concat_batches([known.columns for known in some])
    source, places, rows = (
        np.concatenate([getattr(known, name) for known in some]) for name in ("source", "places", "rows")
    )
    owners = np.repeat(np.arange(len(rows)), rows)
    firsts = np.repeat(np.cumsum(rows) - rows, rows)
    wanted = places[owners] + np.arange(len(owners)) - firsts  # place of each row in its output
    schema = outputs[0].schema
    names = [*outputs[0].vector_columns, "tokens", "tokens_dropped"]
    names += ["chunk", "start", "end"] if schema.chunks else []
    keeps = some[0].payloads is not None
    names += ["text"] if keeps and schema.chunks else []
    kinds = pa.schema([outputs[0].arrow.field(name) for name in names])
    tables, order = [], []
    for number, output in enumerate(outputs):
        mine = np.flatnonzero(source[owners] == number)
        if len(mine):
            chosen, at = np.unique(wanted[mine], return_inverse=True)
            found = pa.Table.from_batches(rows_at(output, chosen, names, whole=True))
            tables.append(found.cast(kinds).take(pa.array(at)))
            order.append(mine)
    back = np.argsort(np.concatenate(order), kind="stable")
    table = pa.concat_tables(tables).take(pa.array(back)).combine_chunks()

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
        vectors=outputs[0].matrix(table),
        tokens=numbers("tokens"),
        dropped=numbers("tokens_dropped"),
        payloads=payloads,
        **spans,
        scale=numbers(SCALE) if SCALE in names else None,
        reused=len(rows),
    )


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
    )


class _TakeFn(beam.DoFn):
    def __init__(self, config: ReuseConfig):
        self._config = config

    def setup(self) -> None:
        self._taker = Taker([previous(*one).output for one in self._config.outputs])

    def start_bundle(self) -> None:
        self._taker.clear()

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, Known):
            yield from self._taker.add(element)
            return
        if isinstance(element, RowBlock):
            yield from self._taker.embedded(element)
            return
        if isinstance(element, DeadLetters):
            self._taker.dead([letter.index for letter in element.letters])
        elif isinstance(element, EndOfShard):
            yield from self._taker.before(np.iinfo(np.int64).max)
            self._taker.clear()
        elif isinstance(element, ShardFailed):
            self._taker.clear()
        yield element


@dataclasses.dataclass(eq=False)
class FindKnown(beam.PTransform):
    """DocumentBlock -> Known, and DocumentBlock of those that are not; all else passes."""

    config: ReuseConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_FindFn(self.config)).with_output_types(Element)


@dataclasses.dataclass(eq=False)
class TakeKnown(beam.PTransform):
    """RowBlock and Known -> RowBlock, in the order of the input; all else passes."""

    config: ReuseConfig

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | beam.ParDo(_TakeFn(self.config)).with_output_types(Element)
