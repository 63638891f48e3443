"""The plan file: what the job is on its first line, then a line a shard; and the job's identity.

The identity is a digest of the whole file. It stands in everything that a job writes, so that nothing of one
job is ever taken for another's: ids of shards depend on the input alone, whatever the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transforms.elements import Shard
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder

# The identity comes first, so that a worker learns it from the first bytes of a large file.
_IDENTITY = re.compile(rb'\{"job": "([0-9a-f]{32})", ')
_IDENTITY_BYTES = 64


@dataclasses.dataclass(frozen=True)
class PlanFile:
    """A plan that is whole.

    Attributes:
      job: the job's identity, 32 hexadecimal digits.
      head: every choice that changes bytes, by name, and how many shards there are.
      shards: in the order of the input.
    """

    job: str
    head: Mapping[str, Any]
    shards: tuple[Shard, ...]


def to_bytes(head: Mapping[str, Any], shards: Sequence[Shard], *, launcher: str = "") -> bytes:
    """The plan file; the same head and shards give the same identity.

    Args:
      launcher: tells apart the files of two launchers that make the same plan at once; no part of it.
    """
    lines = "".join(f"{shard.to_line()}\n" for shard in shards).encode()
    sealed = {**head, "shards": len(shards), "shards_sha256": hashlib.sha256(lines).hexdigest()}
    sealed = {"job": _identity(sealed), **sealed, "launcher": launcher}
    first = json.dumps(sealed, ensure_ascii=False)
    if not first.isprintable():  # a path may hold separators of lines, or bytes that are not UTF-8
        first = json.dumps(sealed)
    return first.encode() + b"\n" + lines


def _identity(head: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()[:32]


def from_bytes(data: bytes, where: str) -> PlanFile:
    """The inverse of to_bytes.

    Raises:
      UsageError: the file is not a plan of this version, it lost lines, or it was altered.
    """
    first, _, lines = data.partition(b"\n")
    try:
        head = json.loads(first)
        del head["launcher"]
        job, checksum, count = head.pop("job"), head["shards_sha256"], head["shards"]
        identity = _identity(head)
        del head["shards_sha256"]
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise other_version(where, e) from e
    found = lines.count(b"\n")
    if found != count:
        raise UsageError(
            f"{where}: has {found:,} shards, its first line says {count:,}: it was cut off or altered; put "
            "the whole file back, or use `overwrite`"
        )
    if hashlib.sha256(lines).hexdigest() != checksum or identity != job:
        raise UsageError(
            f"{where}: its checksum is wrong: it was altered; put the file back as it was, or use `overwrite`"
        )
    # Not splitlines: names may hold U+2028, which is no end of a line here.
    shards = tuple(Shard.from_line(line) for line in lines.decode().split("\n")[:-1])
    return PlanFile(job, head, shards)


def other_version(where: str, error: Exception) -> UsageError:
    """What a plan is that cannot be understood."""
    return UsageError(
        f"{where}: not a plan of this version of embedbeam ({error}); use another output folder, or "
        "`overwrite`"
    )


def read(folder: Folder) -> PlanFile | None:
    """The plan of an output folder; None where there is none.

    Raises:
      UsageError: as from_bytes.
    """
    data = folder.read(layout.PLAN)
    return None if data is None else from_bytes(data, folder.join(layout.PLAN))


def job_in(data: bytes) -> str | None:
    """The identity at the head of a plan file; None if these bytes begin none."""
    found = _IDENTITY.match(data)
    return found[1].decode() if found else None


def job_of(folder: Folder) -> str | None:
    """Whose the folder is now, from the first bytes of its plan; None where there is no plan."""
    return job_in(folder.read(layout.PLAN, _IDENTITY_BYTES) or b"")
