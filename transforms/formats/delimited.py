"""What CSV and TSV share: records with a header, as RFC 4180 has them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

from transforms.elements import RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats.base import HEAD_BYTES, Bad, RawBlock, ReadOptions, Record, in_blocks, too_long
from transforms.formats.compression import compression_of, taken_of
from transforms.formats.encoding import open_text
from transforms.formats.records import escaped
from transforms.texts import not_utf8

_DELIMITERS = {"csv": ",", "tsv": "\t"}
# Position, fields and text; the number of bytes where it is too long.
_Row = tuple[int, list[str], str, int]


def read_delimited(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """The header is no record, and neither is an empty line."""
    stream, _ = open_text(slice)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        rows = _rows(lines, slice)
        header = _header(rows, slice, options)
        compressed = compression_of(slice.path) is not None

        def columns(found: list[tuple[list[str], str]], bad: Bad) -> dict[str, list[Any]]:
            for row, (_, raw) in enumerate(found):
                if not raw.isascii() and row not in bad and (reason := _broken(raw)):
                    bad[row] = reason
            places = {name: header.index(name) for name in options.fields}
            blank = [""] * len(header)
            fields = [blank if row in bad else fields for row, (fields, _) in enumerate(found)]
            return {name: [one[place] for one in fields] for name, place in places.items()}

        yield from in_blocks(
            slice,
            _records(rows, len(header)),
            columns=columns,
            text=lambda content: _payload(content[1]),
            taken=taken_of(stream) if compressed else lambda: lines.total,
        )


def check_delimited(slice: Slice, options: ReadOptions) -> None:
    """Parses the file to its end."""
    stream, _ = open_text(slice)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = _rows(_Lines(text), slice)
        _header(rows, slice, options)
        for _ in rows:
            pass


def _header(rows: Iterator[_Row], slice: Slice, options: ReadOptions) -> list[str]:
    _, header, _, long = next(rows, (-1, [], "", 0))
    if long:
        raise BadFileError(slice.source, 0, f"the header has {long:,} bytes, expected a line of names")
    if not header:
        return header
    columns = ", ".join(map(repr, header))
    for name in options.fields:
        count = header.count(name)
        if count > 1:
            reason = f"the header names {name!r} more than once: {columns}"
        elif not count:
            reason = f"no column {name!r}; the file has {columns}"
        if count != 1:
            raise BadFileError(slice.source, 0, reason, kind="column", column=name)
    return header


def _records(rows: Iterator[_Row], width: int) -> Iterator[Record]:
    for number, fields, raw, long in rows:
        bad = None
        if long:
            bad = too_long(long)
        elif len(fields) != width:
            bad = "wrong number of columns", f"{len(fields)}, the header has {width}"
        yield number, (fields, raw), len(raw), bad


class _TooLong(Exception):
    """A record has more than RECORD_BYTES."""


class _Lines:
    """The lines of one record after the other; the bytes that are not UTF-8 are surrogates."""

    def __init__(self, text: io.TextIOWrapper):
        self._readline: Callable[[int], str] = text.readline
        self.record: list[str] = []
        self.size = self.quotes = 0
        self.number = self.total = 0  # of lines, and their characters

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._readline(RECORD_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self.size += len(line)
        self.total += len(line)
        if self.size >= RECORD_BYTES:
            raise _TooLong
        return line

    def clear(self) -> None:
        self.record.clear()
        self.size = 0

    def skip(self) -> bool:
        """Reads past the record without holding it. Returns whether its quotes are closed."""
        line, quotes = self.record[-1], sum(line.count('"') for line in self.record)
        del self.record[1:]
        self.record[0] = self.record[0][:HEAD_BYTES]
        while quotes % 2 or not line.endswith(("\n", "\r")):
            line = self._readline(1 << 20)
            if not line:
                break
            self.size += len(line)
            self.total += len(line)
            quotes += line.count('"')
            self.number += line.endswith("\n")
        return quotes % 2 == 0


def _rows(lines: _Lines, slice: Slice) -> Iterator[_Row]:
    """Yields the header, whose number is -1, and all records."""
    csv.field_size_limit(RECORD_BYTES)
    number = -1
    first = 1  # line of the record
    try:
        reader = _reader(lines, slice)
        while True:
            first = lines.number + 1
            try:
                row = next(reader, None)
            except _TooLong:
                if not lines.skip():
                    raise csv.Error("unexpected end of data") from None
                yield number, [], lines.record[0], lines.size
                reader = _reader(lines, slice)
                row = []
                number += 1
            if row is None:
                return
            if row:
                record = lines.record
                yield number, row, record[0] if len(record) == 1 else "".join(record), 0
                number += 1
            lines.clear()
    except csv.Error as e:
        reason = _unparsable(str(e), first=first, last=lines.number)
        raise BadFileError(slice.source, max(number, 0), reason) from e


def _reader(lines: _Lines, slice: Slice) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=_DELIMITERS[slice.format], strict=True)


def _unparsable(error: str, *, first: int, last: int) -> str:
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    if error == "unexpected end of data":
        return f"a quote in the record that begins on line {first} is never closed; close or double it"
    return f"the record on {lines} is no valid CSV: {error}; inside quotes a quote is written twice"


def _broken(raw: str) -> tuple[str, str] | None:
    try:
        raw.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as e:
        return not_utf8(e)
    return None


def _payload(raw: str) -> str:
    return escaped(raw.removesuffix("\n").removesuffix("\r").encode("utf-8", "surrogateescape"))
