"""Documents whose vectors an earlier output has: found behind the reading, taken before the writing."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.blocks import FINGERPRINT, INDEX, PAYLOAD, DeadLetters, DocumentBlock, Known, RowBlock
from transforms.elements import Element, EndOfShard, ShardFailed, ShardReceipt
from transforms.errors import LedgerError
from transforms.output import ledger
from transforms.output.fingerprints import SHARD, SPAN, find, halves, index_of, is_sound, release, unspan
from transforms.output.reader import open_output
from transforms.steps.known import Taker


class Earlier(NamedTuple):
    """An earlier output.

    Attributes:
      path: or URL.
      job: identity of its job.
      whole: whether whole shards can be taken over.
      contents: the same as long as no rows come or go.
    """

    path: str
    job: str
    whole: bool = False
    contents: str = ""


@dataclasses.dataclass(frozen=True)
class ReuseConfig:
    """Which outputs have vectors that fit.

    Attributes:
      outputs: the first that has a document gives its rows.
      keep_payload: whether the rows carry what was embedded.
      shared: whether the last of them is of this job: what has copies, embedded before all else.
      joined: whether a Beam stage has found where the known documents are, before the documents are read.
      buckets: into how many groups that stage puts the fingerprints, a power of two.
    """

    outputs: tuple[Earlier, ...]
    keep_payload: bool = False
    shared: bool = False
    joined: bool = False
    buckets: int = 0

    @property
    def own(self) -> int | None:
        """Number of the output that is of this job."""
        return len(self.outputs) - 1 if self.shared else None

    @property
    def name(self) -> str:
        """The same for the same outputs, in the same order."""
        return hashlib.sha256(
            json.dumps([(one.path, one.job, one.contents) for one in self.outputs]).encode()
        ).hexdigest()[:16]


class Previous:
    """An earlier output, as this process has it open."""

    def __init__(self, path: str, job: str):
        self.output = open_output(path, lenient=True)
        if self.output.plan.job != job:
            raise LedgerError(f"{path}: is another job's by now; run the command again")
        self._sound: dict[int, ShardReceipt | None] = {}

    @functools.cached_property
    def index(self) -> np.ndarray:
        return index_of(self.output)

    def receipt(self, shard: int) -> ShardReceipt | None:
        """Of a shard whose part file is, byte for byte, what the receipt says; looked at once.

        None where it is not, or the receipt cannot be read.
        """
        if shard not in self._sound:
            try:
                found = ledger.committed(self.output.folder, f"{shard:016x}", self.output.plan.job)
            except LedgerError:  # the launcher has said so
                found = None
            sound = found is not None and is_sound(self.output, found)
            self._sound[shard] = found if sound else None
        return self._sound[shard]


@functools.cache
def previous(path: str, job: str) -> Previous:
    """The process's own, which all its DoFns share."""
    return Previous(path, job)


class Places(NamedTuple):
    """Of documents the number of the earlier output that has them (-1: none), shard and span there."""

    source: np.ndarray
    shards: np.ndarray
    spans: np.ndarray

    @classmethod
    def nowhere(cls, count: int) -> Places:
        return cls(np.full(count, -1), np.zeros(count, np.uint64), np.zeros(count, np.uint64))

    def put(self, documents: np.ndarray, found: np.ndarray, earlier: Sequence[Previous]) -> None:
        """Places of documents: columns of an index, with the numbers of the outputs as one more row.

        Those whose part file is damaged stay nowhere.
        """
        pairs = set(zip(found[-1].tolist(), found[SHARD].tolist(), strict=True))
        sound = {pair for pair in pairs if earlier[pair[0]].receipt(pair[1]) is not None}
        keeps = [pair in sound for pair in zip(found[-1].tolist(), found[SHARD].tolist(), strict=True)]
        documents, found = documents[keeps], found[:, keeps]
        self.source[documents], self.shards[documents], self.spans[documents] = found[[-1, SHARD, SPAN]]


class Finder(Protocol):
    """Says where documents of a shard are, by both halves of their fingerprints, uint64 [n]."""

    def __call__(
        self, shard_id: str, high: np.ndarray, low: np.ndarray, earlier: Sequence[Previous]
    ) -> Places: ...


def in_indexes(shard_id: str, high: np.ndarray, low: np.ndarray, earlier: Sequence[Previous]) -> Places:
    """Looks fingerprints up in the indexes of the earlier outputs, which are mapped into memory."""
    places = Places.nowhere(len(high))
    for number, one in enumerate(earlier):
        left = np.flatnonzero(places.source < 0)
        at = find(one.index, high[left], low[left])
        found = np.vstack([one.index[:, at[at >= 0]], np.full((1, (at >= 0).sum()), number, np.uint64)])
        places.put(left[at >= 0], found, earlier)
        release(one.index)
    return places


class _FindFn(beam.DoFn):
    def __init__(self, config: ReuseConfig, find: Finder):
        self._config, self._find = config, find

    def setup(self) -> None:
        self._earlier = [previous(one.path, one.job) for one in self._config.outputs]

    def process(self, element: Any) -> Iterator[Any]:
        if not isinstance(element, DocumentBlock):
            yield element
            return
        (source, shards, spans), columns = self._places(element)
        known, missed = np.flatnonzero(source >= 0), np.flatnonzero(source < 0)
        columns = columns.take(pa.array(known))
        firsts, rows = unspan(spans[known])
        yield Known(
            shard_id=element.shard_id,
            columns=columns.remove_column(PAYLOAD),
            payloads=columns.column(PAYLOAD) if self._config.keep_payload else None,
            source=source[known],
            shards=shards[known],
            firsts=firsts,
            rows=rows,
            missed=element.columns.column(INDEX).to_numpy()[missed],
            copies=self._copied(element, source)[known],
        )
        if len(missed):
            yield DocumentBlock(element.shard_id, element.columns.take(pa.array(missed)))

    def _places(self, block: DocumentBlock) -> tuple[Places, pa.RecordBatch]:
        """Where the documents are, and their columns.

        A near copy that no output has takes the vector of its first, and with it the first's fingerprint,
        which tells what a vector is of.
        """
        columns, schema = block.columns, block.columns.schema
        own = columns.column(FINGERPRINT)
        places = self._find(block.shard_id, *halves(own), self._earlier)
        if block.copies is None or block.firsts is None:
            return places, columns
        left = np.flatnonzero((places.source < 0) & block.copies)
        found = self._find(block.shard_id, *halves(block.firsts.take(pa.array(left))), self._earlier)
        there = found.source >= 0
        for column, values in zip(places, found, strict=True):
            column[left[there]] = values[there]
        taken = np.zeros(len(own), bool)
        taken[left[there]] = True
        prints = pc.if_else(pa.array(taken), block.firsts, own)
        return places, columns.set_column(FINGERPRINT, schema.field(FINGERPRINT), prints)

    def _copied(self, block: DocumentBlock, source: np.ndarray) -> np.ndarray:
        return (source == self._config.own) & (False if block.copies is None else block.copies)


class _TakeFn(beam.DoFn):
    def __init__(self, config: ReuseConfig):
        self._config = config

    def setup(self) -> None:
        earlier = [previous(one.path, one.job) for one in self._config.outputs]
        self._taker = Taker(earlier, self._config.own)

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
    find: Finder = in_indexes

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_FindFn(self.config, self.find)).with_output_types(Element)


@dataclasses.dataclass(eq=False)
class TakeKnown(beam.PTransform):
    """RowBlock and Known -> RowBlock, in the order of the input; all else passes."""

    config: ReuseConfig

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | beam.ParDo(_TakeFn(self.config)).with_output_types(Element)
