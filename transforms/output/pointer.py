"""The current output: what was published last under one name, and what was before.

On a local disk the name is a symbolic link, so that whoever reads files reads the current output; what was
published is recorded beside it. In a store there are no links: a small object below the name has the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import uuid
from collections.abc import Sequence
from typing import Any

from transforms.errors import UsageError
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile
from transforms.storage import objects
from transforms.storage.files import is_local


@dataclasses.dataclass(frozen=True)
class Published:
    """An output that was made the current one.

    Attributes:
      output: its folder, relative to the one that the pointer lies in where it is below that, so that both
        can be moved or mirrored.
      job: the identity of its job.
      time: when, in UTC, so finely that no two are the same.
    """

    output: str
    job: str
    time: str


@dataclasses.dataclass(frozen=True)
class Pointer:
    """A pointer as it was when it was read.

    Attributes:
      path: its name: an absolute path, or a URL.
      history: what was published, the current output last; empty where nothing is.
      token: of the write that made it so: no two have the same.
      version: what the store compares; None on a disk, and where nothing is.
    """

    path: str
    history: tuple[Published, ...] = ()
    token: str = ""
    version: str | None = None

    def name(self, output: Folder) -> str:
        """What stands for an output in the history."""
        base = self._base()
        return output.path.removeprefix(base) if output.path.startswith(base) else output.path

    def folder(self, published: Published) -> Folder:
        """Where a published output lies."""
        name = published.output
        return Folder(name if name.startswith("/") or not is_local(name) else self._base() + name)

    def _base(self) -> str:
        return self.path.rpartition("/")[0] + "/"


def place(path: str) -> str:
    """The one path or URL of a pointer: a local one in its real folder, since outputs are named beside it."""
    if not is_local(path):
        return Folder(path).path
    folder, name = os.path.split(os.path.abspath(Folder(path).path))
    return os.path.join(os.path.realpath(folder), name)


def followed(folder: Folder) -> Folder:
    """The folder itself, or the one that its name stands for at this moment.

    Raises:
      UsageError: that one is gone.
    """
    if folder.local:
        if not os.path.islink(folder.path):
            return folder
        there = Folder(os.path.realpath(folder.path))
        is_gone = not os.path.exists(there.path)
    else:
        if plan_file.job_of(folder) is not None or not (found := read(folder.path)).history:
            return folder
        there = found.folder(found.history[-1])
        is_gone = plan_file.job_of(there) is None
    if is_gone:
        raise UsageError(
            f"{folder.path}: the current output is {there.path}, which is gone; put it back, or publish "
            "another one"
        )
    return there


def refuse(folder: Folder, flag: str) -> None:
    """Raises UsageError if the folder's name is a pointer: a job would write into what was published."""
    if folder.local:
        path = os.path.abspath(folder.path)
        is_pointer = os.path.islink(path) and os.path.exists(_beside(path, "json"))
    else:
        is_pointer = folder.read(layout.POINTER) is not None
    if is_pointer:
        raise UsageError(
            f"{flag} {folder.path}: is the name of the current output, which `embedbeam publish` made; write "
            "to a new folder, and publish that",
            argument=flag.removeprefix("--"),
        )


def read(path: str) -> Pointer:
    """The pointer of this name.

    Raises:
      UsageError: what is there is none.
    """
    if is_local(path):
        return _read_link(place(path))
    path = place(path)
    where = f"{path}/{layout.POINTER}"
    # The version first: if another write comes between, no swap succeeds.
    with contextlib.suppress(FileNotFoundError):
        version = objects.object_version(where)
        return _parsed(path, objects.read_object(where), where, version)
    return Pointer(path)


def swap(old: Pointer, history: Sequence[Published]) -> bool:
    """Makes the last of the history the current output, unless another write came since `old` was read.

    On a disk the link is renamed over. The record beside it knows both outputs while that is done, and the
    link tells which one counts: killed anywhere, the pointer is the old one or the new one.
    """
    if is_local(old.path):
        return _swap_link(old, tuple(history))
    folder, token = Folder(old.path), uuid.uuid4().hex
    data = _record(history, token)
    if old.version is None:
        return folder.create_new(layout.POINTER, data)
    if objects.swap_object(folder.join(layout.POINTER), data, old.version):
        return True
    return read(old.path).token == token  # written, and the answer was lost


def _beside(path: str, kind: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.published.{kind}")


def _record(history: Sequence[Published], token: str) -> bytes:
    return json.dumps(
        {"token": token, "history": [dataclasses.asdict(one) for one in history]}, indent=1
    ).encode()


def _parsed(path: str, data: bytes, where: str, version: str | None = None) -> Pointer:
    try:
        record: dict[str, Any] = json.loads(data)
        history = tuple(Published(**one) for one in record["history"])
        return Pointer(path, history, record["token"], version)
    except (ValueError, TypeError, KeyError) as e:
        raise UsageError(f"{where}: not what `embedbeam publish` writes ({e}); delete it") from e


def _read_link(path: str) -> Pointer:
    if not os.path.islink(path):
        if os.path.lexists(path):
            kind = "folder" if os.path.isdir(path) else "file"
            raise UsageError(
                f"{path}: is a {kind} that `embedbeam publish` did not make; choose another name"
            )
        return Pointer(path)
    target, where = os.readlink(path), _beside(path, "json")
    found = Pointer(path)
    with contextlib.suppress(FileNotFoundError), open(where, "rb") as f:
        found = _parsed(path, f.read(), where)
    places = [i for i, one in enumerate(found.history) if one.output == target]
    if os.path.islink(path) and os.readlink(path) != target:
        return _read_link(path)  # moved meanwhile, and the record with it
    if not places:
        raise UsageError(
            f"{path}: is a link to {target} that `embedbeam publish` did not make; delete it, or choose "
            "another name"
        )
    # What stands behind the link's own was begun by a process that died, or taken back by one.
    return dataclasses.replace(found, history=found.history[: places[-1] + 1])


def _swap_link(old: Pointer, history: tuple[Published, ...]) -> bool:
    os.makedirs(os.path.dirname(old.path), exist_ok=True)
    with open(_beside(old.path, "lock"), "a") as lock:  # never deleted: it would lock nothing then
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if _read_link(old.path) != old:
            return False
        if not old.history or old.history[-1].output != history[-1].output:  # else the link stays
            if history != old.history[: len(history)]:  # no way back: its end is not in the record yet
                _write(old.path, (*old.history, history[-1]))
            _link(old.path, history[-1].output)
        _write(old.path, history)
    return True


def _write(path: str, history: Sequence[Published]) -> None:
    where = _beside(path, "json")
    pending = PendingFile(where, f"{where}.tmp")
    pending.write(_record(history, uuid.uuid4().hex))
    pending.commit()


def _link(path: str, target: str) -> None:
    temporary = _beside(path, "tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a process that was killed: the lock is ours
    os.symlink(target, temporary)
    os.replace(temporary, path)
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
