"""A file of the output folder while it is written: invisible, and then there as a whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import uuid
from typing import Any, BinaryIO

from transforms.storage import objects
from transforms.storage.retries import retried

# File systems that know no hard links say so in one of these ways.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
_token = (0, "")


def process_token() -> str:
    """Names this process and no other: pods that share a mount have equal pids, and may have equal names."""
    global _token
    if _token[0] != os.getpid():  # the first call, or the first one after a fork
        _token = (os.getpid(), uuid.uuid4().hex)
    return _token[1]


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


class PendingFile:
    """A file being written; it does not exist for readers before `commit`."""

    def __init__(self, raw: BinaryIO, final: str, temporary: str | None = None):
        self._raw, self._final, self._temporary = raw, final, temporary
        self.file = HashingFile(raw)

    def read(self, start: int, end: int) -> bytes:
        """Bytes that were written; after it nothing more can be."""
        self._raw.seek(start)
        return self._raw.read(end - start)

    def commit(self) -> None:
        """Syncs or uploads, closes, and gives the file its final name."""
        if self._temporary is None:
            with self._raw:
                if objects.is_object(self._final):
                    objects.put_object(self._final, self._raw)
                else:
                    retried(lambda: _upload(self._raw, self._final))
            return
        os.replace(self._sync(), self._final)
        _sync_folder(os.path.dirname(self._final))

    def commit_new(self) -> bool:
        """As `commit`, on this machine's file system, unless there is a file of that name: then False."""
        temporary = self._sync()
        try:
            os.link(temporary, self._final)
        except FileExistsError:
            return False
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            # The name is taken first, and filled by the rename.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._final, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.replace(temporary, self._final)
                return True
            return False
        finally:
            self.discard()
        _sync_folder(os.path.dirname(self._final))
        return True

    def _sync(self) -> str:
        """Ends a local file that is still under its temporary name, which it returns."""
        assert self._temporary is not None
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        os.makedirs(os.path.dirname(self._final), exist_ok=True)
        return self._temporary

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
    from apache_beam.io.filesystems import FileSystems

    local.seek(0)
    # As it is: Beam would compress a .gz once more.
    upload = FileSystems.create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED)
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
