"""What is read of a shard: blocks of documents, and last a marker that tells how many there were; no Beam."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from transforms.blocks import DeadLetters
from transforms.elements import DeadLetter, Element, EndOfShard, Shard, ShardFailed
from transforms.errors import BadFileError
from transforms.formats.base import RawBlock, ReadOptions
from transforms.formats.slices import check_slice, read_slice
from transforms.modality import Modality
from transforms.modality.text import TEXT
from transforms.observer import Read, tell
from transforms.steps.documents import Gathered, document_columns


@dataclasses.dataclass(frozen=True)
class ReadConfig:
    """How shards are read.

    Attributes:
      options: which fields are the payload, the id and the kept ones, with their types.
      skip_bad_files: whether a bad file is one dead letter instead of a failed shard.
      output: the folder where shards are committed; those that are, are not read again. "" where none is.
      job: identity of the job that is committed there.
      fingerprint_key: what changes vectors besides the payload.
      modality: what payloads are.
      heard: whether observers are told; not where the same documents will be read again.
    """

    options: ReadOptions
    skip_bad_files: bool = False
    output: str = ""
    job: str = ""
    fingerprint_key: bytes = b""
    modality: Modality = TEXT
    heard: bool = True


def read_shard(shard: Shard, config: ReadConfig, attempt: int = 1) -> Iterator[Element]:
    """Reads a shard: its documents in order, dead letters beside them, then EndOfShard or ShardFailed.

    Files are checked to their end before their shard gives a document, so that the sound part of a bad file
    is never half-used. A bad one is one dead letter where those are skipped; else the whole shard fails.

    Raises:
      StoreError: a file cannot be read for the moment; that is no fault of the file.
    """
    try:
        yield from _read(shard, config, attempt, tell if config.heard else lambda _: None)
    except BadFileError as e:
        yield ShardFailed(shard.shard_id, e.source, e.position, e.reason, e.kind)


def _read(shard: Shard, config: ReadConfig, attempt: int, tell: Callable[[Any], None]) -> Iterator[Element]:
    options = config.options
    bad: dict[int, BadFileError] = {}
    for number, piece in enumerate(shard.slices):
        try:
            check_slice(piece, options)
        except BadFileError as e:
            if not config.skip_bad_files:
                raise
            bad[number] = e
    index, gathered = 0, Gathered(shard.shard_id)
    skipped: collections.Counter[str] = collections.Counter()
    for number, piece in enumerate(shard.slices):
        if error := bad.get(number):
            name, at = error.source, error.position or 0
            letter = DeadLetter(name, name, at, "read", "bad file", error.reason, None, index)
            yield DeadLetters(shard.shard_id, (letter,))
            tell(Read(1, piece.bytes))
            index += 1
            continue
        left = piece.bytes  # of the plan's bytes, not yet told
        raw: RawBlock | None = None
        for raw in read_slice(piece, options):  # a file that is changed while it is read fails its shard
            batch, letters = document_columns(
                raw, piece, options, config.modality, index=index, key=config.fingerprint_key
            )
            if letters:
                yield DeadLetters(shard.shard_id, tuple(letters))
            yield from gathered.add(batch, raw.size)
            taken = min(left, raw.bytes)
            tell(Read(len(raw.positions), taken))
            index += len(raw.positions)
            skipped.update(raw.skipped)
            left -= taken
        raw = None  # its records may be huge, and nobody needs them while the documents are embedded
        if left:
            tell(Read(0, left))
    yield from gathered.rest()
    yield EndOfShard(shard.shard_id, index, attempt, dict(skipped))
