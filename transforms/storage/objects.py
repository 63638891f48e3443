"""Files elsewhere: objects of `s3://`, `az://` and `gs://`, and whatever Beam's file systems serve.

Every operation has patience (see retries.py). For a store they all raise the same errors:

- FileNotFoundError, FileExistsError, PermissionError: the store says so;
- StoreError: it says something else, or nothing for a long time;
- UsageError: a key that obstore cannot name.

A file system of Beam's may also raise an OSError of its own.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, BinaryIO, TypeVar

from transforms.errors import GO_ON, StoreError, UsageError
from transforms.storage.client import BLOCK, Client, FoundFile
from transforms.storage.clients import connect
from transforms.storage.retries import reason_of, retried, status_of

_ERRNO = {404: errno.ENOENT, 401: errno.EACCES, 403: errno.EACCES, 409: errno.EEXIST, 412: errno.EEXIST}
_T = TypeVar("_T")
_connected = functools.lru_cache(maxsize=16)(connect)
_lock = threading.Lock()


def is_object(path: str) -> bool:
    """Whether a path is one of the stores'."""
    return path.partition("://")[0] in ("s3", "gs", "az")


def _client(scheme: str, bucket: str) -> Client:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    if FileSystems._pipeline_options is None:  # in a worker, Beam puts the job's there and nowhere else
        FileSystems.set_options(PipelineOptions([]))
    with _lock:
        return _connected(scheme, bucket, FileSystems._pipeline_options)


def _ask(path: str, operation: Callable[[Client, str], _T], *, in_bucket: bool = False) -> _T:
    """Runs an operation on a path's bucket and key; `in_bucket` says that only the bucket must be there."""
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    try:
        return retried(lambda: _interruptible(lambda: operation(_client(scheme, bucket), key)))
    except Exception as e:
        if isinstance(e, OSError) and not is_object(path):
            raise
        number = _ERRNO.get(status_of(e) or 0)
        if number == errno.ENOENT and in_bucket:
            missing = f"there is no bucket {scheme}://{bucket}"
            raise StoreError(f"{path}: the store fails ({missing}); make it again") from e
        if number:
            raise OSError(number, os.strerror(number), path) from e  # Python makes it the class of its number
        if type(e).__name__ == "InvalidPathError":  # obstore's
            reason = f"{path}: {reason_of(e)}; rename what has '//', '/./' or '/../' in its path"
            raise UsageError(reason) from e
        raise StoreError(f"{path}: the store fails ({reason_of(e)}); {GO_ON}") from e


def _interruptible(operation: Callable[[], _T]) -> _T:
    """Runs an operation so that Ctrl-C ends it: obstore lets no signal through before its server answers."""
    if threading.current_thread() is not threading.main_thread():
        return operation()
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(operation())
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    return done.result()


def list_objects(prefix: str, *, deep: bool = True) -> list[FoundFile]:
    """All files whose path begins so, without the empty markers of folders.

    Args:
      deep: whether what lies in folders below is asked for, too.
    """
    found = _ask(prefix, lambda client, key: list(client.list(key, deep=deep)), in_bucket=True)
    return [file for file in found if not file.path.endswith("/")]


def object_info(path: str) -> FoundFile:
    """Size and time of the last change."""
    return _ask(path, lambda client, key: client.head(key))


def find_object(path: str) -> list[FoundFile]:
    """The file of this very path, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        return [object_info(path)]
    return []


def read_object(path: str, begin: int = 0, end: int | None = None) -> bytes:
    """A small file's bytes, or those from `begin` to before `end` of one that is longer than `begin`."""
    return _ask(path, lambda client, key: client.get(key, begin, end))


def put_object(path: str, file: BinaryIO, *, new: bool = False) -> bool:
    """Uploads a whole file; the object appears, or changes, when all of it is there.

    Args:
      new: writes only where nothing is. Of all that try at once one succeeds. A try whose answer was lost may
        find what it wrote itself: so the bytes decide, and callers that must tell each other apart put
        something of their own into them.

    Returns:
      Whether these bytes are now there.
    """
    size = file.seek(0, os.SEEK_END)

    def upload(client: Client, key: str) -> None:
        file.seek(0)
        client.put(key, file, size, new=new)

    try:
        _ask(path, upload, in_bucket=True)
    except FileExistsError:
        file.seek(0)
        with contextlib.suppress(FileNotFoundError):  # deleted since
            return read_object(path) == file.read()
        return False
    return True


def copy_object(source: str, target: str) -> bool:
    """Copies an object without its bytes coming here, if both are in one bucket; returns whether they are."""
    bucket = target.split("/", 3)[:3]
    if source.split("/", 3)[:3] != bucket:
        return False
    to = target.split("/", 3)[3]
    _ask(source, lambda client, key: client.copy(key, to))
    return True


def object_version(path: str) -> str:
    """What `swap_object` compares: after any other write it is another one."""
    return _ask(path, lambda client, key: client.version(key))


def swap_object(path: str, data: bytes, version: str) -> bool:
    """Replaces a small object, unless something else was written since it had this version.

    Returns:
      Whether a try succeeded; one whose answer was lost is none, so whoever is told that none did looks for
      something of his own in what is there.
    """
    try:
        _ask(path, lambda client, key: client.swap(key, data, version))
    except (FileExistsError, FileNotFoundError):
        return False
    return True


def delete_object(path: str) -> None:
    """Deletes an object; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        _ask(path, lambda client, key: client.delete(key))


def open_object(path: str, block: int = BLOCK) -> BinaryIO:
    """Opens an object for reading, with seeks; each block is asked for by itself, and with patience."""
    size = object_info(path).size
    return io.BufferedReader(_ObjectReader(path, size), max(1, min(block, size)))


class _ObjectReader(io.RawIOBase):
    def __init__(self, path: str, size: int):
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if self._at >= end:
            return 0
        data = read_object(self._path, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(BLOCK) or b"", b""))  # io's own takes some kilobytes at a time
