"""Notes of who is at work on a shard: how many times it was begun, where, and since when.

A worker that dies leaves its notes behind, so that the next attempt knows that it is not the first.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time

from transforms.output import layout, ledger
from transforms.output.folder import Folder, to_json
from transforms.output.pending import process_token


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a shard.

    Attributes:
      job: the identity of the job that it belongs to.
      number: 1 for the first one.
      started: seconds since the epoch.
      process: names the process among those of all machines.
    """

    job: str
    number: int
    host: str
    pid: int
    started: float
    process: str = ""


def begin(folder: Folder, shard_id: str, job: str) -> int | None:
    """Notes that this process begins a shard. Returns the attempt's number; None for a committed shard.

    What another job has left, its receipt too, does not count.
    """
    if ledger.committed(folder, shard_id, job) is not None:
        return None
    name = layout.attempt(shard_id)
    note = Attempt(job, 1, socket.gethostname(), os.getpid(), time.time(), process_token())
    if not folder.create_new(name, to_json(note)):
        if before := read(folder, shard_id, job):
            note = dataclasses.replace(note, number=before.number + 1)
        folder.write(name, to_json(note))
    return note.number


def read(folder: Folder, shard_id: str, job: str) -> Attempt | None:
    """The job's last attempt at a shard that is not committed; None before the first.

    It is no more than a note: somebody else's file, or half of one, is none.
    """
    return folder.record(layout.attempt(shard_id), Attempt, job)


def end(folder: Folder, shard_id: str, job: str, number: int | None = None) -> None:
    """Takes the note of this process's attempt away: the shard is committed, or its file is bad.

    The note of a later attempt stays: the end of the job then looks at the shard more closely.
    """
    last = read(folder, shard_id, job)
    if last is not None and last.process == process_token() and number in (None, last.number):
        folder.delete(layout.attempt(shard_id))
