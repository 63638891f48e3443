"""Documents that are said more than once in a job: embedded once, or left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.blocks import FINGERPRINT, INDEX, DeadLetters, DocumentBlock, LeftOut
from transforms.elements import Element, EndOfShard, Shard, ShardFailed
from transforms.output.copies import keys, read_copies
from transforms.output.fingerprints import find, halves
from transforms.output.folder import Folder


@dataclasses.dataclass(frozen=True)
class CopiesConfig:
    """What becomes of copies.

    Attributes:
      output: the folder of the job, where is noted which documents are copies.
      keep_first: whether they are left out; else they get the vectors of the first.
    """

    output: str
    keep_first: bool


class _Copies:
    """What is noted of the shard that is being read."""

    def __init__(self, output: str):
        self._output, self._shard_id = output, ""

    def of(self, block: DocumentBlock) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """The notes, the row of each document (-1: it is said once), and which documents are the first."""
        if block.shard_id != self._shard_id:
            self._shard_id, self._notes = block.shard_id, read_copies(Folder(self._output), block.shard_id)
            self._keys = keys(self._notes)
            self._here = self._notes["of_shard"].to_numpy() == np.uint64(int(block.shard_id, 16))
        at = find(self._keys, *halves(block.columns.column(FINGERPRINT)))
        if not len(self._notes):
            return self._notes, at, np.zeros(len(at), bool)
        index = block.columns.column(INDEX).to_numpy()
        own = self._here[at] & (self._notes["of_index"].to_numpy()[at] == index)
        return self._notes, at, (at >= 0) & own


def _some(block: DocumentBlock, chosen: np.ndarray) -> DocumentBlock:
    return DocumentBlock(block.shard_id, block.columns.take(pa.array(np.flatnonzero(chosen))))


class _CopiesFn(beam.DoFn):
    def __init__(self, config: CopiesConfig):
        self._config = config

    def setup(self) -> None:
        self._copies = _Copies(self._config.output)

    def process(self, element: Any) -> Iterator[Any]:
        if not isinstance(element, DocumentBlock):
            yield element
            return
        notes, at, first = self._copies.of(element)
        copy = (at >= 0) & ~first
        if not copy.any():
            yield element
            return
        its = notes.take(pa.array(at[copy])).combine_chunks()
        if not self._config.keep_first:
            yield dataclasses.replace(element, copies=copy, firsts=self._firsts(element, copy, its))
            return
        gone = element.columns.take(pa.array(np.flatnonzero(copy))).select(["doc_id", "source", "position"])
        columns = [*gone.columns, its["of"].chunk(0), its["similarity"].chunk(0)]
        yield LeftOut(element.shard_id, pa.record_batch(columns, [*gone.schema.names, "of", "similarity"]))
        if not copy.all():
            yield _some(element, ~copy)

    def _firsts(self, block: DocumentBlock, copy: np.ndarray, its: pa.Table) -> pa.Array:
        """Fingerprints of the documents whose vectors they get."""
        prints = np.stack(halves(block.columns.column(FINGERPRINT)), axis=1)
        prints[copy] = np.stack([its["of_high"].to_numpy(), its["of_low"].to_numpy()], axis=1)
        data = pa.py_buffer(prints.astype(">u8").tobytes())
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(prints), [None, data])


class _FirstFn(beam.DoFn):
    """Keeps the documents that have copies; what dies is told where the whole shard is read."""

    def __init__(self, config: CopiesConfig):
        self._config = config

    def setup(self) -> None:
        self._copies = _Copies(self._config.output)
        self._count = 0

    def start_bundle(self) -> None:
        self._count = 0

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, DocumentBlock):
            *_, first = self._copies.of(element)
            self._count += int(first.sum())
            if first.any():
                yield _some(element, first)
        elif isinstance(element, EndOfShard):
            yield dataclasses.replace(element, documents=self._count, skipped={})
            self._count = 0
        elif isinstance(element, ShardFailed):
            self._count = 0
            yield element
        elif not isinstance(element, DeadLetters):
            yield element


def _has_copies(shard: Shard, output: str) -> bool:
    """Whether a shard has documents that others are copies of."""
    its = read_copies(Folder(output), shard.shard_id)["of_shard"].to_numpy()
    return bool((its == np.uint64(int(shard.shard_id, 16))).any())


@dataclasses.dataclass(eq=False)
class MarkCopies(beam.PTransform):
    """DocumentBlock -> DocumentBlock, and LeftOut where copies are left out; all else passes."""

    config: CopiesConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_CopiesFn(self.config)).with_output_types(Element)


@dataclasses.dataclass(eq=False)
class ShardsWithCopies(beam.PTransform):
    """Shard -> Shard, those with documents that others are copies of."""

    config: CopiesConfig

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | beam.Filter(_has_copies, self.config.output).with_output_types(Shard)


@dataclasses.dataclass(eq=False)
class KeepFirst(beam.PTransform):
    """DocumentBlock -> DocumentBlock of what others are copies of; markers count these alone."""

    config: CopiesConfig

    def expand(self, documents: beam.PCollection) -> beam.PCollection:
        return documents | beam.ParDo(_FirstFn(self.config)).with_output_types(Element)
