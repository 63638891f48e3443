"""One reader of what a job wrote: its plan, receipts, rows, vectors and dead letters, complete or not."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.elements import DeadLetter, ShardReceipt
from transforms.errors import LedgerError, UsageError
from transforms.modality import in_seconds
from transforms.output import forgotten, layout, ledger, manifest, plan_file, pointer
from transforms.output.column_types import FLOAT_TYPES
from transforms.output.damaged import reading
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest
from transforms.output.plan_file import PlanFile
from transforms.output.schema import RowSchema, arrow_schema
from transforms.output.vectors import SCALE, as_matrix
from transforms.storage.files import open_read

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 8192
_Columns = Sequence[str] | None


def open_output(path: str, *, lenient: bool = False) -> Output:
    """Opens the output folder of a job, on a local disk or in a store; the job need not be complete.

    The name of the current output stands for the one that is current now: whatever is published later, all is
    read from that one.

    Args:
      lenient: as in Output.

    >>> output = open_output("out")                        # doctest: +SKIP
    >>> output.complete, output.count, output.dim          # doctest: +SKIP
    (True, 20000, 384)
    >>> for doc_ids, vectors in output.vectors():          # doctest: +SKIP
    ...     index.add(vectors)

    Raises:
      UsageError: there is no job in the folder, or its plan is not whole.
    """
    folder = pointer.followed(Folder(path))
    plan = plan_file.read(folder)
    if plan is None:
        raise UsageError(f"{path}: no job here: expected the output folder of `embedbeam embed`")
    return Output(folder, plan, lenient)


@dataclasses.dataclass(frozen=True)
class Output:
    """An output folder as it was when it was opened; nothing in it is changed.

    Attributes:
      folder: where it lies.
      plan: the job's identity, its choices (`plan.head`) and its shards.
      lenient: whether a shard whose receipt cannot be read counts as not committed; else it is an error.
    """

    folder: Folder
    plan: PlanFile
    lenient: bool = False

    @property
    def job(self) -> dict[str, Any]:
        """Every choice of the job that changes bytes, by name, as in the head of its plan."""
        return dict(self.plan.head)

    @property
    def format(self) -> str:
        """parquet or tfrecord."""
        return self.plan.head["output_format"]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.plan.head["dim"]

    @functools.cached_property
    def schema(self) -> RowSchema:
        """What a row holds."""
        return row_schema(self.plan.head)

    @property
    def vector_columns(self) -> list[str]:
        """The columns that `matrix` makes vectors of."""
        return ["embedding", SCALE] if self.schema.vector_dtype == "int8" else ["embedding"]

    def matrix(self, rows: pa.RecordBatch | pa.Table) -> np.ndarray:
        """Vectors of rows that have `vector_columns`, float32 [rows, dim]."""
        columns = (rows.column(name) for name in self.vector_columns)
        return as_matrix(*(one.combine_chunks() if hasattr(one, "chunks") else one for one in columns))

    @functools.cached_property
    def receipts(self) -> tuple[ShardReceipt, ...]:
        """Receipts of this job's committed shards, in the order of the plan.

        Raises:
          LedgerError: a receipt cannot be read.
        """
        found = {receipt.shard_id: receipt for receipt in self._read[0]}
        planned = (found.get(shard.shard_id) for shard in self.plan.shards)
        return tuple(receipt for receipt in planned if receipt is not None)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Ids of the shards whose receipts cannot be read, in order."""
        return self._read[1]

    @functools.cached_property
    def _read(self) -> tuple[list[ShardReceipt], tuple[str, ...]]:
        unreadable: list[str] = []
        into = unreadable if self.lenient else None
        return ledger.read_receipts(self.folder, self.plan.job, unreadable=into), tuple(sorted(unreadable))

    @functools.cached_property
    def manifest(self) -> Manifest | None:
        """The manifest; None before the job has ended."""
        return manifest.read(self.folder, self.plan.job)

    @functools.cached_property
    def forgotten(self) -> frozenset[str]:
        """Digests of the ids that `embedbeam forget` has taken out."""
        return forgotten.logged(self.folder, self.plan.job)

    @functools.cached_property
    def missing(self) -> tuple[str, ...]:
        """Ids of the shards that are not committed, in the order of the plan."""
        done = {receipt.shard_id for receipt in self.receipts}
        return tuple(shard.shard_id for shard in self.plan.shards if shard.shard_id not in done)

    @functools.cached_property
    def complete(self) -> bool:
        """Whether all shards are committed and the books were balanced."""
        return not self.missing and self.folder.read(layout.SUCCESS) is not None and self.manifest is not None

    @property
    def count(self) -> int:
        """Rows that are committed."""
        return sum(receipt.rows for receipt in self.receipts)

    def rows(self, columns: _Columns = None, *, block_rows: int = BLOCK_ROWS) -> Iterator[pa.RecordBatch]:
        """Committed rows in blocks, in the order of the plan and, within a shard, of the input.

        Args:
          columns: names of those that are read, in the order in which they are wanted; None means all.
          block_rows: most rows of a block.

        Raises:
          UsageError: there is no such column.
          DamagedPart: a part cannot be read.
          LedgerError: a part is another job's.
        """
        for receipt in self.receipts:
            if receipt.part is not None:
                yield from self.part(receipt.part, columns, block_rows=block_rows)

    def vectors(self, *, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[list[str], np.ndarray]]:
        """Ids of documents and their vectors, float32 [rows, dim], in blocks and in the order of `rows`.

        Those that are stored in fewer bits come as near to what they were as these tell.
        """
        for block in self.rows(["doc_id", *self.vector_columns], block_rows=block_rows):
            yield block.column(0).to_pylist(), self.matrix(block)

    def dead_letters(self, receipts: Iterable[ShardReceipt] | None = None) -> Iterator[DeadLetter]:
        """Committed dead letters, in the order of the plan and, within a shard, of the input.

        `receipts` are those of the shards that are read; None means all.

        Raises:
          DamagedPart: a file cannot be read.
        """
        for receipt in self.receipts if receipts is None else receipts:
            if receipt.dead_letters:
                name = layout.dead_letters(receipt.shard_id)
                with reading(self.folder, name), open_read(self.folder.join(name)) as lines:
                    for index, line in enumerate(lines):
                        record = json.loads(line)
                        kind, _, detail = record.pop("reason").partition(": ")
                        yield DeadLetter(**record, kind=kind, detail=detail, index=index)

    def part(
        self,
        name: str,
        columns: _Columns = None,
        *,
        block_rows: int = BLOCK_ROWS,
        row_groups: Sequence[int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one part file, as `rows`; of Parquet those of some row groups, if they are named."""
        wanted = self.arrow.names if columns is None else list(columns)
        self.check_columns(wanted)
        with reading(self.folder, name):
            yield from self._blocks(name, wanted, block_rows, row_groups)

    def _blocks(
        self, name: str, wanted: list[str], block_rows: int, row_groups: Sequence[int] | None
    ) -> Iterator[pa.RecordBatch]:
        path = self.folder.join(name)
        if self.format == "tfrecord":
            from transforms.output.examples import read_examples

            yield from read_examples(path, name, self.arrow.empty_table().select(wanted).schema, block_rows)
            return
        import pyarrow.parquet as pq

        with open_read(path) as f:
            # Else whole columns of a row group are held, as they are stored, for each part that is open.
            file = pq.ParquetFile(f, buffer_size=4 << 20, pre_buffer=False)
            owner = (file.schema_arrow.metadata or {}).get(b"embedbeam.job", b"").decode()
            if owner != self.plan.job and not self._took_over(name, owner):
                raise LedgerError(f"{name}: is of another job ({owner or 'it names none'})")
            for block in file.iter_batches(block_rows, row_groups=row_groups, columns=wanted):
                yield block.select(wanted)

    def _took_over(self, name: str, owner: str) -> bool:
        """Whether the part is known to be one that another job wrote."""
        shard_id = layout.shard_of_part(name)
        receipt = shard_id and ledger.committed(self.folder, shard_id, self.plan.job)
        return bool(receipt and owner and receipt.written_by == owner)

    def row_group_ends(self, name: str) -> np.ndarray:
        """Of a Parquet part the place behind each row group's last row, int64 [row groups]."""
        import pyarrow.parquet as pq

        with reading(self.folder, name), open_read(self.folder.join(name)) as f:
            about = pq.read_metadata(f)
        return np.cumsum([about.row_group(i).num_rows for i in range(about.num_row_groups)], dtype=np.int64)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises UsageError for a column that is not there."""
        fields = self.arrow.names
        if unknown := [column for column in columns if column not in fields]:
            raise UsageError(f"{self.folder.path}: no column {unknown[0]!r}; there are {', '.join(fields)}")

    @functools.cached_property
    def arrow(self) -> pa.Schema:
        """The columns as `rows` gives them.

        Of TFRecord files kept doubles come as floats, and times of day and durations as text.
        """
        import pyarrow as pa

        schema = arrow_schema(self.schema, {})
        if self.format == "parquet":
            return schema
        for i, field in enumerate(schema):
            if str(field.type) in FLOAT_TYPES:
                schema = schema.set(i, field.with_type(pa.float32()))
            elif str(field.type).startswith(("duration", "time32", "time64")):
                schema = schema.set(i, field.with_type(pa.string()))
        return schema


def row_schema(head: Any) -> RowSchema:
    """The columns of a job's rows, from the head of its plan."""
    return RowSchema(
        dim=head["dim"],
        vector_dtype=head["vector_dtype"],
        chunks=head["long_documents"] == "chunks",
        keep_text=head["keep_text"],
        kept=tuple((name, kind) for name, kind in head["kept"]),
        seconds=in_seconds(head.get("modality")),
    )
