"""The output folder: whole files or none, on local disks and on object stores."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from typing import Any, BinaryIO

from transforms.output import layout
from transforms.storage import objects
from transforms.storage.files import is_local, list_remote_folder, local_path, open_read
from transforms.storage.retries import retried


class HashingFile(io.RawIOBase):
    """A write-only file that knows the SHA-256 and the length of what went through it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._sha.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.bytes

    def sha256(self) -> str:
        return self._sha.hexdigest()


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
            temporary = self.join(
                f"{layout.TEMPORARY}/{name.replace('/', '-')}.{os.getpid()}.{uuid.uuid4().hex}"
            )
            os.makedirs(os.path.dirname(temporary), exist_ok=True)
            return PendingFile(open(temporary, "wb"), self.join(name), temporary)
        # Without a name: whatever kills this process, nothing is left on the disk.
        return PendingFile(tempfile.TemporaryFile(), self.join(name))

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file, atomically."""
        pending = self.create(name)
        pending.file.write(data)
        pending.commit()

    def read(self, name: str) -> bytes | None:
        """Returns a file's bytes, or None where there is none."""
        if self.local:
            try:
                with open(self.join(name), "rb") as f:
                    return f.read()
            except FileNotFoundError:
                return None
        if objects.is_object(self.path):
            return objects.read_object(self.join(name))
        return retried(lambda: self._read_remote(self.join(name)))

    def _read_remote(self, path: str) -> bytes | None:
        if not _filesystems().exists(path):
            return None
        with open_read(path) as f:
            return f.read()

    def names(self, folder: str = "") -> dict[str, int]:
        """Names and sizes of the files directly in a sub-folder; empty where it does not exist."""
        base = self.join(folder).rstrip("/")
        if self.local:
            try:
                return {e.name: e.stat().st_size for e in os.scandir(base) if e.is_file()}
            except FileNotFoundError:
                return {}
        below = [(file.path[len(base) + 1 :], file.size) for file in list_remote_folder(base)]
        return {name: size for name, size in below if name}

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
        mine = f".{os.getpid()}."
        names = [n for n in self.names(layout.TEMPORARY) if not own or mine in n]
        for name in names:
            self.delete(f"{layout.TEMPORARY}/{name}")
        return len(names)


class PendingFile:
    """A file being written; it does not exist for readers before `commit`."""

    def __init__(self, raw: BinaryIO, final: str, temporary: str | None = None):
        self._raw, self._final, self._temporary = raw, final, temporary
        self.file = HashingFile(raw)

    def commit(self) -> None:
        """Syncs or uploads, closes, and gives the file its final name."""
        if self._temporary is None:
            with self._raw:
                if objects.is_object(self._final):
                    objects.put_object(self._final, self._raw)
                else:
                    retried(lambda: _upload(self._raw, self._final))
            return
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        folder = os.path.dirname(self._final)
        os.makedirs(folder, exist_ok=True)
        os.replace(self._temporary, self._final)
        _sync_folder(folder)

    def discard(self) -> None:
        """Forgets what was written; does nothing after `commit`."""
        self._raw.close()
        if self._temporary is None:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)


def _sync_folder(folder: str) -> None:
    """A rename is durable only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upload(local: BinaryIO, path: str) -> None:
    """Uploads a whole file under its final name; a repetition overwrites it with the same bytes."""
    from apache_beam.io.filesystem import CompressionTypes

    local.seek(0)
    # As it is: Beam would compress a .gz once more.
    upload = _filesystems().create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED)
    try:
        shutil.copyfileobj(local, upload, 1 << 20)
        upload.close()
    except BaseException:
        _never_close(upload)
        raise


def _never_close(upload: Any) -> None:
    """Gives an upload up: closing it, as the garbage collector does, would publish half a file."""
    for stream in (upload, getattr(upload, "raw", None)):
        with contextlib.suppress(AttributeError):  # a BufferedWriter has no such slot, the stream in it has
            stream.close = lambda: None  # type: ignore[union-attr]


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems
