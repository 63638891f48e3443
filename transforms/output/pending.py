"""A file of the output folder while it is written: invisible, and then there as a whole."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from transforms.storage import objects

# File systems that know no hard links say so in one of these ways.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


@functools.cache
def _token_of(pid: int) -> str:
    return uuid.uuid4().hex


def process_token() -> str:
    """Names this process and no other: pods that share a mount have equal pids, and may have equal names."""
    return _token_of(os.getpid())  # another one after a fork


# What this process is writing, and would leave behind if it ended now: (process, path).
_UNFINISHED: set[tuple[int, str]] = set()


@contextlib.contextmanager
def unfinished(path: str) -> Iterator[None]:
    """A folder that is being written under a temporary name; what has that name at the end is deleted."""
    _UNFINISHED.add(entry := (os.getpid(), path))
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _UNFINISHED.discard(entry)


@contextlib.contextmanager
def temporary_folder(what: str) -> Iterator[str]:
    """A folder on this machine for what is spilled; it goes however this process ends, save by SIGKILL."""
    with tempfile.TemporaryDirectory(prefix=f"embedbeam-{what}-") as path, unfinished(path):
        yield path


def delete_unfinished() -> None:
    """Deletes what this process has begun and not finished, where it must end at once."""
    for process, path in list(_UNFINISHED):
        if process == os.getpid():  # of a fork's parent they are none of its business
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(path)


class PendingFile(io.RawIOBase):
    """A file being written, that does not exist for readers before `commit`.

    Attributes:
      bytes: how many were written.
    """

    def __init__(self, final: str, temporary: str | None = None):
        """Begins the file under its temporary name; without one it has none, and is uploaded in the end."""
        # Without a name: whatever kills this process, nothing is left on the disk.
        self._raw: Any = open(temporary, "w+b") if temporary else tempfile.TemporaryFile()  # noqa: SIM115
        self._final, self._temporary = final, temporary
        if temporary:
            _UNFINISHED.add((os.getpid(), temporary))
        self._sha, self.bytes = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._raw.write(view)
        self._sha.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.bytes

    def sha256(self) -> str:
        return self._sha.hexdigest()

    def written(self, start: int, end: int) -> bytes:
        """Bytes that were written; after it nothing more can be."""
        self._raw.seek(start)
        return self._raw.read(end - start)

    def commit(self, *, new: bool = False) -> bool:
        """Syncs or uploads, closes, and gives the file its final name.

        A `new` one takes no name that is there already. Returns whether these bytes are now there.
        """
        with self._raw:
            if self._temporary is None:
                return objects.put_object(self._final, self._raw, new=new)
            self._raw.flush()
            os.fsync(self._raw.fileno())
        os.makedirs(os.path.dirname(self._final), exist_ok=True)
        try:
            if new:
                self._take_name(self._temporary)
            else:
                os.replace(self._temporary, self._final)
        except FileExistsError:
            return False
        finally:
            self.discard()
        _sync_folder(self._final)
        return True

    def _take_name(self, temporary: str) -> None:
        try:
            os.link(temporary, self._final)
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            open(self._final, "xb").close()  # the name is taken first, and filled by the rename
            os.replace(temporary, self._final)

    def discard(self) -> None:
        """Forgets what was written; does nothing after `commit`."""
        self._raw.close()
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            _UNFINISHED.discard((os.getpid(), self._temporary))


@contextlib.contextmanager
def committing(pending: PendingFile) -> Iterator[PendingFile]:
    """A file that is committed when its block ends, and discarded when that fails."""
    try:
        yield pending
        pending.commit()
    finally:
        pending.discard()


def link(source: str, temporary: str, final: str) -> None:
    """Gives a local file one more name, which appears at once; where it can have none, its copy.

    The copy is a clone on file systems that have these.
    """
    try:
        try:
            os.link(source, temporary)
        except OSError as e:
            if e.errno not in (*_NO_LINKS, errno.EXDEV):
                raise
            _copy(source, temporary)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.replace(temporary, final)
    finally:
        with contextlib.suppress(FileNotFoundError):  # two names of one file are left as they are by a rename
            os.unlink(temporary)
    _sync_folder(final)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:
        try:
            while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
                pass
        except (OSError, AttributeError):
            old.seek(0), new.seek(0), new.truncate()
            shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)  # a rename is durable only when its folder is
    finally:
        os.close(descriptor)
