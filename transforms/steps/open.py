"""The plan file into the shards that are left to do."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from transforms.elements import Shard
from transforms.errors import EmbedbeamError
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.steps.reuse import Earlier, ReuseConfig
from transforms.steps.shards import ReadConfig


def open_shards(
    output: str, job: str, reuse: ReuseConfig | None = None, before: Iterable[Any] = ()
) -> Iterator[Shard]:
    """The shards of the plan that have no receipt yet, with the earlier output that has the very same.

    Args:
      before: what must be done before, as a side input.

    Raises:
      EmbedbeamError: the folder has no plan any more, or that of another job.
    """
    folder = Folder(output)
    done = folder.shards(layout.RECEIPTS)  # the launcher has dropped those of other jobs
    plan = folder.read(layout.PLAN)
    if plan is None or plan_file.job_in(plan) != job:
        raise EmbedbeamError(
            f"{folder.join(layout.PLAN)}: is gone or another job's by now; run the command again"
        )
    earlier = _shards_of(reuse.outputs if reuse else ())
    for line in itertools.islice(io.BytesIO(plan), 1, None):  # behind the job
        shard = Shard.from_line(line.decode())
        if shard.shard_id not in done:
            yield dataclasses.replace(shard, same_in=earlier.get(_digest(line)))


def _shards_of(outputs: Sequence[Earlier]) -> dict[bytes, int]:
    """Digests of the shards of earlier plans, and the number of the first output that has each.

    A shard's line tells path, size and time of the last change of each of its files; where no time is known,
    nothing says that a file is the same.
    """
    found: dict[bytes, int] = {}
    for number, one in enumerate(outputs):
        plan = (one.whole and Folder(one.path).read(layout.PLAN)) or b""
        for line in itertools.islice(io.BytesIO(plan), 1, None):
            if all(piece.mtime is not None for piece in Shard.from_line(line.decode()).slices):
                found.setdefault(_digest(line), number)
    return found


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()[:16]


@dataclasses.dataclass(eq=False)
class OpenShards(beam.PTransform):
    """The shards of the plan that are not committed, spread over the workers.

    Only descriptors cross the shuffle: the plan file itself keeps the job graph small.
    """

    config: ReadConfig
    reuse: ReuseConfig | None = None
    before: beam.PCollection | None = None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        before = [] if self.before is None else [beam.pvalue.AsIter(self.before)]
        return (
            root
            | beam.Create([self.config.output], reshuffle=False)
            | "Open shards" >> beam.FlatMap(open_shards, self.config.job, self.reuse, *before)
            | beam.Reshuffle()
        )
