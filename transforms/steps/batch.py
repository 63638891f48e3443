"""Chunks of alike lengths into mini-batches of a token budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from transforms.elements import Chunk, EndOfShard, ShardFailed
from transforms.steps.windowed import at_origin

# Chunks sorted at once: enough that neighbours are alike, few enough that their texts fit into memory.
WINDOW_CHUNKS = 4096
WINDOW_CHARACTERS = 16_000_000


def ordered(chunks: list[Chunk], *, longest_first: bool) -> list[Chunk]:
    """Sorts by cost; equal costs keep their order, so the result depends on the chunks alone."""
    return sorted(chunks, key=lambda chunk: -chunk.cost if longest_first else chunk.cost)


def cost_of(element: Any, batch_tokens: int) -> int:
    """What an element takes of the budget. A marker takes all of it, which closes the mini-batch before it.

    No element costs more than the budget: BatchElements would emit an empty list before it.
    """
    if isinstance(element, (EndOfShard, ShardFailed, _FirstOfBundle)):
        return batch_tokens
    return min(element.cost, batch_tokens) if isinstance(element, Chunk) else 1


class _OrderFn(beam.DoFn):
    """Holds a window of chunks, sorts it by length, empties it at a marker.

    Windows run alternately from long to short and from short to long, so that the mini-batch that straddles
    two of them has alike lengths too.
    """

    def __init__(self, window_chunks: int = WINDOW_CHUNKS):
        self._window_chunks = window_chunks

    def start_bundle(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._window: list[Chunk] = []
        self._characters = 0
        self._longest_first = True

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, Chunk):
            self._window.append(element)
            self._characters += len(element.text)
            if len(self._window) >= self._window_chunks or self._characters >= WINDOW_CHARACTERS:
                yield from self._release()
        elif isinstance(element, (EndOfShard, ShardFailed)):
            yield from self._release()
            self._reset()
            yield element
        else:
            yield element

    def finish_bundle(self) -> Iterator[Any]:
        for chunk in self._release():
            yield at_origin(chunk)

    def _release(self) -> list[Chunk]:
        chunks = ordered(self._window, longest_first=self._longest_first)
        self._window, self._characters = [], 0
        self._longest_first = not self._longest_first
        return chunks


@dataclasses.dataclass(eq=False)
class OrderByLength(beam.PTransform):
    """Chunks in, the same chunks out, sorted by length within a window of one shard."""

    window_chunks: int = WINDOW_CHUNKS

    def expand(self, chunks: beam.PCollection) -> beam.PCollection:
        return chunks | beam.ParDo(_OrderFn(self.window_chunks))


class _FirstOfBundle:
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


def _is_filled(mini_batch: list[Any]) -> bool:
    return not isinstance(mini_batch[0], _FirstOfBundle)


@dataclasses.dataclass(eq=False)
class BatchByTokens(beam.PTransform):
    """Chunks into mini-batches of at most `batch_tokens` tokens; none spans two shards."""

    batch_tokens: int

    def expand(self, chunks: beam.PCollection) -> beam.PCollection:
        budget = self.batch_tokens
        return (
            chunks
            | "Open" >> beam.ParDo(_OpenFn())
            # Equal limits switch off BatchElements' estimator, whose sizes depend on timing.
            | beam.BatchElements(
                min_batch_size=budget,
                max_batch_size=budget,
                element_size_fn=lambda element: cost_of(element, budget),
            )
            | "Filled" >> beam.Filter(_is_filled)
        )
