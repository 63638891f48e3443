"""Vectors of chunks back into rows, in input order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from transforms.elements import Chunk, DeadLetter, EmbeddedBatch, Embedding, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.steps.windowed import at_origin

# A model's vectors count as unit length within this.
_UNIT = 1e-3


def merge_vectors(vectors: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Weighted mean of a document's chunk vectors, scaled to unit length if all of them have unit length.

    Args:
      vectors: float32 [chunks, dim].
      weights: [chunks], tokens of each chunk.

    Returns:
      float32 [dim].

    >>> merge_vectors(np.array([[2.0, 0.0], [0.0, 4.0]], np.float32), [3, 1]).tolist()
    [1.5, 1.0]
    """
    wide = vectors.astype(np.float64)
    mean = np.average(wide, axis=0, weights=np.maximum(np.asarray(weights, np.float64), 1e-9))
    if np.all(np.abs(np.linalg.norm(wide, axis=1) - 1.0) < _UNIT):
        length = np.linalg.norm(mean)
        if length > _UNIT:  # opposite vectors cancel out; their sum has no direction to scale
            mean = mean / length
    return mean.astype(np.float32)


def rows_of(chunks: Sequence[Chunk], vectors: np.ndarray, mode: str) -> list[Embedding]:
    """The output rows of one document, from all its chunks in order and their vectors [chunks, dim]."""
    first = chunks[0]
    if mode == "chunks":
        return [
            Embedding(
                document=chunk.document,
                vector=vector,
                tokens=chunk.tokens,
                tokens_dropped=chunk.dropped,
                chunk=chunk.number,
                start=chunk.start,
                end=chunk.end,
                last=chunk.number == chunk.count - 1,
            )
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
    vector = vectors[0] if len(chunks) == 1 else merge_vectors(vectors, [_weight(chunk) for chunk in chunks])
    return [Embedding(first.document, vector, first.document_tokens, first.dropped)]


def _weight(chunk: Chunk) -> int:
    return chunk.tokens if chunk.tokens is not None else len(chunk.text)


class _MergeFn(beam.DoFn):
    """Collects a document's chunks, and passes documents on in input order once they are whole.

    What waits here is bounded by the ordering window: it is emptied as a whole before the next one fills.
    """

    def __init__(self, mode: str, ordered: bool):
        self._mode = mode
        self._ordered = ordered

    def start_bundle(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._parts: dict[int, list[tuple[Chunk, np.ndarray]]] = {}
        self._dead: set[int] = set()
        self._ready: dict[int, list[Embedding | DeadLetter]] = {}
        self._next = 0

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, EmbeddedBatch):
            for chunk, vector in zip(element.chunks, element.vectors, strict=True):
                self._add(chunk, vector)
        elif isinstance(element, DeadLetter):
            self._bury(element)
        elif isinstance(element, EndOfShard):
            yield from self._release()
            if self._ready or self._next != element.documents:
                raise LedgerError(
                    f"shard {element.shard_id}: {element.documents} documents read, {self._next} merged"
                )
            self._reset()
            yield element
            return
        elif isinstance(element, ShardFailed):
            self._reset()
            yield element
            return
        yield from self._release()

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._release():
            yield at_origin(element)
        left = len(self._parts) + len(self._ready)
        if left:
            raise LedgerError(f"{left} documents were not whole at the end of a bundle")

    def _add(self, chunk: Chunk, vector: np.ndarray) -> None:
        index = chunk.document.index
        if index in self._dead:
            return
        if index in self._ready or (self._ordered and index < self._next):
            raise LedgerError(f"document {chunk.document.doc_id!r}: one of its chunks came twice")
        if chunk.count == 1:
            self._ready[index] = list(rows_of([chunk], vector[None], self._mode))
            return
        parts = self._parts.setdefault(index, [])
        parts.append((chunk, vector))
        if len(parts) == chunk.count:
            parts.sort(key=lambda part: part[0].number)
            del self._parts[index]
            rows = rows_of([part[0] for part in parts], np.stack([part[1] for part in parts]), self._mode)
            self._ready[index] = list(rows)

    def _bury(self, letter: DeadLetter) -> None:
        """A document dies once, however many of its chunks do."""
        if letter.index in self._dead:
            return
        self._dead.add(letter.index)
        self._parts.pop(letter.index, None)
        self._ready[letter.index] = [letter]

    def _release(self) -> Iterator[Embedding | DeadLetter]:
        if not self._ordered:
            ready, self._ready = self._ready, {}
            for elements in ready.values():
                yield from elements
            return
        while self._next in self._ready:
            yield from self._ready.pop(self._next)
            self._next += 1


@dataclasses.dataclass(eq=False)
class MergeChunks(beam.PTransform):
    """EmbeddedBatch -> Embedding, a row a document (or a chunk, in mode `chunks`), in input order."""

    mode: str = "mean"
    ordered: bool = True

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | beam.ParDo(_MergeFn(self.mode, self.ordered))
