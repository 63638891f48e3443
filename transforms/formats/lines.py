"""Plain text: a document per line."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from transforms.elements import RECORD_BYTES, Slice
from transforms.formats.base import (
    HEAD_BYTES,
    Bad,
    Format,
    RawBlock,
    ReadOptions,
    Record,
    byte_ranges,
    decompress,
    in_blocks,
    too_long,
)
from transforms.formats.compression import taken_of
from transforms.formats.encoding import BOM, open_text
from transforms.formats.records import decoded, escaped

_SKIP = 1 << 20
Columns = Callable[[bytes, Sequence[bytes], Bad], dict[str, Any]]


def line_blocks(slice: Slice, columns: Columns) -> Iterator[RawBlock]:
    """The slice's lines, in blocks whose columns `columns` makes of them, without their ends.

    A slice owns the lines whose first byte lies in [start, end), so that slices that cover a file read each
    line once, wherever they meet. Only a line feed ends a line; a carriage return before it goes with it.

    Args:
      columns: is given the file's first bytes, lines, and what is wrong with them by number.
    """
    stream, head = open_text(slice)
    with contextlib.closing(stream):
        yield from in_blocks(
            slice,
            _lines(stream, slice),
            columns=functools.partial(columns, head),
            text=escaped,
            taken=taken_of(stream),
        )


def _lines(stream: BinaryIO, slice: Slice) -> Iterator[Record]:
    """Each line after its byte offset in the decompressed file."""
    position = _first_line(stream, slice)
    end = float("inf") if slice.end is None else slice.end
    most = RECORD_BYTES + 2  # and its end
    readline = stream.readline
    while position < end:
        line = readline(most)
        if not line:
            return
        start, bad = position, None
        position += len(line)
        if line[-1:] == b"\n":
            line = line[:-2] if line[-2:] == b"\r\n" else line[:-1]
        elif len(line) == most:
            position += _skip(stream, None)
            bad = too_long(position - start)
        if len(line) > RECORD_BYTES:
            bad = bad or too_long(len(line))
            line = line[:HEAD_BYTES]
        if start == 0 and line.startswith(BOM):
            line = line[len(BOM) :]
            if not line and position == len(BOM):
                return  # a byte order mark and nothing else: an empty file
        yield start, line, len(line), bad


def _first_line(stream: BinaryIO, slice: Slice) -> int:
    """Moves to the first line that begins at the slice's start or later, and returns its offset."""
    if slice.start == 0:
        return 0
    # One byte earlier: if it ends a line, the line at the start is the slice's own.
    position = slice.start - 1
    stream.seek(position)
    return position + _skip(stream, None if slice.end is None else slice.end - position)


def _skip(stream: BinaryIO, most: int | None) -> int:
    """Reads to the end of a line, or `most` bytes and a little, without holding them; returns how many."""
    skipped = 0
    while most is None or skipped < most:
        rest = stream.readline(_SKIP)
        skipped += len(rest)
        if not rest or rest.endswith(b"\n"):
            break
    return skipped


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    def texts(head: bytes, lines: Sequence[bytes], bad: Bad) -> dict[str, Any]:
        return {options.payload_field: _texts(lines, bad)}

    return line_blocks(slice, texts)


def _texts(lines: Sequence[bytes], bad: Bad) -> Any:
    import pyarrow as pa

    try:
        return pa.array(lines, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return [decoded(line, row, bad) for row, line in enumerate(lines)]


def check_lines(slice: Slice, options: ReadOptions) -> None:
    """Of plain lines only the encoding could be wrong."""
    open_text(slice)[0].close()
    decompress(slice, options)


FORMAT = Format(
    "lines",
    (".lines",),
    _read,
    check_lines,
    aliases=(".txt", ".text", ".log", ".md"),
    cut=byte_ranges,
    has_fields=False,
    holds="text",
)
