"""Notes of who is at work on a shard: how many times it was begun, where, and since when.

A worker that dies leaves its notes behind, so that the next attempt knows that it is not the first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time

from transforms.output import layout
from transforms.output.folder import Folder


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a shard.

    Attributes:
      number: 1 for the first one.
      started: seconds since the epoch.
    """

    number: int
    host: str
    pid: int
    started: float


def begin(folder: Folder, shard_id: str) -> int | None:
    """Notes that this process begins a shard. Returns the attempt's number; None for a committed shard."""
    if folder.read(layout.receipt(shard_id)) is not None:
        return None
    before = read(folder, shard_id)
    attempt = Attempt(before.number + 1 if before else 1, socket.gethostname(), os.getpid(), time.time())
    folder.write(layout.attempt(shard_id), json.dumps(dataclasses.asdict(attempt)).encode())
    return attempt.number


def read(folder: Folder, shard_id: str) -> Attempt | None:
    """The last attempt at a shard that is not committed; None before the first."""
    data = folder.read(layout.attempt(shard_id))
    try:
        return Attempt(**json.loads(data)) if data else None
    except (ValueError, TypeError):  # somebody else's file: it is no more than a note
        return None


def end(folder: Folder, shard_id: str) -> None:
    """Takes the note away: the shard is committed, or its file is bad."""
    folder.delete(layout.attempt(shard_id))
