"""Opening files: local paths need nothing, object stores their clients, all else Beam's FileSystems."""

from __future__ import annotations

import os
import re
import shutil
from typing import Any, BinaryIO, NamedTuple

from transforms.errors import BadFileError, EmbedbeamError, StoreError
from transforms.storage import objects
from transforms.storage.passing import is_passing
from transforms.storage.retries import reason_of, retried
from transforms.storage.urls import absolute_path, full_path, is_local, local_path

__all__ = ["absolute_path", "full_path", "is_local", "local_path"]  # they stand in urls.py

_BUFFER = 1 << 20
WILDCARD = re.compile(r"[*?[]")


class FoundFile(NamedTuple):
    """An input file: where it lies, its path below the root, bytes, and time of the last change if known."""

    path: str
    source: str
    size: int
    mtime: float | None


def open_read(path: str) -> BinaryIO:
    """Opens a local or remote file as bytes, as they lie there.

    Raises:
      OSError: it cannot be opened.
    """
    if is_local(path):
        return open(local_path(path), "rb", buffering=_BUFFER)
    if objects.is_object(path):
        return objects.open_object(path)
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    kind = "application/octet-stream"
    return retried(lambda: FileSystems.open(path, kind, CompressionTypes.UNCOMPRESSED))


def read_head(path: str, size: int) -> bytes:
    """The first bytes of a file that is not empty; of an object no more than these are asked for."""
    if objects.is_object(path):
        return objects.read_range(path, 0, size)
    with open_read(path) as stream:
        return stream.read(size)


def copy_here(path: str, target: str) -> None:
    """Copies a remote file to this machine, beginning anew where the connection breaks."""

    def copy() -> None:
        with open_read(path) as remote, open(target, "wb") as local:
            shutil.copyfileobj(remote, local, _BUFFER)

    retried(copy)


def file_state(path: str) -> tuple[int, float | None]:
    """Size in bytes and time of the last change (None if the file system does not tell).

    Raises:
      FileNotFoundError: there is no such file.
    """
    if is_local(path):
        state = os.stat(local_path(path))
        return state.st_size, state.st_mtime
    found = exact_remote(path)
    if not found:
        raise FileNotFoundError(path)
    return found[0].size, found[0].mtime


def unreadable(source: str, error: OSError) -> EmbedbeamError:
    """What an error of a file system is: the file's own, or one that another try may mend.

    The second (a stale mount, no descriptors left) says nothing of the file and ends the job, also where bad
    files are skipped.
    """
    if is_passing(error):
        reason = error.strerror or reason_of(error)
        return StoreError(
            f"{source}: cannot be read for the moment: {reason}; what is committed is kept: mend this, then "
            "run the same command again"
        )
    if isinstance(error, FileNotFoundError):
        reason = "the file is gone; it was there when the plan was made"
        return BadFileError(source, None, reason, kind="gone")
    reason = f"cannot be read: {error.strerror or reason_of(error)}"
    return BadFileError(source, None, reason, kind="unreadable")


def list_remote(prefix: str) -> list[FoundFile]:
    """The remote files whose path begins so; FoundFile.source is left empty."""
    if objects.is_object(prefix):
        return [FoundFile(path, "", size, mtime) for path, size, mtime in objects.list_objects(prefix)]
    return [file for file in _match(_loosened(prefix) + "**") if file.path.startswith(prefix)]


def list_remote_folder(folder: str) -> list[FoundFile]:
    """The remote files directly in a folder; a store is not asked for what lies deeper."""
    path = folder.rstrip("/") + "/"
    if objects.is_object(path):
        return [FoundFile(found, "", size, mtime) for found, size, mtime in objects.list_folder(path)]
    return [file for file in _match(_loosened(path) + "*") if "/" not in file.path.removeprefix(path)]


def exact_remote(path: str) -> list[FoundFile]:
    """The remote file of this very path, if there is one; FoundFile.source is left empty."""
    if not objects.is_object(path):
        return [file for file in _match(_loosened(path)) if file.path == path]
    try:
        found, size, mtime = objects.object_info(path)
    except FileNotFoundError:
        return []
    return [FoundFile(found, "", size, mtime)]


def _match(pattern: str) -> list[FoundFile]:
    """Asks Beam's file system of the pattern's scheme."""
    from apache_beam.io.filesystems import FileSystems

    try:
        (result,) = retried(lambda: FileSystems.match([pattern]))
    except ValueError as e:  # Beam knows no such scheme, or the extra for it is not installed
        raise OSError(str(e)) from e
    return [
        FoundFile(found.path, "", found.size_in_bytes, found.last_updated_in_seconds or None)
        for found in result.metadata_list
    ]


def _loosened(path: str) -> str:
    """A glob that matches this path among few others: Beam's globs cannot quote a bracket."""
    return WILDCARD.sub("?", path)


def use_options(beam_options: Any) -> None:
    """Gives this process's file systems their options; Beam does so in workers only."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(beam_options)
