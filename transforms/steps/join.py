"""Where known documents are, found by the runner: only fingerprints and pointers meet in its shuffle.

What is found for a shard is committed as a file before any of its documents is read to be embedded.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from transforms.blocks import FINGERPRINT, DocumentBlock
from transforms.elements import Shard
from transforms.output import layout, plan_file
from transforms.output.buckets import begins
from transforms.output.copies import read_copies
from transforms.output.fingerprints import HIGH, LOW, SPAN, documents_of, find, halves
from transforms.output.folder import Folder
from transforms.output.shard import check_owner
from transforms.steps.reuse import Places, Previous, ReuseConfig, previous
from transforms.steps.shards import ReadConfig, read_shard

# What is found for a shard has one more row than an index: the number of the earlier output.
_ROWS = 5
_NEW = -1
_BUCKET = 1 << 20  # documents that are joined in memory at once: 40 MB


def buckets_for(rows: int) -> int:
    """How many groups of fingerprints a join of so many rows has, a power of two."""
    return 1 << min(max((rows // _BUCKET).bit_length(), 4), 14)


def _name(reuse: ReuseConfig, shard_id: str) -> str:
    return f"{layout.KNOWN}/{reuse.name}/{shard_id}.npy"


def bucketed(high: np.ndarray, buckets: int) -> Iterator[tuple[int, np.ndarray]]:
    """Groups of fingerprints by their first bits, and the places of those in each group, int64 [n]."""
    shift = np.uint64(64 - (buckets.bit_length() - 1))
    bucket = (high >> shift).astype(np.int64)
    order = np.argsort(bucket, kind="stable")
    found, firsts = np.unique(bucket[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, firsts)[1:], strict=True)


def _first_of_each(columns: np.ndarray) -> np.ndarray:
    """Sorted by fingerprint, and of those with the same fingerprint the first."""
    order = np.argsort(columns[HIGH])  # ten times as fast as lexsort, and mostly all that is needed
    if (np.diff(columns[HIGH, order]) == 0).any():
        order = np.lexsort((columns[LOW], columns[HIGH]))
    return columns[:, order[begins(columns[HIGH, order], columns[LOW, order])]]


class _FingerprintsFn(beam.DoFn):
    """Shard -> the fingerprints of its documents, each once, by bucket; and the shard itself."""

    def __init__(self, config: ReadConfig, reuse: ReuseConfig):
        self._config, self._reuse = dataclasses.replace(config, heard=False), reuse

    def process(self, shard: Shard) -> Iterator[Any]:
        if Folder(self._config.output).read(_name(self._reuse, shard.shard_id), 1) is not None:
            yield beam.pvalue.TaggedOutput("ready", shard)
            return
        yield beam.pvalue.TaggedOutput("asked", (shard.shard_id, (True, shard.to_line().encode())))
        blocks = read_shard(shard, self._config)
        found = [halves(one.columns.column(FINGERPRINT)) for one in blocks if isinstance(one, DocumentBlock)]
        if found:
            # Near copies get the vectors of others, which may be found under the others' fingerprints.
            notes = read_copies(Folder(self._config.output), shard.shard_id)
            found.append((notes["of_high"].to_numpy(), notes["of_low"].to_numpy()))
            columns = _first_of_each(np.concatenate(found, axis=1))
            for bucket, places in bucketed(columns[HIGH], self._reuse.buckets):
                yield bucket, (_NEW, shard.shard_id, columns[:, places].tobytes())


def _parts(
    number: int, config: ReadConfig, reuse: ReuseConfig, before: Iterable[Any] = ()
) -> Iterator[tuple[int, str]]:
    """The committed shards of an earlier output; none where everything was found before.

    Args:
      before: what must be done before, as a side input: the last output may be of this job.
    """
    folder = Folder(config.output)
    plan = plan_file.read(folder)
    planned = {shard.shard_id for shard in plan.shards} if plan else set()
    left = planned - folder.shards(layout.RECEIPTS)
    ready = {name.removesuffix(".npy") for name in folder.names(f"{layout.KNOWN}/{reuse.name}")}
    if left - ready:
        one = reuse.outputs[number]
        for shard_id in sorted(Folder(one.path).shards(layout.RECEIPTS)):
            yield number, shard_id


class _EarlierFn(beam.DoFn):
    """A shard of an earlier output -> its fingerprints with their pointers, by bucket."""

    def __init__(self, reuse: ReuseConfig):
        self._reuse = reuse

    def process(self, element: tuple[int, str]) -> Iterator[Any]:
        number, shard_id = element
        one = previous(*self._reuse.outputs[number][:2])
        receipt = one.receipt(int(shard_id, 16))
        for columns in documents_of(one.output, receipt) if receipt else ():
            unique = _first_of_each(columns)[[HIGH, LOW, SPAN]]
            for bucket, places in bucketed(unique[HIGH], self._reuse.buckets):
                yield bucket, (number, shard_id, unique[:, places].tobytes())


def _join(element: tuple[int, Iterable[tuple[int, str, bytes]]]) -> Iterator[tuple[str, tuple[bool, bytes]]]:
    """A bucket -> for each new shard the pointers of those of its documents that are known."""
    new: list[tuple[str, np.ndarray]] = []
    earlier: list[tuple[int, str, np.ndarray]] = []
    for source, shard_id, data in element[1]:
        columns = np.frombuffer(data, np.uint64)
        if source == _NEW:
            new.append((shard_id, columns.reshape(2, -1)))
        else:
            earlier.append((source, shard_id, columns.reshape(3, -1)))
    if not new or not earlier:
        return
    earlier.sort(key=lambda one: one[:2])  # which of the same wins must not depend on the runner
    index = _first_of_each(
        np.concatenate(
            [
                np.stack([high, low, np.full_like(span, int(shard_id, 16)), span, np.full_like(span, source)])
                for source, shard_id, (high, low, span) in earlier
            ],
            axis=1,
        )
    )
    for shard_id, (high, low) in new:
        at = find(index, high, low)
        if (at >= 0).any():
            yield shard_id, (False, index[:, at[at >= 0]].tobytes())


class _KeepFn(beam.DoFn):
    """What was found for a shard -> its file, and then the shard."""

    def __init__(self, output: str, job: str, reuse: ReuseConfig):
        self._output, self._job, self._reuse = output, job, reuse

    def process(self, element: tuple[str, Iterable[tuple[bool, bytes]]]) -> Iterator[Shard]:
        shard_id, values = element
        found, shards = [np.zeros((_ROWS, 0), np.uint64)], []
        for is_shard, data in values:
            if is_shard:
                shards.append(Shard.from_line(data.decode()))
            else:
                found.append(np.frombuffer(data, np.uint64).reshape(_ROWS, -1))
        file = io.BytesIO()
        np.save(file, _first_of_each(np.concatenate(found, axis=1)))
        folder = Folder(self._output)
        check_owner(folder, self._job, shard_id)
        folder.write(_name(self._reuse, shard_id), file.getvalue())
        yield shards[0]


@dataclasses.dataclass
class InFiles:
    """Says where documents are from the file that the join has left for their shard."""

    output: str
    reuse: ReuseConfig
    _shard_id: str = ""
    _index: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((_ROWS, 0), np.uint64), compare=False, repr=False
    )

    def __call__(
        self, shard_id: str, high: np.ndarray, low: np.ndarray, earlier: Sequence[Previous]
    ) -> Places:
        if shard_id != self._shard_id:
            data = Folder(self.output).read(_name(self.reuse, shard_id)) or b""
            self._shard_id, self._index = shard_id, np.load(io.BytesIO(data))
        places = Places.nowhere(len(high))
        at = find(self._index, high, low)
        places.put(np.flatnonzero(at >= 0), self._index[:, at[at >= 0]], earlier)
        return places


@dataclasses.dataclass(eq=False)
class JoinKnown(beam.PTransform):
    """Shard -> Shard, each when it is committed which of its documents the earlier outputs have, and where.

    A document costs 16 bytes in the shuffle, one of an earlier output 24, one that is in both 40
    more, or twice that.
    """

    config: ReadConfig
    reuse: ReuseConfig
    before: beam.PCollection | None = None

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        config, reuse = self.config, self.reuse
        before = [] if self.before is None else [beam.pvalue.AsIter(self.before)]
        types = tuple[int, tuple[int, str, bytes]], tuple[str, tuple[bool, bytes]]
        keyed, found = map(convert_to_beam_type, types)
        read = shards | "Fingerprints" >> beam.ParDo(_FingerprintsFn(config, reuse)).with_outputs(
            "ready", "asked", main="new"
        )
        earlier = (
            shards.pipeline
            | "Earlier outputs" >> beam.Create(range(len(reuse.outputs)), reshuffle=False)
            | "Their shards"
            >> beam.FlatMap(_parts, config, reuse, *before).with_output_types(tuple[int, str])
            | "Spread" >> beam.Reshuffle()
            | "Their fingerprints" >> beam.ParDo(_EarlierFn(reuse)).with_output_types(keyed)
        )
        read.new.element_type, read.asked.element_type, read.ready.element_type = keyed, found, Shard
        known = (
            (read.new, earlier)
            | "Both" >> beam.Flatten()
            | "By fingerprint" >> beam.GroupByKey()
            | "Join" >> beam.FlatMap(_join).with_output_types(found)
        )
        kept = (
            (known, read.asked)
            | "Found and asked" >> beam.Flatten()
            | "By shard" >> beam.GroupByKey()
            | "Keep" >> beam.ParDo(_KeepFn(config.output, config.job, reuse)).with_output_types(Shard)
        )
        return (read.ready, kept) | "All shards" >> beam.Flatten() | "Spread shards" >> beam.Reshuffle()
