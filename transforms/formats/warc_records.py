"""WARC records as they lie in a stream: where each begins and ends, and what is none."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from transforms.elements import RECORD_BYTES
from transforms.formats.base import HEAD_BYTES, too_long

MARK = b"WARC/"
# A record's own header lines.
HEADER_BYTES = 64 << 10
TRUNCATED = "truncated"
_BLANK = (b"\r\n", b"\n")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_NEXT = re.compile(rb"\r?\n\r?\n(?=WARC/[01]\.)")
# _NEXT and what it looks at have a byte more.
_OVERLAP = 10
_PIECE = 1 << 20

# Offset in the stream, the record (of one that is none its head), bytes, and what is wrong with it.
Framed = tuple[int, bytes, int, tuple[str, str] | None]


class _Feed:
    """A stream whose bytes can be given back."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._back, self.offset = stream, io.BytesIO(), 0

    def read(self, size: int) -> bytes:
        data = self._back.read(size)
        if len(data) < size:
            data += self._stream.read(size - len(data))
        self.offset += len(data)
        return data

    def line(self) -> bytes:
        """The next line, or so many bytes of it."""
        line = self._back.readline(_PIECE)
        if line[-1:] != b"\n" and len(line) < _PIECE:
            line += self._stream.readline(_PIECE - len(line))
        self.offset += len(line)
        return line

    def unread(self, data: bytes) -> None:
        self.offset -= len(data)
        self._back = io.BytesIO(data + self._back.read())

    def drop(self, size: int) -> tuple[int, bool]:
        """Reads past so many bytes without holding them, or to a record that begins in them.

        Returns:
          How many bytes there were, and whether a record begins behind them.
        """
        start, piece = self.offset, b""
        while (left := start + size - self.offset) and (more := self.read(min(left, _PIECE))):
            piece = piece[-_OVERLAP:] + more
            if found := _NEXT.search(piece):
                self.unread(piece[found.end() :])
                return self.offset - start, True
        return self.offset - start, False

    def next_record(self, line: bytes) -> bytes:
        """Reads past lines, `line` the first of them, to one that begins a record; b"" at the end."""
        begins = True
        while line and not (begins and line.startswith(MARK)):
            begins = line.endswith(b"\n")
            line = self.line()
        return line


def framed(stream: BinaryIO) -> Iterator[Framed]:
    """Yields all records of a stream, and one of what lies from a broken one to the next that begins.

    A record is sound if its Content-Length leads to two ends of lines, the next record, or the stream's end.
    One that the stream ends in is bad, of kind TRUNCATED.
    """
    feed = _Feed(stream)
    line = feed.line()
    while True:
        while line in _BLANK:
            line = feed.line()
        if not line:
            return
        start = feed.offset - len(line)
        header, bad = _header(feed, line)
        found = _LENGTH.findall(header)
        if not bad and len(found) != 1:
            bad = "bad WARC header", f"{len(found) or 'no'} lines of Content-Length, expected one number"
        if bad:
            line = feed.next_record(b"\n" if header.startswith(MARK) else line)
            yield start, header[:HEAD_BYTES], feed.offset - len(line) - start, bad
            continue
        length = int(found[0])
        if length > RECORD_BYTES:
            # Too long, or only its number is wrong: what lies behind it is not to vanish with it.
            there, begins = feed.drop(length)
            blanks, line = (b"", feed.line()) if begins else _after(feed)
            if begins or (there == length and not _ends(blanks, line)):
                line = line if begins else feed.next_record(line)
                bad = _wrong(length)
            else:
                bad = (TRUNCATED, _short(length, there)) if there < length else too_long(length)
            yield start, header[:HEAD_BYTES], feed.offset - len(line) - start, bad
            continue
        body = feed.read(length)
        blanks, line = _after(feed)
        if len(body) == length and _ends(blanks, line):
            yield start, header + body, len(header) + length, None
            continue
        following = _NEXT.search(body + blanks + line)
        if following is None and len(body) < length:
            yield (
                start,
                (header + body)[:HEAD_BYTES],
                len(header) + len(body),
                (TRUNCATED, _short(length, len(body))),
            )
            return
        if following is not None:
            feed.unread((body + blanks + line)[following.end() :])
            line = feed.line()
        else:
            line = feed.next_record(line)
        size = feed.offset - len(line) - start
        yield start, (header + body)[:HEAD_BYTES], size, _wrong(length)


def _header(feed: _Feed, line: bytes) -> tuple[bytes, tuple[str, str] | None]:
    """A record's header with the blank line that ends it; of what is none the first line."""
    if not line.startswith(MARK):
        return line, ("not a WARC record", "expected a line like WARC/1.0")
    lines, size = [], 0
    while line and line not in _BLANK and size <= HEADER_BYTES:
        lines.append(line)
        size += len(line)
        line = feed.line()
    header = b"".join(lines) + line
    if not line:
        return header, (TRUNCATED, "it ends in a record's header")
    if line not in _BLANK:
        return header, ("bad WARC header", f"no blank line within {HEADER_BYTES:,} bytes")
    return header, None


def _after(feed: _Feed) -> tuple[bytes, bytes]:
    """The blank lines that end a record, and the line behind them."""
    blanks = b""
    while (line := feed.line()) in _BLANK:
        blanks += line
    return blanks, line


def _ends(blanks: bytes, line: bytes) -> bool:
    """Whether a record ends where these follow."""
    return not line or line.startswith(MARK) or blanks.count(b"\n") > 1


def _wrong(length: int) -> tuple[str, str]:
    return "wrong Content-Length", f"{length:,} bytes do not end before another record"


def _short(length: int, there: int) -> str:
    return f"Content-Length is {length:,}, and {there:,} bytes are there"
