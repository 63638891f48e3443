"""The plan file into the shards that are left to do."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterator

import apache_beam as beam

from transforms.elements import Shard
from transforms.errors import EmbedbeamError
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.steps.shards import ReadConfig


def open_shards(output: str, job: str) -> Iterator[Shard]:
    """The shards of the plan that have no receipt yet.

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
    for line in itertools.islice(io.BytesIO(plan), 1, None):  # behind the job
        shard = Shard.from_line(line.decode())
        if shard.shard_id not in done:
            yield shard


@dataclasses.dataclass(eq=False)
class OpenShards(beam.PTransform):
    """The shards of the plan that are not committed, spread over the workers.

    Only descriptors cross the shuffle: the plan file itself keeps the job graph small.
    """

    config: ReadConfig

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            root
            | beam.Create([self.config.output], reshuffle=False)
            | "Open shards" >> beam.FlatMap(open_shards, self.config.job)
            | beam.Reshuffle()
        )
