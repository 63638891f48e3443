"""CSV and TSV: records with a header, as RFC 4180 has them."""

from __future__ import annotations

import collections
import contextlib
import csv
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transforms.elements import RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats.base import (
    HEAD_BYTES,
    Bad,
    Format,
    RawBlock,
    ReadOptions,
    Record,
    in_blocks,
    too_long,
)
from transforms.formats.compression import compression_of, taken_of
from transforms.formats.encoding import open_text
from transforms.formats.records import decoded, escaped

_DELIMITERS = {"csv": ",", "tsv": "\t"}


@contextlib.contextmanager
def _opened(
    slice: Slice, options: ReadOptions
) -> Iterator[tuple[list[str], Iterator[Record], Callable[[], int]]]:
    """The header, the records, and what tells how many bytes were read of them."""
    stream, _ = open_text(slice)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        records = _records(lines, slice)
        header = _header(next(records, None), lines, slice, options)
        yield header, records, taken_of(stream) if compression_of(slice.path) else lambda: lines.total


def _check(slice: Slice, options: ReadOptions) -> None:
    with _opened(slice, options) as (_, records, _):
        collections.deque(records, maxlen=0)


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """The header is no record, and neither is an empty line."""
    with _opened(slice, options) as (header, records, taken):

        def columns(found: Sequence[tuple[list[str], str]], bad: Bad) -> dict[str, list[Any]]:
            for row, (fields, raw) in enumerate(found):
                if row not in bad and len(fields) != len(header):
                    bad[row] = "wrong number of columns", f"{len(fields)}, the header has {len(header)}"
                if not raw.isascii():
                    decoded(raw.encode("utf-8", "surrogateescape"), row, bad)
            places = {name: header.index(name) for name in options.fields}
            blank = [""] * len(header)
            rows = [blank if row in bad else fields for row, (fields, _) in enumerate(found)]
            return {name: [fields[place] for fields in rows] for name, place in places.items()}

        yield from in_blocks(
            slice, records, columns=columns, text=lambda content: _payload(content[1]), taken=taken
        )


def _header(record: Record | None, lines: _Lines, slice: Slice, options: ReadOptions) -> list[str]:
    if record is None:
        return []
    _, (header, _), _, problem = record
    if problem:
        raise BadFileError(slice.source, 0, f"the header has {lines.size:,} bytes, expected a line of names")
    columns = ", ".join(map(repr, header))
    for name in options.fields:
        if (count := header.count(name)) != 1:
            reason = f"no column {name!r}; the file has {columns}"
            if count:
                reason = f"the header names {name!r} more than once: {columns}"
            raise BadFileError(slice.source, 0, reason, kind="column", column=name)
    return header


class _TooLong(Exception):
    """A record has more than RECORD_BYTES."""


class _Lines:
    """The lines of one record after the other; the bytes that are not UTF-8 are surrogates."""

    def __init__(self, text: io.TextIOWrapper):
        self._text = text
        self.number = self.total = 0  # of lines, and their characters
        self.begin()

    def begin(self) -> None:
        """Forgets the record before."""
        self.record: list[str] = []
        self.first, self.size = self.number + 1, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._read(RECORD_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        if self.size >= RECORD_BYTES:
            raise _TooLong
        return line

    def _read(self, most: int) -> str:
        line = self._text.readline(most)
        self.size += len(line)
        self.total += len(line)
        return line

    def skip(self) -> None:
        """Reads past the record without holding it.

        Raises:
          csv.Error: its quotes are never closed.
        """
        line, quotes = self.record[-1], sum(line.count('"') for line in self.record)
        self.record = [self.record[0][:HEAD_BYTES]]
        while line and (quotes % 2 or not line.endswith(("\n", "\r"))):
            self.number += line.endswith(("\n", "\r"))
            line = self._read(1 << 20)
            quotes += line.count('"')
        if quotes % 2:
            raise csv.Error("unexpected end of data")


def _records(lines: _Lines, slice: Slice) -> Iterator[Record]:
    """The header, whose number is -1, and all records: fields and text of each."""
    csv.field_size_limit(RECORD_BYTES)
    new_reader = functools.partial(csv.reader, lines, delimiter=_DELIMITERS[slice.format], strict=True)
    reader, number = new_reader(), -1
    try:
        while True:
            lines.begin()
            bad = None
            try:
                fields = next(reader, None)
            except _TooLong:
                lines.skip()
                reader, fields, bad = new_reader(), [], too_long(lines.size)
            if fields is None:
                return
            if fields or bad:
                text = "".join(lines.record)
                yield number, (fields, text), len(text), bad
                number += 1
    except csv.Error as e:
        reason = _unparsable(str(e), first=lines.first, last=lines.number)
        raise BadFileError(slice.source, max(number, 0), reason) from e


def _unparsable(error: str, *, first: int, last: int) -> str:
    if error == "unexpected end of data":
        return f"a quote in the record that begins on line {first} is never closed; close or double it"
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    return f"the record on {lines} is no valid CSV: {error}; inside quotes a quote is written twice"


def _payload(text: str) -> str:
    return escaped(text.removesuffix("\n").removesuffix("\r").encode("utf-8", "surrogateescape"))


CSV = Format("csv", (".csv",), _read, _check)
TSV = Format("tsv", (".tsv", ".tab"), _read, _check)
