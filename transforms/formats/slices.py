"""Reading a slice of any format."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from transforms.elements import Slice
from transforms.errors import BadFileError
from transforms.formats import registry
from transforms.formats.base import RawBlock, ReadOptions
from transforms.storage import objects
from transforms.storage.files import file_state, unreadable


def read_slice(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """Reads a slice's records in file order, no more than its limit.

    Raises:
      BadFileError: the file was changed since the plan was made, or cannot be read to the slice's end. What
        came before is then not to be used; check_slice tells in advance.
      StoreError: the file cannot be read for the moment.
    """
    check_unchanged(slice)
    try:
        yield from registry.get(slice.format).read(slice, options)
    except OSError as e:
        raise unreadable(slice.source, e) from e
    check_unchanged(slice)  # nor while it was read


def check_slice(slice: Slice, options: ReadOptions) -> None:
    """Finds out, in constant memory, whether the slice can be read to its end.

    No model is to work for hours on a file whose end is missing: files are decompressed, TFRecord frames
    walked, CSV parsed, Parquet's needed columns read; of plain lines only the encoding could be wrong.

    Raises:
      BadFileError, StoreError: as read_slice would.
    """
    if slice.limit is not None:
        for _ in read_slice(slice, options):
            pass
        return
    check_unchanged(slice)
    try:
        registry.get(slice.format).check(slice, options)
    except OSError as e:
        raise unreadable(slice.source, e) from e


def check_unchanged(slice: Slice) -> None:
    """Holds the slice's file against what the plan knows of it.

    Raises:
      BadFileError: the file is gone, cannot be reached or was changed.
      StoreError: it cannot be reached for the moment.
    """
    try:
        size, mtime = file_state(slice.path)
    except OSError as e:
        raise unreadable(slice.source, e) from e
    if change := change_of(slice, size, mtime):
        raise BadFileError(slice.source, None, f"changed since the plan was made{change}", kind="changed")


def change_of(slice: Slice, size: int, mtime: float | None) -> str:
    """How a file differs from what the plan knows of it; "" where it does not."""
    if size != slice.size:
        return f": {slice.size} bytes then, {size} now"
    # A millisecond: file systems and mounts keep different fractions of a second, stores none.
    most = 1.0 if objects.is_object(slice.path) else 1e-3
    if slice.mtime is not None and mtime is not None and abs(mtime - slice.mtime) > most:
        return f" (time {_utc(slice.mtime)} then, {_utc(mtime)} now)"
    return ""


def _utc(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="milliseconds")
