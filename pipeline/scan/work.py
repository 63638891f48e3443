"""What is done with every row of an output, a part file at a time, and where its results lie."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from transforms.elements import ShardReceipt
from transforms.errors import LedgerError
from transforms.output import layout
from transforms.output.folder import Folder, to_json
from transforms.output.pending import committing
from transforms.output.plan_file import read as read_plan
from transforms.output.reader import Output
from transforms.storage.files import open_read

if TYPE_CHECKING:
    import pyarrow as pa

SCAN = f"{layout.STATE}/scan.json"  # which scan a folder of results is of


class Work(Protocol):
    """What is done with a part; frozen and picklable, since workers elsewhere do it.

    What takes long to make (an index, queries) it makes when it is first used, and keeps for the process.

    Attributes:
      name: of the command that wants it.
      choices: in JSON's types, all that changes its results beside the rows: with others they are made anew.
      schema: of its results.
    """

    @property
    def name(self) -> str: ...
    @property
    def choices(self) -> Mapping[str, Any]: ...
    @property
    def schema(self) -> pa.Schema: ...

    def part(self, output: Output, name: str) -> Iterator[pa.RecordBatch]:
        """The results of one part file: the same ones for the same part, in the same order."""


@dataclasses.dataclass(frozen=True)
class ScanReceipt:
    """Says that the results of a shard are whole.

    Attributes:
      job: the scan's identity.
      rows, bytes, sha256: of the file of results.
      seconds: that the shard took.
    """

    job: str
    shard_id: str
    rows: int
    bytes: int
    sha256: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Scan:
    """A work, the output whose rows it sees, and the folder that gets its results.

    Attributes:
      source, job: path and identity of the output.
      contents: a checksum of its rows; of an unfinished job they become more.
      target: path of the results: a Parquet file for each part, of the same shard.
    """

    source: str
    job: str
    contents: str
    target: str
    work: Work

    @functools.cached_property
    def identity(self) -> str:
        """Of the rows and of all choices."""
        said = json.dumps([self.job, self.contents, self.work.name, dict(self.work.choices)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def do(self, output: Output, shard_id: str, part: str) -> ScanReceipt:
        """Does one part and commits its results: a file under its final name, and then its receipt."""
        import pyarrow.parquet as pq

        folder, started, rows = Folder(self.target), time.monotonic(), 0
        schema = self.work.schema.with_metadata({"embedbeam.scan": self.identity})
        pending = folder.create(layout.part(shard_id, ".parquet"))
        with committing(pending), pq.ParquetWriter(pending, schema) as writer:
            for block in self.work.part(output, part):
                writer.write_batch(block)
                rows += len(block)
        receipt = ScanReceipt(
            job=self.identity,
            shard_id=shard_id,
            rows=rows,
            bytes=pending.bytes,
            sha256=pending.sha256(),
            seconds=round(time.monotonic() - started, 3),
        )
        folder.write(layout.receipt(shard_id), to_json(receipt))
        return receipt

    def left(self, receipts: Sequence[ShardReceipt]) -> list[tuple[str, str]]:
        """Shards and part files that have rows, and no results yet."""
        folder = Folder(self.target)
        done = {one for one in folder.shards(layout.RECEIPTS) if self.receipt(folder, one)}
        return [(r.shard_id, r.part) for r in receipts if r.part is not None and r.shard_id not in done]

    def receipt(self, folder: Folder, shard_id: str) -> ScanReceipt | None:
        """The receipt of a shard whose results are this scan's; None where there is none."""
        return folder.record(layout.receipt(shard_id), ScanReceipt, self.identity)


@functools.lru_cache(maxsize=4)
def source_of(path: str, job: str, contents: str) -> Output:
    """The output, opened once in a process; of this job.

    Args:
      contents: of a `Scan`, so that a worker that did an earlier one opens it anew.

    Raises:
      LedgerError: its plan is another job's by now.
    """
    folder = Folder(path)
    plan = read_plan(folder)
    if plan is None or plan.job != job:
        raise LedgerError(f"{path}: the folder is another job's by now; run the same command again")
    return Output(folder, plan)


@dataclasses.dataclass(frozen=True)
class Results:
    """What a scan has found; complete.

    Attributes:
      folder, identity: the scan's.
      parts: names of the files of results, in the order of the output's plan.
    """

    folder: Folder
    identity: str
    parts: tuple[str, ...]

    def blocks(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All results, in the order of the output's rows."""
        for name in self.parts:
            yield from self.part(name, columns)

    def part(
        self, name: str, columns: list[str] | None = None, *, row_groups: list[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Those of one file, or of some of its row groups: one is what the work gave at once.

        Raises:
          LedgerError: a late worker of another scan wrote over it.
        """
        import pyarrow.parquet as pq

        with open_read(self.folder.join(name)) as f:
            file = pq.ParquetFile(f)
            if (file.schema_arrow.metadata or {}).get(b"embedbeam.scan", b"").decode() != self.identity:
                self.folder.delete(layout.receipt(layout.shard_of_part(name) or ""))
                raise LedgerError(f"{name}: was written over by another scan; run the same command again")
            yield from file.iter_batches(columns=columns, row_groups=row_groups)
