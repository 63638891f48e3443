"""Web archives in Common Crawl's layout, written with warcio: a gzip member for each record."""

import gzip
import io
import uuid

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

DATE = "2024-02-20T21:10:55Z"
HTML = (
    "<html><head><title>{title}</title></head>"
    "<body><nav><a href=/>Home</a></nav><main><p>{text}</p></main></body></html>"
)


def record(kind, url, body, *, http=None, status="200 OK", content_type=None, **headers):
    """One record as it lies in a plain file, its blank lines included."""
    writer = WARCWriter(out := io.BytesIO(), gzip=False)
    lines = {name.replace("_", "-"): value for name, value in headers.items()} | {"WARC-Date": DATE}
    lines["WARC-Record-ID"] = f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {url} {body!r}')}>"
    if http is not None:
        http = StatusAndHeaders(status, list(http), protocol="HTTP/1.1")
    one = writer.create_warc_record(
        url,
        kind,
        payload=io.BytesIO(body),
        http_headers=http,
        warc_headers_dict=lines,
        warc_content_type=content_type or ("application/http" if http else "text/plain"),
    )
    writer.write_record(one)
    return out.getvalue()


def wet(url, text, language="eng", **more):
    more |= {"WARC_Identified_Content_Language": language} if language else {}
    data = text if isinstance(text, bytes) else text.encode()
    return record("conversion", url, data, content_type="text/plain", **more)


def response(url, body, *http, status="200 OK", mime="text/html", **headers):
    lines = http if any(name == "Content-Type" for name, _ in http) else (("Content-Type", mime), *http)
    return record(
        "response", url, body, http=lines, status=status, WARC_Identified_Payload_Type=mime, **headers
    )


def warcinfo():
    body = b"isPartOf: CC-MAIN-2024-10\r\npublisher: Common Crawl\r\nsoftware: Apache Nutch 1.19\r\n"
    return record("warcinfo", None, body, content_type="application/warc-fields", WARC_Filename="CC.warc.gz")


def crawled(url, body, *http, **more):
    """What Common Crawl has for a page: the request, the response, and what it found out about them."""
    asked = (("User-Agent", "CCBot/2.0"), ("Host", "example.org"))
    request = record("request", url, b"", http=asked, status="GET / HTTP/1.1")
    found = b"fetchTimeMs: 20\r\ncharset-detected: UTF-8\r\n"
    metadata = record("metadata", url, found, content_type="application/warc-fields")
    return [request, response(url, body, *http, **more), metadata]


def members(records):
    """A file with a gzip member for each record."""
    return b"".join(gzip.compress(one, mtime=0) for one in records)


def page(text, title="T"):
    return HTML.format(title=title, text=text).encode()


def chunked(data, size=100):
    pieces = (data[i : i + size] for i in range(0, len(data), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
