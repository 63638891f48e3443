"""The output folder: whole files or none, on local disks and on object stores."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from transforms.output import layout
from transforms.output.pending import PendingFile, committing, link, process_token
from transforms.storage import objects
from transforms.storage.files import is_local, local_path, open_read

_T = TypeVar("_T")


def to_json(record: Any, **more: str) -> bytes:
    """A record (a dataclass) as it lies in the folder."""
    text = json.dumps(more | dataclasses.asdict(record), indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


class Folder:
    """An output folder.

    Locally a file is written under a unique temporary name, synced and renamed: it is there whole or not at
    all. For an object store it is written to a temporary file of this machine and uploaded at `commit`, under
    its final name: a store shows a file only when its upload ends, and an upload that breaks can be repeated.
    """

    def __init__(self, path: str):
        self.local = is_local(path)
        self.path = (local_path(path) if self.local else path).rstrip("/") or "/"

    def join(self, name: str) -> str:
        return f"{self.path}/{name}"

    def create(self, name: str) -> PendingFile:
        """Begins a file that appears under its name only at `commit`."""
        if not self.local:
            return PendingFile(self.join(name))
        return PendingFile(self.join(name), self._temporary(name))

    def _temporary(self, name: str) -> str:
        unique = f"{name.replace('/', '-')}.{process_token()}.{uuid.uuid4().hex}"
        os.makedirs(self.join(layout.TEMPORARY), exist_ok=True)
        return self.join(f"{layout.TEMPORARY}/{unique}")

    def write(self, name: str, data: bytes, *, new: bool = False) -> bool:
        """Writes a small file, atomically; a `new` one as create_new."""
        pending = self.create(name)
        pending.write(data)
        return pending.commit(new=new)

    def create_new(self, name: str, data: bytes) -> bool:
        """Writes a small file unless there is one of this name: of several writers one wins.

        Returns:
          Whether this call made the file.
        """
        return self.write(name, data, new=True)

    def take_over(self, source: str, name: str) -> None:
        """Gives a file that lies elsewhere a name here, without moving its bytes where that can be.

        A hard link or a clone on a local disk, a copy by the store within a bucket; else a copy.
        """
        if self.local and is_local(source):
            link(local_path(source), self._temporary(name), self.join(name))
            return
        if not self.local and not is_local(source) and objects.copy_object(source, self.join(name)):
            return
        with open_read(source) as stream, committing(self.create(name)) as pending:
            shutil.copyfileobj(stream, pending, 1 << 20)

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """A file's bytes, or its first ones (of one that is not empty); None where there is no file."""
        with contextlib.suppress(FileNotFoundError):
            if not self.local:
                return objects.read_object(self.join(name), 0, most)
            with open(self.join(name), "rb") as f:
                return f.read(most)
        return None

    def record(self, name: str, kind: type[_T], job: str | None = None) -> _T | None:
        """A record of this job (of any, if None); None where there is none that can be read."""
        try:
            record = kind(**json.loads(self.read(name) or b""))
        except (ValueError, TypeError):
            return None
        return record if job in (None, getattr(record, "job", None)) else None

    def names(self, folder: str = "") -> dict[str, int]:
        """Names and sizes of the files directly in a sub-folder; empty where it does not exist."""
        base = self.join(folder).rstrip("/")
        if not self.local:
            listed = objects.list_objects(f"{base}/", deep=False)
            return {file.path[len(base) + 1 :]: file.size for file in listed}
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(base) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found

    def shards(self, folder: str) -> set[str]:
        """Ids of the shards with a receipt, failure or attempt in its folder; other names are ignored."""
        found = map(layout.shard_of_record, self.names(folder))
        return {shard_id for shard_id in found if shard_id is not None}

    def sha256(self, name: str) -> tuple[str, int] | None:
        """Checksum and length of a file, read in blocks; None where there is none."""
        try:
            with open_read(self.join(name)) as f:
                sha = hashlib.file_digest(f, "sha256")  # type: ignore[arg-type]  # BinaryIO has no readinto
                return sha.hexdigest(), f.tell()
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Deletes a file; one that is not there is no error."""
        if not self.local:
            objects.delete_object(self.join(name))
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.join(name))

    def delete_files(self, sub: str, which: Callable[[str], object] = bool) -> None:
        """Deletes the files of a sub-folder, or those whose names are such."""
        for name in filter(which, self.names(sub)):
            self.delete(f"{sub}/{name}".lstrip("/"))

    def holds(self, sub: str) -> bool:
        """Whether there is anything in a sub-folder."""
        if self.local:
            return os.path.isdir(self.join(sub))
        return bool(objects.list_objects(f"{self.join(sub)}/"))

    def delete_folder(self, sub: str) -> None:
        """Deletes a sub-folder with all that lies in it."""
        if self.local:
            shutil.rmtree(self.join(sub), ignore_errors=True)
            return
        for file in objects.list_objects(f"{self.join(sub)}/"):
            objects.delete_object(file.path)

    def sweep(self, *, own: bool = False) -> int:
        """Deletes temporary files that a killed run left, or this process's own; returns how many."""
        if not self.local:
            return 0
        mine = f".{process_token()}."
        names = [n for n in self.names(layout.TEMPORARY) if not own or mine in n]
        for name in names:
            self.delete(f"{layout.TEMPORARY}/{name}")
        return len(names)
