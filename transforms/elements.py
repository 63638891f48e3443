"""What travels between the steps, one at a time: shards, markers, dead letters, receipts; and documents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

# Stands for the value of a field that a record does not have.
ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT", "__reduce__": lambda _: "ABSENT"})()
# A longer record is a dead letter of which only the head is kept.
RECORD_BYTES = 64 << 20


class Element:
    """Whatever travels between the steps, inside one worker."""

    __slots__ = ()


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
    """A disjoint slice of the input, and the unit of commit.

    Attributes:
      same_in: number of the earlier output, among those that are reused, whose plan has the very same shard;
        None where none has. The plan file does not hold it.
    """

    shard_id: str
    slices: tuple[Slice, ...]
    same_in: int | None = None

    @property
    def bytes(self) -> int:
        """Of its slices together."""
        return sum(piece.bytes for piece in self.slices)

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


@dataclasses.dataclass(frozen=True, slots=True)
class EndOfShard(Element):
    """Follows a shard's last document.

    Attributes:
      documents: how many came before it, dead letters included.
      attempt: how many times the shard was begun, this time included.
      skipped: records that are no documents, by what they are.
    """

    shard_id: str
    documents: int
    attempt: int = 1
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class ShardFailed(Element):
    """Follows the documents of a shard that could not be read to its end; nothing of it is committed."""

    shard_id: str
    source: str
    position: int | None
    reason: str
    kind: str = "damaged"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One output row of `EmbedDocuments`.

    Attributes:
      vector: float32 [dim].
      tokens: tokens of the document, or of the chunk where a row is a chunk; None if the model cannot count.
      tokens_dropped: tokens of the document that were not embedded; None if the model cannot count.
      chunk, start, end: number of the chunk and its span in characters, or in seconds of a recording; None
        where rows are documents.
      last: whether this is the document's last row.
    """

    document: Document
    vector: np.ndarray
    tokens: int | None
    tokens_dropped: int | None
    chunk: int | None = None
    start: float | None = None
    end: float | None = None
    last: bool = True
    origin: Origin | None = dataclasses.field(default=None, repr=False)

    @property
    def doc_id(self) -> str:
        return self.document.doc_id


@dataclasses.dataclass(frozen=True, slots=True)
class ShardReceipt(Element):
    """A shard's commit record: what is in its part file and its dead letters.

    Attributes:
      part: the part file's name, None if the shard has no rows.
      part_sha256, part_bytes: of the part file as written.
      dead_letters: how many documents died, by reason.
      started, finished: seconds since the epoch.
      host, pid: the process that embedded it.
      attempt: how many times it was begun, this time included.
      job: the identity of the job that it belongs to.
      skipped: records that are no documents, by what they are.
      mini_batches, retries: how many there were, and calls of the model beyond one for each.
      reused: documents whose vectors an earlier output had.
      written_by: identity of the job that wrote the part file, where it was taken over whole; else "".
      copied: documents that have the vectors of another one of the job.
      left_out, left_out_sha256: documents that are left out, since another says the same, and their file.
      forgotten: documents that were taken out of the output afterwards.
      model_span, model_idle: seconds of the process's ModelClock until its last mini-batch was done.
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
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mini_batches: int = 0
    retries: int = 0
    model_span: float = 0.0
    model_idle: float = 0.0
    reused: int = 0
    written_by: str = ""
    copied: int = 0
    left_out: int = 0
    left_out_sha256: str | None = None
    forgotten: int = 0
