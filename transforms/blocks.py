"""What travels between the steps by the hundred: documents, chunks, vectors and rows, in columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from transforms.elements import DeadLetter, Element, Origin
from transforms.observer import MiniBatchDone

if TYPE_CHECKING:
    import pyarrow as pa

# Documents of a block; blocks are smaller where documents are large.
BLOCK_DOCUMENTS, BLOCK_BYTES = 512, 1 << 20
# Places among a block's columns; without the payload, what follows it is one nearer.
INDEX, PAYLOAD, FINGERPRINT = 3, 4, 5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DocumentBlock(Element):
    """Some hundred documents of one shard, in input order, in columns.

    Attributes:
      shard_id: the shard they were read in; "" in a user's own pipeline.
      columns: doc_id (string), source (string: the file relative to the input root), position (int64: byte
        offset of a line, number of a record or row in the decompressed file, from 0), index (int64: place in
        the shard, dead letters counted too, from 0), payload (the modality's type, no nulls), fingerprint
        (fixed_size_binary[16]; not in a user's own pipeline), then the kept fields in their types. They
        are found by their place: a kept field may be called `index` or `payload`, too.
      origins: of the documents; only in a user's own pipeline.
      copies: bool [documents], which of them are to have the vectors of another document of the job.
      firsts: fixed_size_binary[16] [documents], fingerprints of the others, or their own; both are None where
        no document is a copy.
    """

    shard_id: str
    columns: pa.RecordBatch
    origins: tuple[Origin, ...] | None = None
    copies: np.ndarray | None = None
    firsts: pa.Array | None = None

    @property
    def payloads(self) -> pa.Array:
        """[documents], of the modality's type."""
        return self.columns.column(PAYLOAD)


class Aside(Element):
    """What travels beside the documents and waits for none: each step passes it on to the writer."""

    __slots__ = ()

    @property
    def weight(self) -> int:
        """About how many bytes wait with it."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LeftOut(Aside):
    """Documents of one shard that are left out, since others say the same.

    Attributes:
      rows: doc_id, source, position; of: id of the document that is kept; similarity (float32): 1 of exact
        copies.
    """

    shard_id: str
    rows: pa.RecordBatch

    @property
    def weight(self) -> int:
        return self.rows.nbytes


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DeadLetters(Aside):
    """Some dead letters of one shard, of a block or of a window; the writer puts them in order."""

    shard_id: str
    letters: tuple[DeadLetter, ...]

    @property
    def weight(self) -> int:
        """A single record can be large."""
        return sum(256 + len(letter.payload or "") for letter in self.letters)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Known(Aside):
    """Of a block of documents those whose vectors an earlier output has; comes before the block's others.

    Attributes:
      columns: of the known documents, as in DocumentBlock without the payload.
      payloads: [documents]; None where they are not kept.
      source: int64 [documents], number of the earlier output.
      shards: uint64 [documents], id of the shard there that has the document.
      firsts, rows: int64 [documents], place of the document's first row in its part, and how many it has.
      missed: int64, `index` of the block's other documents.
      copies: bool [documents], which of them have the vectors of another document of the job.
    """

    shard_id: str
    columns: pa.RecordBatch
    payloads: pa.Array | None
    source: np.ndarray
    shards: np.ndarray
    firsts: np.ndarray
    rows: np.ndarray
    missed: np.ndarray
    copies: np.ndarray

    @property
    def weight(self) -> int:
        return self.columns.nbytes + (0 if self.payloads is None else self.payloads.nbytes)

    def part(self, low: int, high: int) -> Known:
        """Some of its documents."""
        some, count = slice(low, high), high - low
        return Known(
            self.shard_id,
            self.columns.slice(low, count),
            None if self.payloads is None else self.payloads.slice(low, count),
            self.source[some],
            self.shards[some],
            self.firsts[some],
            self.rows[some],
            self.missed[:0],
            self.copies[some],
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ChunkBlock(Element):
    """Chunks (spans of documents, the units embedded) of one shard, document after document.

    The ordering step makes one of them, the window, out of many.

    Attributes:
      number: of the window in its shard, from 0.
      documents: the documents' columns, as in DocumentBlock, with their origins.
      cut: [chunks], what is embedded; None where each document is one chunk, as a whole.
      owners: int64 [chunks], row of each chunk's document in `documents`; ascending.
      starts, ends: int64 [chunks], span in the document's payload, in the modality's unit (characters).
      ids: [chunks], list<int32>, the token ids that were counted, which the model takes in the payload's
        place; null where they are not known, None where none are.
      tokens: int64 [chunks], as the model counts them; None where it cannot.
      costs: int64 [chunks], what a chunk takes of the token budget, at least 1.
      document_tokens, dropped: int64 [documents], tokens of the whole document, and those that are in no
        chunk; None where the model cannot count.
    """

    number: int
    documents: DocumentBlock
    cut: pa.Array | None
    ids: pa.Array | None
    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    tokens: np.ndarray | None
    costs: np.ndarray
    document_tokens: np.ndarray | None
    dropped: np.ndarray | None

    @property
    def payloads(self) -> pa.Array:
        """[chunks], what is embedded."""
        return self.documents.payloads if self.cut is None else self.cut


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Run(Element):
    """A few chunks of alike lengths of a window: the element of BatchElements.

    Attributes:
      chunks: int64, rows of the window's chunks.
      cost: their sum.
    """

    window: ChunkBlock
    chunks: np.ndarray
    cost: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBatch(Element):
    """A mini-batch and its vectors.

    Attributes:
      runs: what was embedded.
      vectors: float32 [chunks of all runs, dim], row by row.
      failures: kind and detail by row, of those that could not be embedded; their vectors are zero.
      done: what it cost.
    """

    runs: tuple[Run, ...]
    vectors: np.ndarray
    failures: Mapping[int, tuple[str, str]]
    done: MiniBatchDone | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MiniBatches(Element):
    """What some hundred mini-batches of one shard cost, in their order: for its receipt and its trace."""

    shard_id: str
    done: tuple[MiniBatchDone, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowBlock(Element):
    """Output rows of one shard, in input order, in columns.

    Attributes:
      documents: how many documents they complete.
      columns: doc_id, source, position, index, fingerprint and kept fields, as in DocumentBlock, one row for
        each output row; without the payload.
      vectors: float32 [rows, dim].
      tokens, dropped: int64 [rows], of the document, or tokens of the chunk where a row is a chunk; None
        where the model cannot count.
      payloads: [rows], of the document or the chunk; None where it is not kept.
      chunk, start, end: int64 [rows], number of the chunk and its span (float64 where it is in seconds);
        None where rows are documents.
      origins: as in DocumentBlock, one for each row.
      scale: float32 [rows], of int8 vectors that were stored before, with which they are stored again; NaN
        where it follows from the vector, None where it does for all.
      reused: of the documents, how many have vectors that an earlier output had.
      copied: of the documents, how many have the vectors of another document of the job.
    """

    shard_id: str
    documents: int
    columns: pa.RecordBatch
    vectors: np.ndarray
    tokens: np.ndarray | None
    dropped: np.ndarray | None
    payloads: pa.Array | None = None
    chunk: np.ndarray | None = None
    start: np.ndarray | None = None
    end: np.ndarray | None = None
    origins: tuple[Origin, ...] | None = None
    scale: np.ndarray | None = None
    reused: int = 0
    copied: int = 0
