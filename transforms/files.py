"""Opening input files: plain local paths need nothing, URLs go through Beam's FileSystems."""

from __future__ import annotations

import datetime
import os
import random
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, TypeVar

from transforms.elements import Slice
from transforms.errors import BadFileError

_BUFFER = 1 << 20
WILDCARD = re.compile(r"[*?[]")
# Seconds between tries of a remote operation: half a minute in all, beside what the stores' clients retry.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
# Broken connections, as the standard library, urllib3, requests, botocore and Google's client call them.
_BROKEN = {
    "ConnectionError", "ConnectTimeout", "Timeout", "TimeoutError", "HTTPClientError", "ProtocolError",
    "TransportError", "IncompleteRead", "ChunkedEncodingError", "RetryError", "ResponseStreamingError",
}  # fmt: skip
_T = TypeVar("_T")


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

    kind = "application/octet-stream"
    return retried(lambda: FileSystems.open(path, kind, CompressionTypes.UNCOMPRESSED))


def copy_here(path: str, target: str) -> None:
    """Copies a remote file to this machine, beginning anew where the connection breaks."""

    def copy() -> None:
        with open_read(path) as remote, open(target, "wb") as local:
            shutil.copyfileobj(remote, local, _BUFFER)

    retried(copy)


def retried(operation: Callable[[], _T]) -> _T:
    """Runs an operation that may be repeated, until it neither meets a busy server nor a broken connection.

    Raises:
      Exception: what the last try raised, or at once what no further try would mend.
    """
    for wait in WAITS:
        try:
            return operation()
        except Exception as e:
            if not passing(e):
                raise
        time.sleep(
            wait * random.uniform(0.75, 1.25)
        )  # workers that failed together do not come back together
    return operation()


def passing(error: BaseException) -> bool:
    """Whether an error of a store is one that another try may mend."""
    inner = getattr(error, "exception_details", None)  # Beam's file systems wrap what they catch
    if isinstance(inner, dict) and inner:
        return any(passing(e) for e in inner.values() if isinstance(e, BaseException))
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return code >= 500 or code in (408, 429)
    if type(error).__name__ == "S3ClientError":  # without a status: no answer came, or no request was sent
        return "credentials" not in str(getattr(error, "message", "")).lower()
    return any(cls.__name__ in _BROKEN for cls in type(error).__mro__)


def reason_of(error: BaseException) -> str:
    """The innermost reason of a store's error, as one line."""
    inner = getattr(error, "exception_details", None)
    if isinstance(inner, dict) and inner:
        return reason_of(next(e for e in inner.values()))
    text = str(getattr(error, "message", None) or error) or type(error).__name__
    return " ".join(text.split())


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
        (result,) = retried(lambda: FileSystems.match([pattern]))
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


def use_options(beam_options: Any) -> None:
    """Gives this process's file systems their options; Beam does so in workers only."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(beam_options)
