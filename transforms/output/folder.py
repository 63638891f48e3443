"""The output folder: whole files or none, on local disks and on object stores."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import uuid
from typing import Any

from transforms.output import layout
from transforms.output.pending import PendingFile, process_token
from transforms.storage import objects
from transforms.storage.files import is_local, list_remote_folder, local_path, open_read
from transforms.storage.retries import retried


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
        if self.local:
            unique = f"{name.replace('/', '-')}.{process_token()}.{uuid.uuid4().hex}"
            temporary = self.join(f"{layout.TEMPORARY}/{unique}")
            os.makedirs(os.path.dirname(temporary), exist_ok=True)
            return PendingFile(open(temporary, "w+b"), self.join(name), temporary)
        # Without a name: whatever kills this process, nothing is left on the disk.
        return PendingFile(tempfile.TemporaryFile(), self.join(name))

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file, atomically."""
        pending = self.create(name)
        pending.file.write(data)
        pending.commit()

    def create_new(self, name: str, data: bytes) -> bool:
        """Writes a small file unless there is one of this name: of several writers one wins.

        Returns:
          Whether this call made the file.
        """
        if self.local:
            pending = self.create(name)
            pending.file.write(data)
            return pending.commit_new()
        if objects.is_object(self.path):
            return objects.put_if_absent(self.join(name), data)
        if self.read(name) is not None:  # Beam's file systems have no conditional writes
            return False
        self.write(name, data)
        return True

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """A file's bytes, or its first ones (of one that is not empty); None where there is no file."""
        path = self.join(name)
        try:
            if self.local:
                with open(path, "rb") as f:
                    return f.read(most)
            if objects.is_object(path):
                return objects.read_object(path) if most is None else objects.read_range(path, 0, most)
        except FileNotFoundError:
            return None
        return retried(lambda: self._read_remote(path, most))

    def _read_remote(self, path: str, most: int | None) -> bytes | None:
        if not _filesystems().exists(path):
            return None
        with open_read(path) as f:
            return f.read(-1 if most is None else most)

    def names(self, folder: str = "") -> dict[str, int]:
        """Names and sizes of the files directly in a sub-folder; empty where it does not exist."""
        base = self.join(folder).rstrip("/")
        if self.local:
            found: dict[str, int] = {}
            with contextlib.suppress(FileNotFoundError), os.scandir(base) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                        if entry.is_file():
                            found[entry.name] = entry.stat().st_size
            return found
        found = {file.path[len(base) + 1 :]: file.size for file in list_remote_folder(base)}
        return {name: size for name, size in found.items() if name and "/" not in name}

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
        if self.local:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.join(name))
        elif objects.is_object(self.path):
            objects.delete_object(self.join(name))
        else:
            retried(lambda: self._delete_remote(self.join(name)))

    def _delete_remote(self, path: str) -> None:
        if _filesystems().exists(path):
            _filesystems().delete([path])

    def sweep(self, *, own: bool = False) -> int:
        """Deletes temporary files that a killed run left, or this process's own; returns how many."""
        if not self.local:
            return 0
        mine = f".{process_token()}."
        names = [n for n in self.names(layout.TEMPORARY) if not own or mine in n]
        for name in names:
            self.delete(f"{layout.TEMPORARY}/{name}")
        return len(names)


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems
