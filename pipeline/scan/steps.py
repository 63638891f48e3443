"""A scan as a Beam job: only names of part files cross the shuffle."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

from pipeline.scan.work import Scan, source_of


@dataclasses.dataclass(eq=False)
class ScanParts(beam.PTransform):
    """(shard id, part file) → ScanReceipt; commits the results of each."""

    scan: Scan

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        return parts | "Scan" >> beam.ParDo(_ScanFn(self.scan))


class _ScanFn(beam.DoFn):
    def __init__(self, scan: Scan):
        self._scan = scan

    def process(self, element: tuple[str, str]):  # type: ignore[no-untyped-def]
        shard_id, part = element
        scan = self._scan
        yield scan.do(source_of(scan.source, scan.job, scan.contents), shard_id, part)


def build_scan(root: beam.Pipeline, scan: Scan, parts: list[tuple[str, str]]) -> beam.PCollection:
    """The parts, spread over the workers."""
    return root | beam.Create(parts, reshuffle=False) | beam.Reshuffle() | ScanParts(scan)
