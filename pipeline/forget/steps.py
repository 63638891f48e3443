"""An errand as a Beam job: only ids of shards cross the shuffle."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pipeline.forget.work import Errand


class _ErrandFn(beam.DoFn):
    def __init__(self, errand: Errand):
        self._errand = errand

    def process(self, shard_id: str):  # type: ignore[no-untyped-def]
        self._errand.do(shard_id)
        yield shard_id


def build_errand(root: beam.Pipeline, errand: Errand, shard_ids: Sequence[str]) -> beam.PCollection:
    """The shards, spread over the workers."""
    shards = root | beam.Create(shard_ids, reshuffle=False) | beam.Reshuffle()
    return shards | "Forget" >> beam.ParDo(_ErrandFn(errand))
