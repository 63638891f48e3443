"""Objects of S3, Azure Blob Storage and Google Cloud Storage: `s3://`, `az://` and `gs://`.

Every operation has patience (see retries.py) and raises the same errors, whichever the store:

- FileNotFoundError, FileExistsError, PermissionError: the store says so;
- StoreError: it says something else, or nothing for a long time;
- UsageError: a key that obstore cannot name.
"""

from __future__ import annotations

import errno
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, TypeVar

from transforms.errors import StoreError, UsageError
from transforms.storage.client import BLOCK, Client
from transforms.storage.clients import connect
from transforms.storage.retries import reason_of, retried, status_of

SCHEMES = ("s3", "gs", "az")
_T = TypeVar("_T")


class ObjectInfo(NamedTuple):
    """An object's path, bytes, and time of the last change in whole seconds since the epoch."""

    path: str
    size: int
    mtime: float


def is_object(path: str) -> bool:
    """Whether a path is one of the stores'."""
    return path.partition("://")[0] in SCHEMES


_clients: dict[
    str, tuple[Any, Client]
] = {}  # by scheme and bucket: the options they were made with, and they
_lock = threading.Lock()


def _client(scheme: str, bucket: str) -> Client:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = FileSystems._pipeline_options  # in a worker, Beam puts the job's options there and nowhere else
    key = f"{scheme}://{bucket}"
    with _lock:
        made_with, client = _clients.get(key, (None, None))
        if client is None or made_with is not options:
            client = connect(scheme, bucket, options or PipelineOptions([]))
            _clients[key] = (options, client)
        return client


def _ask(path: str, operation: Callable[[Client, str], _T]) -> _T:
    """Runs an operation on a path's bucket and key."""
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    try:
        return retried(lambda: _interruptible(lambda: operation(_client(scheme, bucket), key)))
    except Exception as e:
        known = {
            404: errno.ENOENT,
            401: errno.EACCES,
            403: errno.EACCES,
            409: errno.EEXIST,
            412: errno.EEXIST,
        }
        if number := known.get(status_of(e) or 0):
            raise OSError(number, os.strerror(number), path) from e  # Python makes it the class of its number
        if type(e).__name__ == "InvalidPathError":  # obstore's
            raise UsageError(
                f"{path}: {reason_of(e)}; rename what has '//', '/./' or '/../' in its path"
            ) from e
        raise StoreError(
            f"{path}: the store fails ({reason_of(e)}); what is committed is kept: mend this, then run the "
            "same command again"
        ) from e


def _interruptible(operation: Callable[[], _T]) -> _T:
    """Runs an operation so that Ctrl-C ends it: obstore lets no signal through before its server answers."""
    if threading.current_thread() is not threading.main_thread():
        return operation()
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((operation(), None))
        except BaseException as e:
            done.put((None, e))

    threading.Thread(target=run, daemon=True).start()
    result, error = done.get()
    if error is not None:
        raise error
    return result


def list_objects(prefix: str) -> list[ObjectInfo]:
    """All objects whose path begins so, at any depth; a folder's empty marker ends with a slash."""
    return _in_bucket(prefix, lambda client, key: _found(prefix, client.list(key)))


def list_folder(folder: str) -> list[ObjectInfo]:
    """The objects directly in a folder; nothing below its sub-folders is asked for."""
    path = folder.rstrip("/") + "/"
    return _in_bucket(path, lambda client, key: _found(path, client.list_folder(key)))


def _found(path: str, listed: list[tuple[str, int, float]]) -> list[ObjectInfo]:
    bucket = "/".join(path.split("/", 3)[:3])
    # Some answers have milliseconds, some none.
    return [ObjectInfo(f"{bucket}/{key}", size, float(int(time))) for key, size, time in listed]


def object_info(path: str) -> ObjectInfo:
    """Size and time of the last change."""
    size, time = _ask(path, lambda client, key: client.head(key))
    return ObjectInfo(path, size, float(int(time)))


def read_object(path: str) -> bytes | None:
    """A small object's bytes; None where there is none."""
    try:
        return _ask(path, lambda client, key: client.get(key))
    except FileNotFoundError:
        return None


def read_range(path: str, begin: int, end: int) -> bytes:
    """The bytes from `begin` to before `end`, or the end, of an object that is longer than `begin`."""
    return _ask(path, lambda client, key: client.get_range(key, begin, end))


def put_object(path: str, file: BinaryIO) -> None:
    """Uploads a whole file; the object appears, or changes, when all of it is there."""
    size = file.seek(0, os.SEEK_END)

    def upload(client: Client, key: str) -> None:
        file.seek(0)
        client.put(key, file, size)

    _in_bucket(path, upload)


def put_if_absent(path: str, data: bytes) -> bool:
    """Writes an object where none is, and says whether these bytes are now there.

    Of all that try at once one succeeds. A try whose answer was lost may find what it wrote itself: so the
    bytes decide, and callers that must tell each other apart put something of their own into them.
    """
    try:
        _in_bucket(path, lambda client, key: client.create(key, data))
    except FileExistsError:
        return read_object(path) == data
    return True


def _in_bucket(path: str, operation: Callable[[Client, str], _T]) -> _T:
    """Runs an operation that needs no object: what it misses is the bucket."""
    try:
        return _ask(path, operation)
    except FileNotFoundError as e:
        bucket = "/".join(path.split("/", 3)[:3])
        raise StoreError(f"{path}: the store fails (there is no bucket {bucket}); make it again") from e


def delete_object(path: str) -> None:
    """Deletes an object; one that is not there is no error."""
    try:
        _ask(path, lambda client, key: client.delete(key))
    except FileNotFoundError:
        return


def open_object(path: str) -> BinaryIO:
    """Opens an object for reading, with seeks; each block is asked for by itself, and with patience."""
    size = object_info(path).size
    return io.BufferedReader(_ObjectReader(path, size), max(1, min(BLOCK, size)))


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

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        begin, end = self._at, min(self._at + len(buffer), self._size)
        if begin >= end:
            return 0
        data = read_range(self._path, begin, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        blocks = []
        while block := self.read(BLOCK):  # io's own takes some kilobytes at a time
            blocks.append(block)
        return b"".join(blocks)
