"""Which documents of a job are copies of which, found by the runner: only fingerprints are shuffled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from transforms.blocks import FINGERPRINT, INDEX, DocumentBlock
from transforms.elements import Shard
from transforms.output import layout, plan_file
from transforms.output.buckets import begins
from transforms.output.copies import SCHEMA, from_bytes, to_bytes, write_copies
from transforms.output.fingerprints import halves
from transforms.output.folder import Folder
from transforms.output.shard import check_owner
from transforms.steps.join import bucketed
from transforms.steps.shards import ReadConfig, read_shard

_PRINTS = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("index", pa.int64()),
        ("often", pa.bool_()),
        ("id", pa.string()),
    ]
)
_Part = tuple[int, str, bytes]  # number of a shard in the plan, its id, rows of _PRINTS


def _open(config: ReadConfig) -> Iterator[tuple[int, Shard]]:
    """The shards of the plan, numbered; none where all was found before."""
    folder = Folder(config.output)
    plan = plan_file.read(folder)
    planned = plan.shards if plan is not None and plan.job == config.job else ()
    if {shard.shard_id for shard in planned} - folder.shards(layout.COPIES):
        yield from enumerate(planned)


class _PrintsFn(beam.DoFn):
    """A shard -> the fingerprints of its documents, each once with its first place, by bucket."""

    def __init__(self, config: ReadConfig, buckets: int, ids: bool):
        self._config, self._buckets, self._ids = dataclasses.replace(config, heard=False), buckets, ids

    def process(self, element: tuple[int, Shard]) -> Iterator[Any]:
        number, shard = element
        yield beam.pvalue.TaggedOutput("asked", (shard.shard_id, b""))
        found = []
        for block in read_shard(shard, self._config):
            if isinstance(block, DocumentBlock):
                high, low = halves(block.columns.column(FINGERPRINT))
                index = block.columns.column(INDEX)
                ids = block.columns.column(0) if self._ids else pa.nulls(len(index), pa.string())
                found.append(pa.table([high, low, index, np.zeros(len(index), bool), ids], schema=_PRINTS))
        if not found:
            return
        rows = pa.concat_tables(found).combine_chunks()
        high, low = rows["high"].to_numpy(), rows["low"].to_numpy()
        order = np.lexsort((low, high))  # stable: the first of the same is the first of the shard
        new = begins(high[order], low[order])
        often = np.diff(np.flatnonzero(np.append(new, True))) > 1
        rows = rows.take(pa.array(order[new])).set_column(3, "often", pa.array(often))
        for bucket, places in bucketed(rows["high"].to_numpy(), self._buckets):
            yield bucket, (number, shard.shard_id, to_bytes(rows.take(pa.array(places))))


def _join(element: tuple[int, Iterable[_Part]]) -> Iterator[tuple[str, bytes]]:
    """A bucket -> for each shard those of its fingerprints that are there more than once, with the first."""
    parts = sorted(element[1], key=lambda part: part[0])
    tables = [from_bytes(data) for _, _, data in parts]
    rows = pa.concat_tables(tables).combine_chunks()
    part = np.repeat(np.arange(len(parts)), [len(table) for table in tables])
    high, low = rows["high"].to_numpy(), rows["low"].to_numpy()
    order = np.lexsort((part, low, high))
    new = begins(high[order], low[order])
    group = np.cumsum(new) - 1
    firsts = order[new]
    several = (np.bincount(group) > 1) | rows["often"].to_numpy(zero_copy_only=False)[firsts]
    chosen = order[several[group]]
    owners = firsts[group[several[group]]]
    shards = np.array([int(shard_id, 16) for _, shard_id, _ in parts], np.uint64)
    index, ids = rows["index"].to_numpy(), rows["id"]
    for number in np.unique(part[chosen]).tolist():
        mine = part[chosen] == number
        its, own = owners[mine], chosen[mine]
        ones = np.ones(len(own), np.float32)
        found = [high[own], low[own], high[its], low[its], shards[part[its]], index[its]]
        table = pa.table([*found, ids.take(pa.array(its)), ones], schema=SCHEMA)
        yield parts[number][1], to_bytes(table)


def _keep(element: tuple[str, Iterable[bytes]], output: str, job: str) -> str:
    shard_id, values = element
    check_owner(Folder(output), job, shard_id)
    tables = [from_bytes(data) for data in values if data]
    write_copies(Folder(output), shard_id, pa.concat_tables([SCHEMA.empty_table(), *tables]))
    return shard_id


@dataclasses.dataclass(eq=False)
class FindCopies(beam.PTransform):
    """Gives the ids of the plan's shards, each when its copies are noted in the output folder.

    A document costs 25 bytes in the shuffle, and its id where copies are left out; a copy 50 more.
    """

    config: ReadConfig
    buckets: int
    ids: bool

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        part, keyed = map(convert_to_beam_type, (tuple[int, _Part], tuple[str, bytes]))
        read = (
            root
            | beam.Create([self.config], reshuffle=False)
            | "Plan" >> beam.FlatMap(_open).with_output_types(tuple[int, Shard])
            | beam.Reshuffle()
            | "Fingerprints"
            >> beam.ParDo(_PrintsFn(self.config, self.buckets, self.ids)).with_outputs("asked", main="prints")
        )
        read.prints.element_type, read.asked.element_type = part, keyed
        found = (
            read.prints
            | "By fingerprint" >> beam.GroupByKey()
            | "Join" >> beam.FlatMap(_join).with_output_types(keyed)
        )
        return (
            (found, read.asked)
            | beam.Flatten()
            | "By shard" >> beam.GroupByKey()
            | "Note" >> beam.Map(_keep, self.config.output, self.config.job).with_output_types(str)
        )
