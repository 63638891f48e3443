"""Chunks of alike lengths into mini-batches of a token budget."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.blocks import Aside, ChunkBlock, DocumentBlock, Run
from transforms.elements import Element, EndOfShard, ShardFailed
from transforms.steps.config import WINDOW_CHUNKS
from transforms.steps.step import at_origin

# A window of large documents is closed before it has its number of chunks.
WINDOW_BYTES = 16 << 20
# A run takes at most so small a part of the budget: a mini-batch that the next one does not fit into is 7/8
# full.
_RUNS = 8
# So many blocks or bytes of dead letters fill a mini-batch: BatchElements holds back no more of them.
_LETTERS, _LETTER_BYTES = 64, 16 << 20


def joined(blocks: list[ChunkBlock], number: int) -> ChunkBlock:
    """Several blocks of one shard as one."""
    if len(blocks) == 1:
        return dataclasses.replace(blocks[0], number=number)

    def column(name: str) -> Any:
        values = [getattr(block, name) for block in blocks]
        return None if values[0] is None else np.concatenate(values)

    names = ("starts", "ends", "tokens", "costs", "document_tokens", "dropped")
    columns = [block.documents.columns for block in blocks]
    firsts = np.cumsum([0, *(documents.num_rows for documents in columns)])
    origins = [origin for block in blocks for origin in block.documents.origins or ()]
    whole = all(block.cut is None for block in blocks)
    ids = [block.ids for block in blocks]
    return ChunkBlock(
        number=number,
        documents=DocumentBlock(
            blocks[0].documents.shard_id, pa.concat_batches(columns), tuple(origins) or None
        ),
        cut=None if whole else pa.concat_arrays([block.payloads for block in blocks]),
        ids=None if ids[0] is None else pa.concat_arrays(ids),
        owners=np.concatenate([b.owners + first for b, first in zip(blocks, firsts, strict=False)]),
        **{name: column(name) for name in names},
    )


def runs_of(window: ChunkBlock, budget: int, *, longest_first: bool) -> Iterator[Run]:
    """The window's chunks by cost, in short runs; equal costs keep their order.

    The result depends on the chunks alone.
    """
    order = np.argsort(-window.costs if longest_first else window.costs, kind="stable")
    total = np.cumsum(window.costs[order]).tolist()
    begin, before, most = 0, 0, budget // _RUNS
    while begin < len(order):
        end = max(begin + 1, bisect.bisect_right(total, before + most, begin))
        yield Run(window, order[begin:end], total[end - 1] - before)
        begin, before = end, total[end - 1]


def cost_of(element: Any, budget: int) -> int:
    """What an element takes of the budget. A marker takes all of it, which closes the mini-batch before it.

    No element costs more than the budget: BatchElements would emit an empty list before it.
    """
    if isinstance(element, Run):
        return min(element.cost, budget)
    if isinstance(element, Aside):
        return min(max(1, budget // _LETTERS, budget * element.weight // _LETTER_BYTES), budget)
    return budget


@dataclasses.dataclass(eq=False)
class _OrderFn(beam.DoFn):
    """Holds a window of a shard's chunks, sorts it by length, empties it at a marker.

    Windows run alternately from long to short and from short to long, so that the mini-batch that straddles
    two of them has alike lengths too.
    """

    batch_tokens: int
    window_chunks: int = WINDOW_CHUNKS

    def start_bundle(self) -> None:
        self._number = self._chunks = self._bytes = 0
        self._window: list[ChunkBlock] = []

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, ChunkBlock):
            self._window.append(element)
            self._chunks += len(element.costs)
            # Whole documents, their chunks where those are cut, and their token ids.
            made = (element.cut, element.ids)
            self._bytes += sum(array.nbytes for array in made if array is not None)
            self._bytes += element.documents.columns.nbytes
            if self._chunks >= self.window_chunks or self._bytes >= WINDOW_BYTES:
                yield from self._release()
            return
        if isinstance(element, (EndOfShard, ShardFailed)):
            yield from self._release()
            self._number = 0
        yield element

    def finish_bundle(self) -> Iterator[Any]:
        return map(at_origin, self._release())

    def _release(self) -> Iterator[Run]:
        if self._window:
            window = joined(self._window, self._number)
            self._window, self._chunks, self._bytes = [], 0, 0
            self._number += 1
            yield from runs_of(window, self.batch_tokens, longest_first=window.number % 2 == 0)


@dataclasses.dataclass(eq=False)
class OrderByLength(beam.PTransform):
    """ChunkBlock -> Run: chunks of alike lengths, sorted within a window of one shard."""

    batch_tokens: int
    window_chunks: int = WINDOW_CHUNKS

    def expand(self, chunks: beam.PCollection) -> beam.PCollection:
        return chunks | beam.ParDo(_OrderFn(self.batch_tokens, self.window_chunks)).with_output_types(Element)


class _FirstOfBundle(Element):
    """Comes before a bundle's first element, costs the whole budget and so makes a mini-batch of its own.

    BatchElements takes the size of a bundle's first batch as the limit of its second one, even where both
    limits are equal. Without this, mini-batches would depend on which shard a bundle begins with.
    """


class _OpenFn(beam.DoFn):
    def start_bundle(self) -> None:
        self._opened = False

    def process(self, element: Any) -> Iterator[Any]:
        if not self._opened:
            self._opened = True
            yield _FirstOfBundle()
        yield element


@dataclasses.dataclass(eq=False)
class BatchByTokens(beam.PTransform):
    """Runs into mini-batches of at most `batch_tokens` tokens; none spans two shards."""

    batch_tokens: int

    def expand(self, runs: beam.PCollection) -> beam.PCollection:
        budget = self.batch_tokens
        return (
            runs
            | "Open" >> beam.ParDo(_OpenFn()).with_output_types(Element)
            # Equal limits switch off BatchElements' estimator, whose sizes depend on timing.
            | beam.BatchElements(
                min_batch_size=budget,
                max_batch_size=budget,
                element_size_fn=lambda element: cost_of(element, budget),
            )
            | "Filled" >> beam.Filter(lambda mini_batch: not isinstance(mini_batch[0], _FirstOfBundle))
        )
