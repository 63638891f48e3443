"""Shards into documents, each ended by a marker that tells how many came before it."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from transforms.elements import DeadLetter, Document, EndOfShard, Shard, ShardFailed
from transforms.errors import BadFileError
from transforms.formats import ReadOptions, check_slice, read_slice
from transforms.observer import Read, tell
from transforms.output import attempts, layout
from transforms.output.folder import Folder
from transforms.output.kept import check_kept

_KEPT_ERROR = re.compile(r"(keep field '.*?'): (expected .*?, got \S+) ?(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class ReadConfig:
    """How shards are read.

    Attributes:
      options: which fields are the text, the id and the kept ones.
      kept: types of the kept fields, by name, as in RowSchema.
      skip_bad_files: whether a bad file is one dead letter instead of a failed shard.
      output: the folder where shards are committed; those that are, are not read again. "" where none is.
    """

    options: ReadOptions
    kept: tuple[tuple[str, str], ...] = ()
    skip_bad_files: bool = False
    output: str = ""


def read_shard(
    shard: Shard, config: ReadConfig
) -> Iterator[Document | DeadLetter | EndOfShard | ShardFailed]:
    """Reads a shard: its documents and dead letters in order, then EndOfShard, or ShardFailed.

    Every file is checked to its end before its shard gives a document, so that the sound part of a bad file
    is never half-used.
    """
    bad: dict[int, BadFileError] = {}
    for number, piece in enumerate(shard.slices):
        try:
            check_slice(piece, config.options)
        except BadFileError as e:
            if not config.skip_bad_files:
                yield ShardFailed(shard.shard_id, e.source, e.position, e.reason)
                return
            bad[number] = e
    index = 0
    seen: set[str] = set()
    for number, piece in enumerate(shard.slices):
        elements = (
            iter([_letter_of_file(bad[number])]) if number in bad else read_slice(piece, config.options)
        )
        try:
            for element in elements:
                yield _numbered(element, index, shard.shard_id, config, seen)
                index += 1
        except BadFileError as e:  # changed while it was read
            yield ShardFailed(shard.shard_id, e.source, e.position, e.reason)
            return
    yield EndOfShard(shard.shard_id, index)


def _letter_of_file(error: BadFileError) -> DeadLetter:
    reason = f"bad file: {error.reason}"
    return DeadLetter(error.source, error.source, error.position or 0, "read", reason)


def _numbered(
    element: Document | DeadLetter, index: int, shard_id: str, config: ReadConfig, seen: set[str]
) -> Document | DeadLetter:
    if isinstance(element, DeadLetter):
        return dataclasses.replace(element, index=index, shard_id=shard_id)
    problem = None
    kept = element.kept
    if config.options.id_field is not None:
        if element.doc_id in seen:
            problem = f"duplicate id: {element.doc_id!r} is in this shard already"
        seen.add(element.doc_id)
    if config.kept and problem is None:
        try:
            kept = {name: check_kept(name, kind, element.kept.get(name)) for name, kind in config.kept}
        except ValueError as e:
            # Both types in the kind of the reason, the value behind its colon.
            problem = _KEPT_ERROR.sub(r"\1 \2: \3", str(e))
    if problem is None:
        return dataclasses.replace(element, index=index, shard_id=shard_id, kept=kept)
    return DeadLetter(
        element.doc_id, element.source, element.position, "read", problem, element.text, index, shard_id
    )


class _OpenShardsFn(beam.DoFn):
    """The plan file into its shards that have no receipt yet."""

    def process(self, output: str) -> Iterator[Shard]:
        folder = Folder(output)
        done = folder.names(layout.RECEIPTS)
        plan = folder.read(layout.PLAN)
        assert plan is not None  # the launcher wrote it
        lines = io.BytesIO(plan)
        lines.readline()  # the job
        for line in lines:
            shard = Shard.from_line(line.decode())
            if f"{shard.shard_id}.json" not in done:
                yield shard


@dataclasses.dataclass(eq=False)
class OpenShards(beam.PTransform):
    """The shards of the plan that are not committed, spread over the workers.

    Only descriptors cross the shuffle: the plan file itself keeps the job graph small.
    """

    output: str

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            root
            | beam.Create([self.output], reshuffle=False)
            | "Open shards" >> beam.ParDo(_OpenShardsFn())
            | beam.Reshuffle()
        )


class _ReadFn(beam.DoFn):
    def __init__(self, config: ReadConfig):
        self._config = config

    def process(self, shard: Shard) -> Iterator[Any]:
        attempt = 1
        if self._config.output:
            # A runner that repeats a bundle, or all of the job, repeats no committed shard.
            begun = attempts.begin(Folder(self._config.output), shard.shard_id)
            if begun is None:
                return
            attempt = begun
        left = sum(piece.bytes for piece in shard.slices)
        for element in read_shard(shard, self._config):
            if isinstance(element, EndOfShard):
                element = dataclasses.replace(element, attempt=attempt)
                tell(Read(0, left))
            elif isinstance(element, (Document, DeadLetter)):
                size = min(left, len(element.text) if isinstance(element, Document) else 0)
                left -= size
                tell(Read(1, size))
            yield element


@dataclasses.dataclass(eq=False)
class ReadShards(beam.PTransform):
    """Shard -> Document, DeadLetter and, last, EndOfShard or ShardFailed."""

    config: ReadConfig

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | beam.ParDo(_ReadFn(self.config))
