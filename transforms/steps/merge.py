"""Vectors of chunks back into rows, in input order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.blocks import PAYLOAD, ChunkBlock, DeadLetters, EmbeddedBatch, RowBlock
from transforms.elements import Element, EndOfShard, ShardFailed
from transforms.errors import LedgerError
from transforms.modality import Modality
from transforms.steps.chunk import dead_letters
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder

# A sum of vectors that is shorter has no direction to scale: opposite ones cancel out.
_NO_DIRECTION = 1e-3


def merge_vectors(
    vectors: np.ndarray, weights: np.ndarray, owners: np.ndarray, *, unit_length: bool
) -> np.ndarray:
    """Weighted means of each document's chunk vectors.

    Args:
      vectors: float32 [chunks, dim].
      weights: [chunks], tokens of each chunk.
      owners: int64 [chunks], ascending: which document a chunk is of.
      unit_length: whether the model's vectors have length 1, and the means are to have it, too.

    Returns:
      float32 [documents, dim]; the vector of a document of one chunk is that chunk's.

    >>> two = np.array([[2.0, 0.0], [0.0, 4.0]], np.float32)
    >>> merge_vectors(two, np.array([3, 1]), np.array([0, 0]), unit_length=False).tolist()
    [[1.5, 1.0]]
    """
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    if len(firsts) == len(owners):  # a chunk a document
        return vectors
    counts = np.diff(np.append(firsts, len(owners)))
    merged = vectors[firsts]
    for document in np.flatnonzero(counts > 1).tolist():
        chunks = slice(firsts[document], firsts[document] + counts[document])
        share = np.maximum(weights[chunks].astype(np.float64), 1e-9)
        # In float64, and without a copy of the vectors in it: a document may have a million chunks.
        mean = np.einsum("c,cd->d", share / share.sum(), vectors[chunks], dtype=np.float64)
        length = np.linalg.norm(mean)
        merged[document] = mean / length if unit_length and length > _NO_DIRECTION else mean
    return merged


class _OpenWindow:
    """A window's vectors, as they come."""

    def __init__(self, window: ChunkBlock, dim: int):
        self.window = window
        self.vectors = np.zeros((len(window.costs), dim), np.float32)
        self.left = np.ones(len(window.costs), bool)
        self.failures: dict[int, tuple[str, str]] = {}  # of chunks

    def add(self, chunks: np.ndarray, vectors: np.ndarray, failures: dict[int, tuple[str, str]]) -> None:
        if not self.left[chunks].all():
            raise LedgerError(f"shard {self.window.documents.shard_id}: a chunk was embedded twice")
        self.vectors[chunks] = vectors
        self.left[chunks] = False
        self.failures |= {int(chunks[row]): failure for row, failure in failures.items()}

    def rows(
        self, config: EmbedConfig, of: Modality, *, unit_length: bool
    ) -> Iterator[RowBlock | DeadLetters]:
        """The rows of the documents that are whole, and a dead letter for each that is not."""
        window, block = self.window, self.window.documents
        dead: dict[int, tuple[str, str]] = {}  # a document dies once, however many of its chunks do
        for chunk in sorted(self.failures):
            dead.setdefault(int(window.owners[chunk]), self.failures[chunk])
        alive = np.ones(block.columns.num_rows, bool)
        alive[list(dead)] = False
        if alive.any():
            yield self._rows(alive, config, of, unit_length)
        if dead:
            yield dead_letters(block, dead, stage="embed", of=of)

    def _rows(self, alive: np.ndarray, config: EmbedConfig, of: Modality, unit_length: bool) -> RowBlock:
        window, block = self.window, self.window.documents
        chunks = np.flatnonzero(alive[window.owners])
        owners, vectors = window.owners[chunks], self.vectors
        if len(chunks) < len(vectors):
            vectors = vectors[chunks]

        def pick(values: np.ndarray | None, which: np.ndarray) -> np.ndarray | None:
            return None if values is None else values[which]

        spans: dict[str, Any] = {}
        if config.mode == "chunks":
            rows, payloads, which = owners, window.payloads, chunks
            tokens = pick(window.tokens, chunks)
            firsts = np.flatnonzero(np.diff(window.owners, prepend=-1))
            number = chunks - firsts[owners]
            place = of.place
            spans = {
                "chunk": number,
                "start": place(window.starts[chunks]),
                "end": place(window.ends[chunks]),
            }
        else:
            rows = which = np.flatnonzero(alive)
            payloads, tokens = block.payloads, pick(window.document_tokens, rows)
            weights = window.ends - window.starts if window.tokens is None else window.tokens
            vectors = merge_vectors(vectors, weights[chunks], owners, unit_length=unit_length)
        return RowBlock(
            shard_id=block.shard_id,
            documents=int(alive.sum()),
            columns=block.columns.remove_column(PAYLOAD).take(pa.array(rows)),
            vectors=vectors,
            tokens=tokens,
            dropped=pick(window.dropped, rows),
            payloads=payloads.take(pa.array(which)) if config.keep_payload else None,
            origins=tuple(block.origins[i] for i in rows.tolist()) if block.origins else None,
            **spans,
        )


@dataclasses.dataclass(eq=False)
class _MergeFn(beam.DoFn):
    """Collects the vectors of a window, and passes its documents on once it is whole.

    Mini-batches come in the order of their windows, so at most two of them are open.
    """

    encoder: SharedEncoder
    config: EmbedConfig

    def setup(self) -> None:
        self._robust = self.encoder.acquire()

    def start_bundle(self) -> None:
        self._open: dict[int, _OpenWindow] = {}

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, EmbeddedBatch):
            yield from self._add(element)
            return
        if isinstance(element, ShardFailed):
            self._open.clear()
        if isinstance(element, EndOfShard):
            self._check_whole(f"shard {element.shard_id}")
        yield element

    def finish_bundle(self) -> None:
        self._check_whole("end of a bundle")

    def _check_whole(self, where: str) -> None:
        left = sum(int(window.left.sum()) for window in self._open.values())
        if left:
            raise LedgerError(f"{where}: {left} chunks were not embedded")

    def _add(self, batch: EmbeddedBatch) -> Iterator[Any]:
        first = 0
        for run in batch.runs:
            last = first + len(run.chunks)
            number = run.window.number
            if number not in self._open:
                self._open[number] = _OpenWindow(run.window, batch.vectors.shape[1])
            failures = {row - first: why for row, why in batch.failures.items() if first <= row < last}
            self._open[number].add(run.chunks, batch.vectors[first:last], failures)
            first = last
        for number in sorted(self._open):
            if not self._open[number].left.any():
                encoder = self._robust.encoder
                window = self._open.pop(number)
                yield from window.rows(self.config, encoder.modality, unit_length=encoder.unit_length)


@dataclasses.dataclass(eq=False)
class MergeChunks(beam.PTransform):
    """EmbeddedBatch -> RowBlock, a row a document (or a chunk, in mode `chunks`), in input order."""

    encoder: SharedEncoder
    config: EmbedConfig

    def expand(self, embedded: beam.PCollection) -> beam.PCollection:
        return embedded | beam.ParDo(_MergeFn(self.encoder, self.config)).with_output_types(Element)
