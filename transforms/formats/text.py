"""Plain text: a document per line, or per file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

from transforms.elements import DeadLetter, Document, Slice
from transforms.formats.compression import compression_of, open_decompressed
from transforms.formats.records import ReadOptions, dead, escaped, not_utf8
from transforms.storage import files

BOM = b"\xef\xbb\xbf"
_SKIP = 1 << 20


def raw_lines(slice: Slice) -> Iterator[tuple[int, bytes]]:
    """The slice's lines as bytes, without their ends, each after its byte offset in the decompressed file.

    A slice owns the lines whose first byte lies in [start, end), so that slices that cover a file read each
    line once, wherever they meet. Only a line feed ends a line; a carriage return before it goes with it.
    """
    if compression_of(slice.path) is None:
        stream = files.open_read(slice.path)
    else:
        stream = open_decompressed(slice.path, source=slice.source)
    with contextlib.closing(stream):
        position = _first_line(stream, slice)
        end = float("inf") if slice.end is None else slice.end
        if position >= end:
            return
        for line in stream:
            start = position
            position += len(line)
            if line[-1:] == b"\n":
                line = line[:-2] if line[-2:] == b"\r\n" else line[:-1]
            if start == 0 and line.startswith(BOM):
                line = line[len(BOM) :]
                if not line and position == len(BOM):
                    return  # a byte order mark and nothing else: an empty file
            yield start, line
            if position >= end:
                return


def _first_line(stream: BinaryIO, slice: Slice) -> int:
    """Moves to the first line that begins at the slice's start or later, and returns its offset."""
    if slice.start == 0:
        return 0
    # One byte earlier: if it ends a line, the line at the start is the slice's own.
    position = slice.start - 1
    stream.seek(position)
    while slice.end is None or position < slice.end:
        rest = stream.readline(_SKIP)
        position += len(rest)
        if not rest or rest.endswith(b"\n"):
            break
    return position


def read_lines(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per line."""
    source = slice.source
    kept = dict.fromkeys(options.keep_fields)
    for position, line in raw_lines(slice):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            yield dead(slice, position, not_utf8(e), payload=escaped(line))
            continue
        if not text or text.isspace():
            yield dead(slice, position, "blank text", payload=text)
        else:
            yield Document(f"{source}:{position}", text, source, position, kept=kept)


def read_txt(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per file."""
    with open_decompressed(slice.path, source=slice.source) as stream:
        data = stream.read().removeprefix(BOM)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        yield dead(slice, 0, not_utf8(e), payload=escaped(data), doc_id=slice.source)
        return
    if not text or text.isspace():
        yield dead(slice, 0, "blank text", payload=text, doc_id=slice.source)
    else:
        kept = dict.fromkeys(options.keep_fields)
        yield Document(slice.source, text, slice.source, kept=kept)


def check_text(slice: Slice) -> None:
    """Reads a compressed file to its end; plain ones have nothing that could be wrong."""
    if compression_of(slice.path) is None:
        return
    block = bytearray(1 << 20)
    with open_decompressed(slice.path, source=slice.source) as stream:
        while stream.readinto(block):  # type: ignore[attr-defined]
            pass
