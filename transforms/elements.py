"""What travels between the steps, in the order of the way of the data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Stands for the value of a field that a record does not have.
ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT", "__reduce__": lambda _: "ABSENT"})()
# Documents of a block; blocks are smaller where documents are large.
BLOCK_DOCUMENTS, BLOCK_BYTES = 512, 1 << 20
# Dead letters of a block.
LETTERS, LETTER_BYTES = 512, 1 << 20
# Place of the payload among a block's columns.
PAYLOAD = 4
# A longer record is a dead letter of which only the head is kept.
RECORD_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """A deterministic piece of one input file.

    Attributes:
      path: where the file lies: a local path or a URL of any scheme Beam's FileSystems know.
      source: the file's path below the input root, with forward slashes; part of document ids.
      format: lines, txt, jsonl, csv, tsv, parquet or tfrecord.
      start: first byte (lines, jsonl) or first row group (parquet) of the slice.
      end: one past the last byte or row group; None means to the end of the file.
      size: bytes of the file when the plan was made.
      mtime: last change of the file when the plan was made, seconds since the epoch; None if unknown.
      limit: read no more than this many documents; None means all.
      bytes: how many of the file's bytes are the slice's, as far as the plan knows; for rates only.
    """

    path: str
    source: str
    format: str
    start: int = 0
    end: int | None = None
    size: int = 0
    mtime: float | None = None
    limit: int | None = None
    bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A disjoint slice of the input, and the unit of commit."""

    shard_id: str
    slices: tuple[Slice, ...]

    def to_line(self) -> str:
        """The shard as one line of the plan file."""
        slices = [[getattr(piece, name) for name in Slice.__slots__] for piece in self.slices]
        return json.dumps({"shard": self.shard_id, "slices": slices}, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Shard:
        """The inverse of to_line."""
        record = json.loads(line)
        return cls(record["shard"], tuple(Slice(*values) for values in record["slices"]))


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document, as `EmbedDocuments` takes and gives it; between the steps it is a row of a DocumentBlock.

    Attributes:
      doc_id: stable id, the same on every run.
      payload: what is embedded; for texts a str.
      kept: whatever else is to come back with it.
    """

    doc_id: str
    payload: Any
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """The element that a document was in a user's own pipeline, with its timestamp and window."""

    document: Document
    timestamp: Any
    window: Any


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DocumentBlock:
    """Some hundred documents of one shard, in input order, in columns.

    Attributes:
      shard_id: the shard they were read in; "" in a user's own pipeline.
      columns: doc_id (string), source (string: the file relative to the input root), position (int64: byte
        offset of a line, number of a record or row in the decompressed file, from 0), index (int64: place in
        the shard, dead letters counted too, from 0), payload (the modality's type, no nulls), fingerprint
        (fixed_size_binary[16]; not in a user's own pipeline), then the kept fields in their types. They
        are found by their place: a kept field may be called `index` or `payload`, too.
      origins: of the documents; only in a user's own pipeline.
    """

    shard_id: str
    columns: pa.RecordBatch
    origins: tuple[Origin, ...] | None = None

    @property
    def payloads(self) -> pa.Array:
        """[documents], of the modality's type."""
        return self.columns.column(PAYLOAD)


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document that failed.

    Attributes:
      stage: read, chunk or embed.
      kind: what is wrong, the same words for all letters of one kind.
      detail: the particulars, or "".
      payload: the record as it was read, so that a mended file can be embedded alone; bytes that are not
        UTF-8 are escaped as \\xNN, those of a TFRecord are base64. None where a whole file is meant.
      index: place in the shard, from 0.
    """

    doc_id: str
    source: str
    position: int
    stage: str
    kind: str
    detail: str = ""
    payload: str | None = None
    index: int = 0
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def reason(self) -> str:
        """One line: the kind, and its detail behind a colon."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DeadLetters:
    """Some dead letters of one shard, at most LETTERS of them or LETTER_BYTES of payloads.

    They wait for no document: each step passes them on, and the writer puts them in order.
    """

    shard_id: str
    letters: tuple[DeadLetter, ...]

    @property
    def weight(self) -> int:
        """About how many bytes they take: a single record can be large."""
        return sum(256 + len(letter.payload or "") for letter in self.letters)


@dataclasses.dataclass(frozen=True, slots=True)
class EndOfShard:
    """Follows a shard's last document.

    Attributes:
      documents: how many came before it, dead letters included.
      attempt: how many times the shard was begun, this time included.
    """

    shard_id: str
    documents: int
    attempt: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class ShardFailed:
    """Follows the documents of a shard that could not be read to its end; nothing of it is committed."""

    shard_id: str
    source: str
    position: int | None
    reason: str
    kind: str = "damaged"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ChunkBlock:
    """Chunks (spans of documents, the units embedded) of one shard, document after document.

    The ordering step makes one of them, the window, out of many.

    Attributes:
      number: of the window in its shard, from 0.
      documents: the documents' columns, as in DocumentBlock, with their origins.
      cut: [chunks], what is embedded; None where each document is one chunk, as a whole.
      owners: int64 [chunks], row of each chunk's document in `documents`; ascending.
      starts, ends: int64 [chunks], span in the document's payload, in the modality's unit (characters).
      tokens: int64 [chunks], as the model counts them; None where it cannot.
      costs: int64 [chunks], what a chunk takes of the token budget, at least 1.
      document_tokens, dropped: int64 [documents], tokens of the whole document, and those that are in no
        chunk; None where the model cannot count.
    """

    number: int
    documents: DocumentBlock
    cut: pa.Array | None
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
class Run:
    """A few chunks of alike lengths of a window: the element of BatchElements.

    Attributes:
      chunks: int64, rows of the window's chunks.
      cost: their sum.
    """

    window: ChunkBlock
    chunks: np.ndarray
    cost: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBatch:
    """A mini-batch and its vectors.

    Attributes:
      runs: what was embedded.
      vectors: float32 [chunks of all runs, dim], row by row.
      failures: kind and detail by row, of those that could not be embedded; their vectors are zero.
    """

    runs: tuple[Run, ...]
    vectors: np.ndarray
    failures: Mapping[int, tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowBlock:
    """Output rows of one shard, in input order, in columns.

    Attributes:
      documents: how many documents they complete.
      columns: doc_id, source, position, index, fingerprint and kept fields, as in DocumentBlock, one row for
        each output row; without the payload.
      vectors: float32 [rows, dim].
      tokens, dropped: int64 [rows], of the document, or tokens of the chunk where a row is a chunk; None
        where the model cannot count.
      payloads: [rows], of the document or the chunk; None where it is not kept.
      chunk, start, end: int64 [rows], number of the chunk and its span; None where rows are documents.
      origins: as in DocumentBlock, one for each row.
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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One output row of `EmbedDocuments`.

    Attributes:
      vector: float32 [dim].
      tokens: tokens of the document, or of the chunk where a row is a chunk; None if the model cannot count.
      tokens_dropped: tokens of the document that were not embedded; None if the model cannot count.
      chunk, start, end: number of the chunk and its span in characters; None where rows are documents.
      last: whether this is the document's last row.
    """

    document: Document
    vector: np.ndarray
    tokens: int | None
    tokens_dropped: int | None
    chunk: int | None = None
    start: int | None = None
    end: int | None = None
    last: bool = True
    origin: Origin | None = dataclasses.field(default=None, repr=False)

    @property
    def doc_id(self) -> str:
        return self.document.doc_id


@dataclasses.dataclass(frozen=True, slots=True)
class ShardReceipt:
    """A shard's commit record: what is in its part file and its dead letters.

    Attributes:
      part: the part file's name, None if the shard has no rows.
      part_sha256, part_bytes: of the part file as written.
      dead_letters: how many documents died, by reason.
      started, finished: seconds since the epoch.
      host, pid: the process that embedded it.
      attempt: how many times it was begun, this time included.
      job: the identity of the job that it belongs to.
    """

    job: str
    shard_id: str
    documents: int
    rows: int
    dead_letters: Mapping[str, int]
    tokens: int | None
    tokens_dropped: int | None
    part: str | None
    part_bytes: int
    part_sha256: str | None
    dead_letters_sha256: str | None
    started: float
    finished: float
    host: str
    pid: int
    attempt: int = 1
