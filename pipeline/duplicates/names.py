"""Ids and places of documents by their ordinals, on disk; and the Parquet file of duplicates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.duplicates.find import Duplicates
from pipeline.target import begin
from transforms.blocks import DocumentBlock
from transforms.output.pending import committing

_ROWS = 65_536  # of a batch
_CHUNK = 1 << 20
_PLACE = [("doc_id", pa.string()), ("source", pa.string()), ("position", pa.int64())]
_SCHEMA = pa.schema([("ordinal", pa.int64()), *_PLACE])
_ROW = pa.schema(
    [
        *_PLACE,
        *(("of" if name == "doc_id" else f"of_{name}", kind) for name, kind in _PLACE),
        ("kind", pa.string()),
        ("similarity", pa.float32()),
        ("group_size", pa.int64()),
    ]
)


class Names:
    """Writes doc_id, source and position of documents, and finds them again.

    Args:
      path: of the file that they lie in.
    """

    def __init__(self, path: str):
        self._path, self._held, self._rows = path, list[pa.RecordBatch](), 0
        self._firsts: list[int] = []
        self._writer = pa.ipc.new_file(path, _SCHEMA)

    def hear(self, ordinals: np.ndarray, block: DocumentBlock) -> None:
        """Takes a block's documents, whose ordinals come after all before."""
        columns = [pa.array(ordinals, pa.int64()), *block.columns.columns[:3]]
        self._held.append(pa.record_batch(columns, schema=_SCHEMA))
        self._rows += len(ordinals)
        if self._rows >= _ROWS:
            self._write()

    def _write(self) -> None:
        batch = pa.concat_batches(self._held)
        self._held, self._rows = [], 0
        self._firsts.append(batch.column(0)[0].as_py())
        self._writer.write_batch(batch)

    def done(self) -> None:
        """Ends the writing; from here on `take` may be called."""
        if self._held:
            self._write()
        self._writer.close()
        self._reader = pa.ipc.open_file(pa.memory_map(self._path))

    def take(self, ordinals: np.ndarray) -> pa.Table:
        """doc_id, source and position of these documents, int64 [n], in any order."""
        chosen, back = np.unique(ordinals, return_inverse=True)
        where = np.searchsorted(self._firsts, chosen, side="right") - 1
        found = []
        for number in np.unique(where).tolist():
            batch = self._reader.get_batch(number)
            rows = np.searchsorted(batch.column(0).to_numpy(), chosen[where == number])
            found.append(batch.take(pa.array(rows)))
        return pa.Table.from_batches(found, _SCHEMA).take(pa.array(back)).drop_columns("ordinal")


def write_rows(duplicates: Duplicates, sizes: np.ndarray, names: Names, to: str) -> None:
    """Writes a Parquet file with a row for each document that is left out, in the order of the plan.

    Its columns: doc_id, source, position; of, of_source, of_position: of the document that is kept in its
    place; kind: exact or near; similarity; group_size: documents of the group, with the one that is kept.
    """
    with committing(begin(to)) as file, pq.ParquetWriter(file, _ROW, compression="zstd") as writer:
        for ordinals in left_out(duplicates):
            owners = np.asarray(duplicates.owners[ordinals])
            its, kept = names.take(ordinals), names.take(owners)
            kinds = np.where(duplicates.exact[ordinals] == owners, "exact", "near")
            numbers = [pa.array(duplicates.similarity[ordinals]), pa.array(sizes[owners])]
            columns = [*its.columns, *kept.columns, pa.array(kinds.tolist(), pa.string()), *numbers]
            writer.write_table(pa.table(columns, schema=_ROW))


def left_out(duplicates: Duplicates) -> Iterator[np.ndarray]:
    """Ordinals of the documents that another is kept for, in order, int64 [some thousand]."""
    for at in range(0, len(duplicates.owners), _CHUNK):
        owners = np.asarray(duplicates.owners[at : at + _CHUNK])
        found = at + np.flatnonzero((owners >= 0) & (owners != np.arange(at, at + len(owners))))
        yield from (found[low : low + _ROWS] for low in range(0, len(found), _ROWS))
