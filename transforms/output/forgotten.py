"""Documents that were taken out of an output for good: what is being done, and the log of what was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from transforms.errors import JobFailed
from transforms.output import layout
from transforms.output.folder import Folder, to_json

if TYPE_CHECKING:
    import pyarrow as pa

# Tells of ids (a string column) which are to be forgotten, as a boolean column.
Gone = Callable[["pa.Array"], "pa.Array"]


def digest(job: str, doc_id: str) -> str:
    """What is kept of an id: hexadecimal SHA-256 of the job's identity, a colon, and the id.

    It tells whether an id that somebody has was forgotten, and no id to those who have none. Of another
    output the same id has another one.

    >>> digest("0" * 32, "a")[:16]
    'eed7a20063578b21'
    """
    return hashlib.sha256(f"{job}:{doc_id}".encode("utf-8", "backslashreplace")).hexdigest()


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """What is being forgotten; lies in the folder until all of it is.

    Attributes:
      job: the identity of the job.
      time: when it was begun, UTC.
      embedbeam: the version that began it.
      hashes: digests of the ids, sorted.
      shards: those that hold one of the documents.
      rows, dead_letters, forgotten: what the output had of each before.
      report: whether there was a report.
    """

    job: str
    time: str
    embedbeam: str
    hashes: list[str]
    shards: list[str]
    rows: int
    dead_letters: int
    forgotten: int
    report: bool


def begin(folder: Folder, forgetting: Forgetting) -> None:
    """Notes what is about to be forgotten, before anything is changed.

    Raises:
      JobFailed: another process, which no lock keeps out of an object store, was faster.
    """
    if not folder.create_new(layout.FORGET, to_json(forgetting)):
        raise JobFailed(f"{folder.path}: another `embedbeam forget` has just begun there; wait for it")


def begun(folder: Folder, job: str) -> Forgetting | None:
    """What is being forgotten, or was when its process died; None if there is nothing."""
    return folder.record(layout.FORGET, Forgetting, job)


def check_ended(folder: Folder, job: str) -> None:
    """Raises JobFailed where documents are being forgotten, or were when the process died."""
    if begun(folder, job) is not None:
        raise JobFailed(f"{folder.path}: {under_way(folder)}")


def under_way(folder: Folder) -> str:
    """What to do about an output of which documents are being forgotten."""
    return (
        f"documents are being forgotten, or were when a process died: wait for it, or run `embedbeam forget "
        f"{folder.path}`, which ends what was begun"
    )


def log(folder: Folder, forgetting: Forgetting, **counts: int) -> None:
    """Adds a line to the log, once."""
    entry = {name: getattr(forgetting, name) for name in ("time", "job", "embedbeam")}
    entry |= counts | {"hashes": forgetting.hashes}
    line = json.dumps(entry).encode() + b"\n"
    there = folder.read(layout.FORGOTTEN) or b""
    if not there.endswith(line):  # written before the process died
        folder.write(layout.FORGOTTEN, there + line)


def logged(folder: Folder, job: str) -> frozenset[str]:
    """Digests of all ids that this job's output has forgotten."""
    lines = (folder.read(layout.FORGOTTEN) or b"").splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return frozenset(one for entry in entries if entry["job"] == job for one in entry["hashes"])


def by_ids(ids: Collection[str]) -> Gone:
    """Tells documents by their ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(ids), pa.string())
    return lambda column: pc.is_in(column, wanted)


def by_hashes(job: str, hashes: Collection[str]) -> Gone:
    """Tells documents by the digests of their ids, where nobody has the ids any more."""
    import pyarrow as pa

    def gone(column: pa.Array) -> pa.Array:
        found = (one is not None and digest(job, one) in hashes for one in column.to_pylist())
        return pa.array(found, pa.bool_())

    return gone
