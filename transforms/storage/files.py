"""Opening files: local paths need nothing, S3 and GCS their clients, all else Beam's FileSystems."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import urllib.parse
from typing import Any, BinaryIO, NamedTuple

from transforms.elements import Slice
from transforms.errors import BadFileError
from transforms.storage import buckets
from transforms.storage.retries import retried

_BUFFER = 1 << 20
WILDCARD = re.compile(r"[*?[]")


class FoundFile(NamedTuple):
    """An input file: where it lies, its path below the root, bytes, and time of the last change if known."""

    path: str
    source: str
    size: int
    mtime: float | None


def is_local(path: str) -> bool:
    """Whether the path is one of this machine's file system: no scheme, or file://."""
    return path.startswith("file://") or "://" not in path


def local_path(path: str) -> str:
    """The plain path of a local path or file:// URL."""
    return urllib.parse.unquote(path[len("file://") :]) if path.startswith("file://") else path


def absolute_path(path: str) -> str:
    """A local path or file:// URL as a plain absolute path; '~' is the home folder."""
    return os.path.abspath(os.path.expanduser(local_path(path)))


def full_path(path: str) -> str:
    """A local path made absolute; a URL as it is."""
    return absolute_path(path) if is_local(path) else path


def open_read(path: str) -> BinaryIO:
    """Opens a local or remote file as bytes, as they lie there.

    Raises:
      OSError: it cannot be opened.
    """
    if is_local(path):
        return open(local_path(path), "rb", buffering=_BUFFER)
    if buckets.is_object(path):
        return buckets.open_object(path)
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    kind = "application/octet-stream"
    return retried(lambda: FileSystems.open(path, kind, CompressionTypes.UNCOMPRESSED))


def read_head(path: str, size: int) -> bytes:
    """The first bytes of a file that is not empty; of an object no more than these are asked for."""
    if buckets.is_object(path):
        return buckets.read_head(path, size)
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


def check_unchanged(slice: Slice) -> None:
    """Holds the slice's file against what the plan knows of it.

    Raises:
      BadFileError: the file is gone, cannot be reached or was changed.
    """
    try:
        size, mtime = file_state(slice.path)
    except FileNotFoundError:
        reason = "the file is gone; it was there when the plan was made"
        raise BadFileError(slice.source, None, reason) from None
    except OSError as e:
        raise BadFileError(slice.source, None, f"cannot be read: {e.strerror or e}") from e
    if size != slice.size:
        reason = f"changed since the plan was made: {slice.size} bytes then, {size} now"
        raise BadFileError(slice.source, None, reason)
    # A millisecond: file systems and mounts keep different fractions of a second.
    if slice.mtime is not None and mtime is not None and abs(mtime - slice.mtime) > 1e-3:
        reason = f"changed since the plan was made (time {_utc(slice.mtime)} then, {_utc(mtime)} now)"
        raise BadFileError(slice.source, None, reason)


def list_remote(prefix: str) -> list[FoundFile]:
    """The remote files whose path begins so; FoundFile.source is left empty."""
    if buckets.is_object(prefix):
        return [FoundFile(path, "", size, mtime) for path, size, mtime in buckets.list_objects(prefix)]
    return [file for file in _match(_loosened(prefix) + "**") if file.path.startswith(prefix)]


def exact_remote(path: str) -> list[FoundFile]:
    """The remote file of this very path, if there is one; FoundFile.source is left empty."""
    if not buckets.is_object(path):
        return [file for file in _match(_loosened(path)) if file.path == path]
    try:
        return [FoundFile(path, "", *buckets.object_state(path))]
    except FileNotFoundError:
        return []


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


def _utc(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="milliseconds")


def use_options(beam_options: Any) -> None:
    """Gives this process's file systems their options; Beam does so in workers only."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(beam_options)
