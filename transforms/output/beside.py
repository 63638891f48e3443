"""What is committed beside a shard's rows: its dead letters, and documents that are left out."""

from __future__ import annotations

import array
import collections
import json
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.blocks import DeadLetters
from transforms.elements import DeadLetter
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile


def letter_line(letter: DeadLetter) -> bytes:
    """A dead letter as a JSON line."""
    fields = ("doc_id", "source", "position", "stage", "reason", "payload")
    record = {name: getattr(letter, name) for name in fields}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


class LettersFile:
    """A shard's dead letters: written as they come, put in the order of the input at the end.

    Of a letter that is written no more is remembered than its place: 16 bytes.
    """

    def __init__(self, folder: Folder, name: str):
        self._folder, self.name = folder, name
        self._pending: PendingFile | None = None
        self._index, self._ends = array.array("q"), array.array("q")
        self.reasons: collections.Counter[str] = collections.Counter()

    def add(self, letters: DeadLetters) -> None:
        self._pending = self._pending or self._folder.create(self.name)
        for letter in letters.letters:
            self._pending.write(letter_line(letter))
            self._index.append(letter.index)
            self._ends.append(self._pending.bytes)
            self.reasons[letter.kind] += 1

    def in_order(self) -> PendingFile | None:
        """The file as it is to be committed; None if there are no letters."""
        order = np.argsort(np.asarray(self._index), kind="stable")
        if self._pending is not None and (np.diff(order) != 1).any():
            unsorted, self._pending = self._pending, self._folder.create(self.name)
            starts = [0, *self._ends[:-1]]
            for row in order.tolist():
                self._pending.write(unsorted.written(starts[row], self._ends[row]))
            unsorted.discard()
        return self._pending

    def discard(self) -> None:
        if self._pending is not None:
            self._pending.discard()


class LeftOutFile:
    """A shard's documents that are left out, since others say the same: a Parquet file, in order."""

    def __init__(self, folder: Folder, name: str):
        self._folder, self.name = folder, name
        self._pending: PendingFile | None = None
        self._writer: Any = None
        self.count = 0

    def add(self, rows: pa.RecordBatch) -> None:
        import pyarrow.parquet as pq

        if self._pending is None:
            self._pending = self._folder.create(self.name)
            self._writer = pq.ParquetWriter(self._pending, rows.schema, compression="zstd")
        self._writer.write_batch(rows)
        self.count += rows.num_rows

    def done(self) -> PendingFile | None:
        """The file as it is to be committed; None if nothing is left out."""
        if self._writer is not None:
            self._writer.close()
        return self._pending

    def discard(self) -> None:
        if self._pending is not None:
            self._pending.discard()
