"""Web archives, as Common Crawl publishes them: a document per page; slices are ranges of gzip members.

WET files hold pages' texts, WARC files what servers answered. Both are read alike: a conversion is text, a
response is a page where it is HTML or plain text. All other records are no documents.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from transforms.elements import ABSENT, RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats import gzip_members, web_page
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
from transforms.formats.compression import compression_of, open_decompressed, taken_of
from transforms.formats.records import escaped
from transforms.formats.warc_records import HEADER_BYTES, MARK, TRUNCATED, Framed, framed
from transforms.storage import files

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

_PAGES = ("text/html", "application/xhtml+xml")
_TYPES = dict.fromkeys(("text", "url", "date", "language", "mime", "title"), "string") | {"status": "int64"}
# Header lines of a record that Common Crawl adds.
_LANGUAGE, _MIME = "WARC-Identified-Content-Language", "WARC-Identified-Payload-Type"


@dataclasses.dataclass(slots=True)
class _Content:
    """A record: its bytes, its URL, and its fields."""

    data: bytes
    url: str | None
    values: dict[str, Any]


class _NoDocument(Exception):
    """A record that holds no page: its one argument says what it is."""


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """Other fields than the ones of _TYPES are lines of the record's header, by their names."""
    skipped: collections.Counter[str] = collections.Counter()
    with _opened(slice) as (records, taken):

        def columns(contents: Sequence[_Content], bad: Bad) -> dict[str, list[Any]]:
            return {name: [one.values.get(name, ABSENT) for one in contents] for name in options.fields}

        blocks = in_blocks(
            slice,
            _documents(records, options, skipped),
            columns=columns,
            text=lambda content: escaped(content.data[:HEAD_BYTES]),
            ids=lambda content: content.url,
            taken=taken,
        )
        types = {name: _TYPES[name] for name in options.fields if name in _TYPES}
        for block in blocks:
            yield dataclasses.replace(block, types=types, skipped=dict(skipped))
            skipped.clear()
        if skipped:
            none = np.zeros(0, np.int64)
            yield RawBlock(none, columns((), {}), str, 0, 0, types=types, ids=[], skipped=dict(skipped))


def _documents(
    records: Iterator[Framed], options: ReadOptions, skipped: collections.Counter
) -> Iterator[Record]:
    for position, data, size, bad in records:
        content = _Content(data, None, {})
        if bad is None:
            try:
                bad = _fill(content, options)
            except _NoDocument as e:
                skipped[e.args[0]] += 1
                continue
        yield position, content, size, bad


def _fill(content: _Content, options: ReadOptions) -> tuple[str, str] | None:
    """Fills in a record's URL and fields; returns what is wrong with it.

    Raises:
      _NoDocument: it holds no page.
    """
    from fastwarc.warc import WarcRecord

    try:
        record = WarcRecord.from_bytes(content.data)
    except OSError as e:
        return "bad WARC header", str(e)[:200]
    headers = record.headers
    kind = (headers.get("WARC-Type") or "nothing").lower()
    if kind not in ("conversion", "response", "resource"):
        raise _NoDocument(f"{kind} record")
    content.url = (headers.get("WARC-Target-URI") or "").strip().strip("<>") or None
    values: dict[str, Any] = {
        name: headers.get(name, ABSENT) for name in options.fields if name not in _TYPES
    }
    values |= {"url": content.url, "date": headers.get("WARC-Date"), "language": headers.get(_LANGUAGE)}
    values |= {"title": None, "status": None}
    content.values = values
    charset = None
    if kind == "response":
        if bad := _parse_http(record):
            return bad
        values["status"] = status = record.http_headers.status_code
        if status is not None and not 200 <= status < 300:
            raise _NoDocument(f"answer {status}")
        mime, charset = record.http_content_type, record.http_charset
    else:
        mime = (headers.get("Content-Type") or "").partition(";")[0]
    mime = (headers.get(_MIME) or mime or "").strip().lower()
    if mime not in (*_PAGES, "text/plain"):
        raise _NoDocument(mime or "answer without a type")
    values["mime"] = mime
    body = _body(record, content.data)
    if len(body) > RECORD_BYTES:
        return "too long", f"more than {RECORD_BYTES:,} bytes when decoded"
    if kind == "conversion":
        values["text"] = _utf8(body)
    elif mime == "text/plain":
        values["text"] = web_page.decoded(body, charset)
    else:
        values["text"], values["title"] = web_page.page(body, charset)
    return None


def _parse_http(record: WarcRecord) -> tuple[str, str] | None:
    try:
        record.parse_http(auto_decode="none", strict_mode=False)
    except (OSError, ValueError) as e:
        return "bad HTTP header", str(e)[:200]
    return None


def _body(record: WarcRecord, data: bytes) -> bytes:
    """A page's bytes, decoded, no more than one beyond RECORD_BYTES.

    Crawlers write bodies decoded, or as they came, and leave the headers as they were: what cannot be decoded
    is taken as it is.
    """
    if not record.is_http_parsed:
        return record.reader.read(RECORD_BYTES + 1)
    from fastwarc.warc import WarcRecord

    with contextlib.suppress(OSError):
        again = WarcRecord.from_bytes(data)
        again.parse_http(auto_decode="all", strict_mode=False)
        return again.reader.read(RECORD_BYTES + 1)
    return record.reader.read(RECORD_BYTES + 1)


def _utf8(data: bytes) -> str | UnicodeDecodeError:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        return e


@contextlib.contextmanager
def _opened(slice: Slice) -> Iterator[tuple[Iterator[Framed], Callable[[], int]]]:
    """The slice's records, and what tells how far its file was read."""
    with contextlib.ExitStack() as stack:
        if compression_of(slice.path) == "gzip":
            raw = stack.enter_context(files.open_read(slice.path))
            if slice.start or slice.end is not None or _is_cuttable(raw):
                at = [slice.start]
                yield _of_members(raw, slice, at), lambda: at[0]
                return
        stream = stack.enter_context(open_decompressed(slice.path, source=slice.source))
        yield _of_stream(stream, slice.source), taken_of(stream)


def _of_members(raw: BinaryIO, slice: Slice, at: list[int]) -> Iterator[Framed]:
    """Records of a file that has each in a member of its own; their positions are those of the members."""
    for member in _members(raw, slice, RECORD_BYTES + HEADER_BYTES):
        at[0] = member.end
        if member.damage:
            detail = f"{member.damage}; {member.size:,} bytes are skipped"
            yield member.start, member.data, member.size, ("damaged gzip member", detail)
        elif member.size > len(member.data):
            yield member.start, member.data[:HEAD_BYTES], member.size, too_long(member.size)
        else:
            for _, data, size, bad in framed(io.BytesIO(member.data)):
                if bad and bad[0] == TRUNCATED:
                    bad = "wrong Content-Length", bad[1]
                yield member.start, data, size, bad


def _of_stream(stream: BinaryIO, source: str) -> Iterator[Framed]:
    for position, data, size, bad in framed(stream):
        if bad and bad[0] == TRUNCATED:
            raise BadFileError(source, position, f"truncated: {bad[1]}; fetch the file again")
        yield position, data, size, bad


def _members(raw: BinaryIO, slice: Slice, most: int) -> Iterator[gzip_members.Member]:
    return gzip_members.members(raw, slice.source, start=slice.start, end=slice.end, most=most, head=MARK)


def _is_cuttable(raw: BinaryIO) -> bool:
    """Whether a gzip file has a member for each record, as its first one tells."""
    most = RECORD_BYTES + HEADER_BYTES
    try:
        first = next(gzip_members.members(raw, "", start=0, end=None, most=most, head=MARK), None)
    except BadFileError:
        return False
    if first is None or first.damage:
        return first is not None
    found = list(framed(io.BytesIO(first.data))) if first.size == len(first.data) else []
    return len(found) == 1 and (found[0][3] or ("",))[0] != TRUNCATED


def _check(slice: Slice, options: ReadOptions) -> None:
    with _opened(slice) as (records, _):
        collections.deque(records, maxlen=0)


def _cut(whole: Sequence[Slice], target: int) -> list[list[Slice]]:
    """Cuts files at members; a small read at each cut, many files at a time."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda file: _cut_file(file, target), whole))


def _cut_file(whole: Slice, target: int) -> list[Slice]:
    if compression_of(whole.path) != "gzip" or whole.size <= target:
        return [whole]
    try:
        with files.open_read(whole.path) as raw:
            found = gzip_members.cuts(raw, whole.size, target, head=MARK) if _is_cuttable(raw) else []
    except (OSError, BadFileError):
        return [whole]  # its shard will fail and say why; the others go on
    slices = [dataclasses.replace(whole, start=a, end=b, bytes=b - a) for a, b in itertools.pairwise(found)]
    if len(slices) < 2:
        return [whole]
    slices[-1] = dataclasses.replace(slices[-1], end=None)  # so that what a truncated file lacks is missed
    return slices


_ALIKE: dict[str, Any] = {
    "cut": _cut,
    "cut_codecs": (".gz",),
    "needs": (("fastwarc", "resiliparse"), "crawl"),
}
WET = Format("wet", (".wet",), _read, _check, **_ALIKE)
WARC = Format("warc", (".warc",), _read, _check, **_ALIKE)
