"""A shard's mini-batches, a line each: Parquet for queries, event files for TensorBoard.

A shard's Parquet file is committed just before its receipt, under a name that depends on the shard alone:
killed and started again, a job has each mini-batch of a committed shard once. TensorBoard wants a folder a
process and files whose names grow, so a shard's event file appears just after its receipt: a kill in between
loses lines there, and doubles none.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import EmbedbeamError
from transforms.formats.tfrecord import frame
from transforms.observer import MiniBatchDone
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile, process_token

_LOG = logging.getLogger(__name__)
# Lines of a row group: what a shard of any size holds in memory.
_ROWS = 1 << 14
_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    {
        "shard": _TEXT,
        "number": pa.int64(),  # in its shard, from 0
        "begun_ns": pa.int64(),  # since the epoch
        "chunks": pa.int64(),
        "tokens": pa.int64(),  # as the model counts them; 0 where it cannot
        "cost": pa.int64(),  # tokens of the budget
        "padding": pa.float64(),  # share, were every chunk as long as the longest
        "seconds": pa.float64(),  # inside the model
        "wait_seconds": pa.float64(),  # between being ready and entering the model
        "retries": pa.int64(),  # calls of the model beyond one
        "idle_seconds": pa.float64(),  # in which the process's model had less to do, since the one before
        "device": _TEXT,
        "host": _TEXT,
        "pid": pa.int64(),
        "thread": _TEXT,
    }
)


@functools.cache
def _numbers(folder: str, process: str) -> itertools.count[int]:
    """Numbers the mini-batches (and files) that a process traces into a folder."""
    return itertools.count()


class TraceFile:
    """The trace of one shard while it is written."""

    def __init__(self, folder: Folder, shard_id: str):
        self._folder, self._shard_id, self._count = folder, shard_id, 0
        self._parquet = folder.create(layout.trace(shard_id))
        self._writer = pq.ParquetWriter(self._parquet, SCHEMA, compression="zstd")
        self._waiting: list[dict[str, Any]] = []
        self._events = _EventFile(folder, shard_id)

    def add(self, done: Sequence[MiniBatchDone]) -> None:
        where = {"shard": self._shard_id, "host": socket.gethostname(), "pid": os.getpid()}
        for one in done:
            measured = {
                "number": self._count,
                "begun_ns": one.begun,
                "chunks": one.chunks,
                "tokens": one.tokens,
                "cost": one.cost,
                "padding": one.padding,
                "seconds": one.seconds,
                "wait_seconds": one.waited,
                "retries": one.retries,
                "idle_seconds": one.idle,
            }
            self._waiting.append(where | measured | {"device": one.device, "thread": one.thread})
            self._count += 1
            self._events.add(one)
        if len(self._waiting) >= _ROWS:
            self._end_row_group()

    def commit(self) -> None:
        """Gives the Parquet file its name."""
        self._end_row_group()
        self._writer.close()
        self._parquet.commit()

    def show(self) -> None:
        """Gives the shard's lines to TensorBoard, once the shard is committed; without them no job fails."""
        try:
            self._events.commit()
        except (EmbedbeamError, OSError):
            _LOG.warning("no TensorBoard events of shard %s", self._shard_id, exc_info=True)

    def discard(self) -> None:
        self._writer.is_open = False  # else pyarrow writes a footer, into a file that is closed
        self._parquet.discard()
        self._events.discard()

    def _end_row_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, SCHEMA))
            self._waiting.clear()


class _EventFile:
    """TensorBoard events: a step a mini-batch, counted through all that its process traces."""

    def __init__(self, folder: Folder, shard_id: str):
        # TensorFlow is loaded in every process that embeds.
        from tensorflow.core.framework.summary_pb2 import Summary
        from tensorflow.core.util.event_pb2 import Event

        self._event, self._summary = Event, Summary
        self._numbers = _numbers(folder.path, process_token())
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        run = f"{host}-{os.getpid()}-{process_token()[:8]}"
        # TensorBoard reads the files of a run in the order of their names, and goes back to none.
        number = next(_numbers(f"{folder.path}:files", process_token()))
        name = f"events.out.tfevents.{time.time_ns() // 10**6:013d}.{number:08d}.{shard_id}"
        self._file: PendingFile = folder.create(f"{layout.TENSORBOARD}/{run}/{name}")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, one: MiniBatchDone) -> None:
        values = {
            "chunks": one.chunks,
            "tokens": one.tokens,
            "padding": one.padding,
            "seconds": one.seconds,
            "tokens_per_second": (one.tokens or one.cost) / max(one.seconds, 1e-9),
            "wait_seconds": one.waited,
            "retries": one.retries,
        }
        scalars = [
            self._summary.Value(tag=f"mini_batch/{name}", simple_value=value)
            for name, value in values.items()
        ]
        summary = self._summary(value=scalars)
        self._write(self._event(wall_time=one.begun / 1e9, step=next(self._numbers), summary=summary))

    def commit(self) -> None:
        self._file.commit()

    def discard(self) -> None:
        self._file.discard()

    def _write(self, event: Any) -> None:
        """An event as TFRecord frames it."""
        self._file.write(frame(event.SerializeToString()))
