"""Opening input files: plain local paths need nothing, URLs go through Beam's FileSystems."""

from __future__ import annotations

import datetime
import os
import re
import urllib.parse
from typing import BinaryIO, NamedTuple

from transforms.elements import Slice
from transforms.errors import BadFileError

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


def open_read(path: str) -> BinaryIO:
    """Opens a local or remote file as bytes, as they lie there.

    Raises:
      OSError: it cannot be opened.
    """
    if is_local(path):
        return open(local_path(path), "rb", buffering=_BUFFER)
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.open(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED)


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


def match_remote(pattern: str) -> list[FoundFile]:
    """Asks Beam's file system of the pattern's scheme; FoundFile.source is left empty."""
    from apache_beam.io.filesystems import FileSystems

    try:
        (result,) = FileSystems.match([pattern])
    except ValueError as e:  # Beam knows no such scheme, or the extra for it is not installed
        raise OSError(str(e)) from e
    return [
        FoundFile(found.path, "", found.size_in_bytes, found.last_updated_in_seconds or None)
        for found in result.metadata_list
    ]


def exact_remote(path: str) -> list[FoundFile]:
    return [file for file in match_remote(loosened(path)) if file.path == path]


def loosened(path: str) -> str:
    """A glob that matches this path among few others: Beam's globs cannot quote a bracket."""
    return WILDCARD.sub("?", path)


def _utc(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="milliseconds")
