"""Opening files: local paths need nothing, object stores their clients, all else Beam's FileSystems."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any, BinaryIO

from transforms.errors import GO_ON, BadFileError, EmbedbeamError, StoreError
from transforms.storage import objects
from transforms.storage.client import FoundFile
from transforms.storage.retries import reason_of
from transforms.storage.urls import absolute_path, full_path, is_local, local_path

__all__ = ["FoundFile", "absolute_path", "full_path", "is_local", "local_path"]  # they stand elsewhere

_BUFFER = 1 << 20
_PASSING = """
EAGAIN EBUSY ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO EMFILE ENETDOWN
ENETRESET ENETUNREACH ENFILE ENOBUFS ENOLINK ENOMEM ENOTCONN EPIPE EPROTO EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT
"""


def open_read(path: str, *, block: int = objects.BLOCK) -> BinaryIO:
    """Opens a local or remote file as bytes, as they lie there.

    Args:
      block: so many bytes of a remote file are asked for at once.

    Raises:
      OSError: it cannot be opened.
    """
    if is_local(path):
        return open(local_path(path), "rb", buffering=_BUFFER)
    return objects.open_object(path, block)


def read_head(path: str, size: int) -> bytes:
    """The first bytes of a file that is not empty; of a remote one no more than these are asked for."""
    if not is_local(path):
        return objects.read_object(path, 0, size)
    with open_read(path) as stream:
        return stream.read(size)


def copy_here(path: str, target: str) -> None:
    """Copies a remote file to this machine."""
    with open_read(path) as remote, open(target, "wb") as local:
        shutil.copyfileobj(remote, local, _BUFFER)


def file_state(path: str) -> tuple[int, float | None]:
    """Size in bytes and time of the last change (None if the file system does not tell).

    Raises:
      FileNotFoundError: there is no such file.
    """
    if is_local(path):
        state = os.stat(local_path(path))
        return state.st_size, state.st_mtime
    return objects.object_info(path)[2:]


def is_passing(error: OSError) -> bool:
    """Whether it says nothing of the file: a stale mount, too many open files, a connection that broke."""
    broken = isinstance(error, ConnectionError | TimeoutError)
    return broken or errno.errorcode.get(error.errno or 0) in _PASSING.split()


def unreadable(source: str, error: OSError) -> EmbedbeamError:
    """What an error of a file system is: the file's own, or one that another try may mend.

    The second (see is_passing) ends the job, also where bad files are skipped.
    """
    reason = error.strerror or reason_of(error)
    if is_passing(error):
        return StoreError(f"{source}: cannot be read for the moment: {reason}; {GO_ON}")
    if isinstance(error, FileNotFoundError):
        return BadFileError(
            source, None, "the file is gone; it was there when the plan was made", kind="gone"
        )
    return BadFileError(source, None, f"cannot be read: {reason}", kind="unreadable")


def use_options(beam_options: Any) -> None:
    """Gives this process's file systems their options; Beam does so in workers only."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(beam_options)
