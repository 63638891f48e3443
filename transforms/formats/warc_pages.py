"""A WARC record to a page: its URL, its text, its fields; or why it holds none."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from transforms.elements import ABSENT, RECORD_BYTES
from transforms.formats import web_page
from transforms.formats.base import ReadOptions
from transforms.formats.http_body import decoded_body

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

_PAGES = ("text/html", "application/xhtml+xml")
TYPES = dict.fromkeys(("text", "url", "date", "language", "mime", "title"), "string") | {"status": "int64"}
_OTHERS = ("warcinfo", "request", "metadata", "revisit", "continuation")
# Of what is skipped, what is counted by its type, and by its main type.
_COMMON = (
    "application/pdf",
    "application/json",
    "application/xml",
    "text/xml",
    "text/css",
    "text/javascript",
)
_MAIN = ("application", "audio", "font", "image", "text", "video")
# Header lines of a record that Common Crawl adds.
_LANGUAGE, _MIME = "WARC-Identified-Content-Language", "WARC-Identified-Payload-Type"


@dataclasses.dataclass(slots=True)
class Content:
    """A record: its bytes, its URL, and its fields."""

    data: bytes
    url: str | None
    values: dict[str, Any]


class NoDocument(Exception):
    """A record that holds no page: its one argument says what it is."""


def fill(content: Content, options: ReadOptions) -> tuple[str, str] | None:
    """Fills in a record's URL and fields; returns what is wrong with it.

    Raises:
      NoDocument: it holds no page.
    """
    from fastwarc.warc import WarcRecord

    try:
        record = WarcRecord.from_bytes(content.data)
    except OSError as e:
        return "bad WARC header", str(e)[:200]
    headers = record.headers
    kind = (headers.get("WARC-Type") or "nothing").lower()
    if kind not in ("conversion", "response", "resource"):
        raise NoDocument(f"{kind} record" if kind in _OTHERS else "record of another type")
    content.url = (headers.get("WARC-Target-URI") or "").strip().strip("<>") or None
    values: dict[str, Any] = {name: headers.get(name, ABSENT) for name in options.fields if name not in TYPES}
    values |= {"url": content.url, "date": headers.get("WARC-Date"), "language": headers.get(_LANGUAGE)}
    values |= {"title": None, "status": None}
    content.values = values
    charset = None
    if kind == "response" and record.is_http:  # crawlers write answers of DNS servers, too
        if bad := _parse_http(record):
            return bad
        values["status"] = status = record.http_headers.status_code
        if status is not None and not 200 <= status < 300:
            raise NoDocument(f"answer {status // 100}xx")
        mime, charset = record.http_content_type, record.http_charset
    else:
        mime = (headers.get("Content-Type") or "").partition(";")[0]
    mime = (headers.get(_MIME) or mime or "").strip().lower()
    if mime not in (*_PAGES, "text/plain"):
        raise NoDocument(_kind_of(mime))
    values["mime"] = mime
    try:
        body = _body(record, content.data)
    except ValueError as e:
        return "damaged body", str(e)
    if len(body) > RECORD_BYTES:
        return "too long", f"more than {RECORD_BYTES:,} bytes when decoded"
    if kind == "conversion":
        values["text"] = _utf8(body)
    elif mime == "text/plain":
        values["text"] = web_page.decoded(body, charset)
    else:
        values["text"], values["title"] = web_page.page(body, charset)
    return None


def _kind_of(mime: str) -> str:
    """A MIME type in words of which there are few: the web has any number of types."""
    main = mime.partition("/")[0]
    if mime in _COMMON:
        return mime
    return f"{main}/*" if main in _MAIN else "no or unknown type"


def _parse_http(record: WarcRecord) -> tuple[str, str] | None:
    try:
        record.parse_http(auto_decode="none", strict_mode=False)
    except (OSError, ValueError) as e:
        return "bad HTTP header", str(e)[:200]
    return None


def _body(record: WarcRecord, data: bytes) -> bytes:
    """A page's bytes, decoded, about one more than RECORD_BYTES at most.

    Crawlers write bodies without their chunks, or as they came, and leave the headers as they were.

    Raises:
      ValueError: it cannot be decoded.
    """
    if not record.is_http_parsed:
        return record.reader.read()
    from fastwarc.warc import WarcRecord

    body = None
    with contextlib.suppress(OSError):
        again = WarcRecord.from_bytes(data)
        again.parse_http(auto_decode="transfer", strict_mode=False)
        body = again.reader.read()
    codings = record.http_headers.get("Content-Encoding") or ""
    body = record.reader.read() if body is None else body
    return decoded_body(body, codings, RECORD_BYTES + 1, cut="WARC-Truncated" in record.headers)


def _utf8(data: bytes) -> str | UnicodeDecodeError:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        return e
