"""CSV and TSV with a header, as RFC 4180 has them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from transforms.elements import DeadLetter, Document, Slice
from transforms.errors import BadFileError
from transforms.formats.compression import open_decompressed
from transforms.formats.records import ReadOptions, dead, documents_of, escaped, not_utf8

_DELIMITERS = {"csv": ",", "tsv": "\t"}
# Characters. Bounds the memory that a quote which is never closed can take.
_LONGEST_FIELD = 1 << 27


def read_delimited(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per record; the header is none, and neither is an empty line."""
    document = documents_of(slice, options)
    records = _records(slice)
    _, header, _ = next(records, (-1, [], ""))
    if header:
        _check_header(header, slice, options)
    for number, row, raw in records:
        if len(row) != len(header):
            reason = f"wrong number of columns: {len(row)}, the header has {len(header)}"
            yield dead(slice, number, reason, payload=_payload(raw))
        elif reason := _broken(raw):
            yield dead(slice, number, reason, payload=_payload(raw))
        else:
            fields = dict(zip(header, row, strict=True))
            payload = lambda raw=raw: _payload(raw)  # noqa: E731
            yield document(number, fields, payload=payload)


def check_delimited(slice: Slice, options: ReadOptions) -> None:
    """Parses the file to its end."""
    records = _records(slice)
    _, header, _ = next(records, (-1, [], ""))
    if header:
        _check_header(header, slice, options)
    for _ in records:
        pass


def _records(slice: Slice) -> Iterator[tuple[int, list[str], str]]:
    """Yields number (the header's is -1), fields, and text of each record; bytes not UTF-8 are surrogates."""
    csv.field_size_limit(_LONGEST_FIELD)
    seen: list[str] = []

    def lines() -> Iterator[str]:
        for line in text:
            seen.append(line)
            yield line

    number = -1
    stream = open_decompressed(slice.path, source=slice.source)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(lines(), delimiter=_DELIMITERS[slice.format], strict=True)
        try:
            for row in reader:
                if row:
                    yield number, row, seen[0] if len(seen) == 1 else "".join(seen)
                    number += 1
                seen.clear()
        except csv.Error as e:
            reason = _unparsable(str(e), first=reader.line_num - len(seen) + 1, last=reader.line_num)
            raise BadFileError(slice.source, max(number, 0), reason) from e


def _unparsable(error: str, *, first: int, last: int) -> str:
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    if error == "unexpected end of data":
        return f"a quote in the record that begins on line {first} is never closed; close or double it"
    return f"the record on {lines} is no valid CSV: {error}; inside quotes a quote is written twice"


def _check_header(header: list[str], slice: Slice, options: ReadOptions) -> None:
    columns = ", ".join(map(repr, header))
    doubled = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if doubled:
        raise BadFileError(slice.source, 0, f"the header names {doubled[0]!r} more than once: {columns}")
    for name in options.fields:
        if name not in header:
            raise BadFileError(slice.source, 0, f"no column {name!r}; the file has {columns}")


def _broken(raw: str) -> str:
    if raw.isascii():
        return ""
    try:
        raw.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as e:
        return not_utf8(e)
    return ""


def _payload(raw: str) -> str:
    return escaped(raw.removesuffix("\n").removesuffix("\r").encode("utf-8", "surrogateescape"))
