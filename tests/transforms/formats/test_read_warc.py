"""WET and WARC in Common Crawl's layout: pages, their fields, what is no page, and what is broken."""

import gzip
import io
import os
import random
import re
import subprocess
import sys
import zlib

import brotli
import pytest
import warcs
from backports import zstd
from compressed import COMPRESS
from reading import Doc, read, read_slice, short, whole
from warcs import chunked, crawled, members, page, record, response, warcinfo, wet

from transforms.elements import RECORD_BYTES
from transforms.errors import BadFileError, UsageError
from transforms.formats import registry, slices
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice

LONG = "The words of this page are many enough to be its main content. " * 3
FIELDS = ReadOptions(keep_fields=("url", "date", "language", "mime", "title", "status"))


def texts(found):
    return [(one.doc_id, one.text) if isinstance(one, Doc) else (one.doc_id, one.reason) for one in found]


def test_wet(tmp_path):
    records = [
        warcinfo(),
        wet("http://a.org/é", "één\ntwo\n", "nld,eng"),
        wet("http://b.org/", "three", None),
    ]
    found = read(tmp_path, members(records), "wet", name="f.warc.wet.gz", options=FIELDS)
    kept = {"date": warcs.DATE, "mime": "text/plain", "title": None, "status": None}
    assert short(found) == [
        ("http://a.org/é", "één\ntwo\n", kept | {"url": "http://a.org/é", "language": "nld,eng"}),
        ("http://b.org/", "three", kept | {"url": "http://b.org/", "language": None}),
    ]
    first = len(members(records[:1]))
    assert [one.position for one in found] == [first, first + len(members(records[1:2]))]


def test_formats_by_name():
    for name, format in (
        ("CC-MAIN-20240220211055-20240220241055-00000.warc.wet.gz", "wet"),
        ("CC-MAIN-20240220211055-20240220241055-00000.warc.gz", "warc"),
        ("a.warc", "warc"),
        ("a.warc.zst", "warc"),
        ("CC-MAIN-20240220211055-20240220241055-00000.warc.wat.gz", None),
    ):
        assert registry.format_of(name) == format


def test_warc(tmp_path):
    records = [
        warcinfo(),
        *crawled("http://a.org/", page(LONG, "  A\n title ")),
        *crawled("http://a.org/plain", b"just words", mime="text/plain"),
        *crawled("http://a.org/x", page(LONG), mime="application/xhtml+xml"),
    ]
    found = read(tmp_path, members(records), "warc", name="f.warc.gz", options=FIELDS)
    kept = {"date": warcs.DATE, "language": None, "status": 200}
    assert short(found) == [
        (
            "http://a.org/",
            LONG.strip(),
            kept | {"url": "http://a.org/", "mime": "text/html", "title": "A title"},
        ),
        (
            "http://a.org/plain",
            "just words",
            kept | {"url": "http://a.org/plain", "mime": "text/plain", "title": None},
        ),
        (
            "http://a.org/x",
            LONG.strip(),
            kept | {"url": "http://a.org/x", "mime": "application/xhtml+xml", "title": "T"},
        ),
    ]


BODY = page(LONG + "é")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(BODY), [("Content-Encoding", "gzip")]),
        (brotli.compress(BODY), [("Content-Encoding", "br")]),
        (zlib.compress(BODY), [("Content-Encoding", "deflate")]),
        (zlib.compress(BODY, wbits=-15), [("Content-Encoding", "deflate")]),
        (zstd.compress(BODY), [("Content-Encoding", "zstd")]),
        (brotli.compress(gzip.compress(BODY)), [("Content-Encoding", "x-gzip, br")]),
        (BODY, [("Content-Encoding", "zstd")]),
        (BODY, [("Content-Encoding", "deflate, identity")]),
        (chunked(BODY), [("Transfer-Encoding", "chunked")]),
        (chunked(gzip.compress(BODY)), [("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]),
        (BODY, [("X-Crawler-Content-Encoding", "gzip"), ("X-Crawler-Transfer-Encoding", "chunked")]),
        # Crawlers that decode a body and leave its headers.
        (BODY, [("Content-Encoding", "gzip")]),
        (BODY, [("Content-Encoding", "br"), ("Transfer-Encoding", "chunked")]),
    ],
)
def test_encodings_of_http(tmp_path, body, headers):
    (found,) = read(tmp_path, response("http://a.org/", body, *headers), "warc")
    assert found.text == LONG + "é"


NOISE = random.Random(1).randbytes(3000)
ENCODE = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", ENCODE)
def test_a_damaged_body(tmp_path, coding):
    damaged = bytearray(ENCODE[coding](NOISE.hex().encode()))
    damaged[500:1500] = bytes(1000)
    # Only gzip and deflate have checksums by default.
    for body in [NOISE] + [bytes(damaged)] * (coding in ("gzip", "deflate")):
        broken = response("http://a.org/", body, ("Content-Encoding", coding))
        bad, sound = read(tmp_path, broken + response("http://b.org/", BODY), "warc")
        assert (bad.doc_id, bad.kind) == ("f:0", "damaged body")
        assert bad.detail.startswith(f"{coding}: ")
        assert sound.text == LONG + "é"


@pytest.mark.parametrize("coding", ENCODE)
def test_a_body_that_is_cut_off_gives_its_head_where_the_crawler_says_so(tmp_path, coding):
    body = ENCODE[coding](page(NOISE.hex() * 100))[:-10]
    http = ("Content-Encoding", coding)
    (bad,) = read(tmp_path, response("http://a.org/", body, http), "warc")
    assert bad.reason == f"damaged body: {coding}: it ends too early"
    (found,) = read(tmp_path, response("http://a.org/", body, http, WARC_Truncated="length"), "warc")
    assert (NOISE.hex() * 100).startswith(found.text)
    assert len(found.text) > 5000


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("behind", [b"", b"junk", bytes(600)])
def test_a_body_of_several_members(tmp_path, coding, behind):
    body = b"".join(ENCODE[coding](piece) for piece in (b"one ", NOISE.hex().encode(), b"", b" two")) + behind
    http = (("Content-Type", "text/plain"), ("Content-Encoding", coding))
    (found,) = read(tmp_path, response("http://a.org/", body, *http, mime="text/plain"), "warc")
    assert found.text == f"one {NOISE.hex()} two"


@pytest.mark.parametrize("named", ["http", "meta", "nowhere", "wrong"])
@pytest.mark.parametrize("charset", ["utf-8", "windows-1251", "koi8-r", "shift_jis", "gb2312"])
def test_charsets(tmp_path, charset, named):
    text = (
        "これは日本語の文章です。"
        if charset == "shift_jis"
        else "这是一个中文网页"
        if charset == "gb2312"
        else "Привет, мир"
    )
    text = text * 20
    meta = f"<meta charset={charset}>" if named == "meta" else ""
    body = f"<html><head>{meta}</head><body><p>{text}</p></body></html>".encode(charset)
    says = {"http": f"text/html; charset={charset}", "wrong": "text/html; charset=x-no-such"}.get(
        named, "text/html"
    )
    (found,) = read(tmp_path, response("http://a.org/", body, ("Content-Type", says)), "warc")
    assert found.text == text


def test_bytes_that_mean_nothing_in_a_page_are_replaced_and_in_wet_refused(tmp_path):
    data = response(
        "http://a.org/", page("x").replace(b"x", b"caf\xff"), ("Content-Type", "text/html; charset=utf-8")
    )
    assert texts(read(tmp_path, data, "warc")) == [("http://a.org/", "caf�")]
    assert texts(read(tmp_path, wet("http://a.org/", b"caf\xff"), "wet")) == [
        ("http://a.org/", "not UTF-8: byte 0xff at 3")
    ]


def test_a_page_without_main_content_gives_all_of_it(tmp_path):
    body = b"<html><body><nav>Home</nav><footer>All rights</footer></body></html>"
    (found,) = read(tmp_path, response("http://a.org/", body), "warc")
    assert found.text.split() == ["Home", "All", "rights"]


def test_what_is_no_page_is_counted(tmp_path):
    odd = response("http://a.org/odd", b"x", mime="no/such")
    records = [
        warcinfo(),
        *crawled("http://a.org/", page(LONG)),
        response("http://a.org/f.pdf", b"%PDF", mime="application/pdf"),
        odd,
        odd.replace(b"no/such", b"nothing"),
        *crawled("http://a.org/i.png", b"\x89PNG", mime="image/png"),
        response("http://a.org/gone", page(LONG), status="404 Not Found"),
        record(
            "response", "dns:a.org", b"20240220211055\na.org. 60 IN A 10.0.0.1\n", content_type="text/dns"
        ),
        record("revisit", "http://a.org/", b"", http=[("Content-Type", "text/html")]),
    ]
    path = tmp_path / "f.warc.gz"
    path.write_bytes(members(records))
    counts: dict[str, int] = {}
    rows = 0
    for block in slices.read_slice(whole(path, "warc"), ReadOptions()):
        rows += len(block.positions)
        for what, count in block.skipped.items():
            counts[what] = counts.get(what, 0) + count
    assert rows == 1
    assert counts == {
        "warcinfo record": 1,
        "application/pdf": 1,
        "no or unknown type": 2,
        "request record": 2,
        "metadata record": 2,
        "image/*": 1,
        "text/*": 1,
        "answer 4xx": 1,
        "revisit record": 1,
    }


def test_ids(tmp_path):
    same = [wet("http://a.org/", "one"), wet("http://a.org/", "two"), wet("<http://b.org/>", "three")]
    unnamed = wet(None, "four")
    found = read(tmp_path, members([*same, unnamed]), "wet", name="f.wet.gz")
    assert texts(found) == [
        ("http://a.org/", "one"),
        ("http://a.org/", "two"),
        ("http://b.org/", "three"),
        (f"f.wet.gz:{len(members(same))}", "four"),
    ]
    options = ReadOptions(id_field="WARC-Record-ID", keep_fields=("WARC-Type", "WARC-No-Such"))
    found = read(tmp_path, members(same), "wet", name="f.wet.gz", options=options)
    assert len({one.doc_id for one in found}) == 3
    assert all(re.fullmatch(r"<urn:uuid:[0-9a-f-]{36}>", one.doc_id) for one in found)
    assert found[0].kept == {"WARC-Type": "conversion", "WARC-No-Such": None}


PAGES = [("http://a.org/", "one"), ("http://b.org/", "two"), ("http://c.org/", "three")]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_files_that_are_compressed_as_a_whole(tmp_path, suffix):
    records = [warcinfo(), *(wet(*one) for one in PAGES)]
    found = read(tmp_path, COMPRESS[suffix](b"".join(records)), "wet", name=f"f.wet{suffix}")
    assert texts(found) == PAGES
    assert [one.position for one in found] == [len(b"".join(records[:i])) for i in (1, 2, 3)]


def test_a_record_of_several_members(tmp_path):
    """bgzip and pigz cut where they like; zstd with a frame for each record is as good as one."""
    data = b"".join(wet(*one) for one in PAGES)
    pieces = [data[i : i + 100] for i in range(0, len(data), 100)]
    found = read(tmp_path, b"".join(map(gzip.compress, pieces)), "wet", name="f.wet.gz")
    assert texts(found) == PAGES
    frames = b"".join(zstd.compress(wet(*one)) for one in PAGES)
    assert texts(read(tmp_path, frames, "wet", name="f.wet.zst")) == PAGES


def test_no_records(tmp_path):
    assert read(tmp_path, b"", "warc") == []
    assert read(tmp_path, members([warcinfo()]), "warc", name="f.warc.gz") == []


def broken(tmp_path, data, *, packed):
    """The records of a file in which one, the second of three, is broken."""
    first, last = wet(*PAGES[0]), wet(*PAGES[2])
    if packed:
        return read(tmp_path, members([first]) + data + members([last]), "wet", name="f.wet.gz")
    return read(tmp_path, first + data + last, "wet")


SECOND = wet(*PAGES[1])


def lengthened(by):
    length = int(re.search(rb"Content-Length: (\d+)", SECOND)[1])
    return SECOND.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % (length + by))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"garbage\r\nmore of it\r\n\r\n", "not a WARC record: expected a line like WARC/1.0"),
        (
            re.sub(rb"Content-Length: \d+\r\n", b"", SECOND),
            "bad WARC header: no lines of Content-Length, expected one number",
        ),
        (
            SECOND.replace(b"Content-Length: ", b"Content-Length: x"),
            "bad WARC header: no lines of Content-Length",
        ),
        (lengthened(-2), "wrong Content-Length: 1 bytes do not end before another record"),
        (lengthened(40), "wrong Content-Length: "),
        (lengthened(4000), "wrong Content-Length: "),
    ],
)
def test_a_broken_record(tmp_path, data, reason, packed):
    found = broken(tmp_path, members([data]) if packed else data, packed=packed)
    assert [one.text for one in found if isinstance(one, Doc)] == ["one", "three"]
    (letter,) = [one for one in found if not isinstance(one, Doc)]
    assert letter.reason.startswith(reason)
    assert letter.payload.startswith(data[:8].decode())
    at = letter.doc_id.partition(":")[2]
    assert int(at) == letter.position == len(members([wet(*PAGES[0])]) if packed else wet(*PAGES[0]))


def test_a_damaged_member(tmp_path):
    sound = members([SECOND])
    for at in range(10, len(sound)):  # behind the header, whose time and name nobody checks
        damaged = bytearray(sound)
        damaged[at] ^= 0x55
        found = broken(tmp_path, bytes(damaged), packed=True)
        assert [one.text for one in found if isinstance(one, Doc)] == ["one", "three"]
        (letter,) = [one for one in found if not isinstance(one, Doc)]
        assert letter.reason.startswith("damaged gzip member: ")
        assert letter.reason.endswith(f"; {len(sound):,} bytes are skipped")
    for gap in (sound[:-20], sound[20:], b"no gzip at all"):
        found = broken(tmp_path, gap, packed=True)
        assert [one.text for one in found if isinstance(one, Doc)] == ["one", "three"]
        assert len(found) == 3


def test_a_damaged_first_member(tmp_path):
    data = bytearray(members(wet(*one) for one in PAGES))
    data[60] ^= 0xFF
    found = read(tmp_path, bytes(data), "wet", name="f.wet.gz")
    assert [getattr(one, "text", None) for one in found] == [None, "two", "three"]


def test_truncated(tmp_path):
    records = [wet(*one) for one in PAGES]
    data = members(records)
    for end in range(len(members(records[:2])) + 1, len(data)):
        with pytest.raises(BadFileError, match=r"^f\.wet\.gz at \d+: truncated gzip"):
            read(tmp_path, data[:end], "wet", name="f.wet.gz")
    plain = b"".join(records)
    for end in range(len(plain) - 20, len(plain) - 4):
        with pytest.raises(
            BadFileError, match=r"^f at \d+: truncated: Content-Length is 5, and \d bytes|it ends in"
        ):
            read(tmp_path, plain[:end], "wet")


def test_not_gzip(tmp_path):
    with pytest.raises(BadFileError, match=r"not gzip, though its name says so"):
        read(tmp_path, wet(*PAGES[0]), "wet", name="f.wet.gz")


def test_zeros_behind_and_between_members(tmp_path):
    records = [members([wet(*one)]) for one in PAGES]
    data = records[0] + bytes(700) + records[1] + records[2] + bytes(100_000)
    assert texts(read(tmp_path, data, "wet", name="f.wet.gz")) == PAGES


def bomb(size):
    """A gzip member of so many decompressed bytes, made without holding them."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as stream:
        head = wet("http://bomb.org/", "x").partition(b"Content-Length")[0]
        stream.write(head + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
        stream.write(b"\r\n\r\n")
    return out.getvalue()


def test_bombs(tmp_path):
    import tracemalloc

    size = 3 * RECORD_BYTES
    data = bomb(size)
    tracemalloc.start()
    found = broken(tmp_path, data, packed=True)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2.5 * RECORD_BYTES
    assert [getattr(one, "text", None) for one in found] == ["one", None, "three"]
    assert re.fullmatch(
        rf"too long: {found[1].reason[10:21]} bytes, expected at most {RECORD_BYTES:,}", found[1].reason
    )
    assert len(found[1].payload) < 20_000
    plain = read(tmp_path, gzip.decompress(data) + wet(*PAGES[2]), "wet")
    assert [getattr(one, "text", None) for one in plain] == [None, "three"]


def brotli_bomb(size):
    encoder = brotli.Compressor(quality=1)
    pieces = [encoder.process(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*pieces, encoder.finish()])


def inflated_bomb(coding, size):
    if coding == "br":
        return brotli_bomb(size)
    return (zstd if coding == "zstd" else gzip).compress(bytes(size))


_MOST_KIB = """
import resource, sys
from reading import read_slice, whole
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_slice(whole(Path(sys.argv[1]), "warc"))
print(found[0].reason)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_bodies_that_are_bombs(tmp_path, coding):
    """In a process of its own: decoders take memory that Python knows nothing of."""
    path = tmp_path / "f.warc"
    body = inflated_bomb(coding, 10 * RECORD_BYTES)
    path.write_bytes(response("http://a.org/", body, ("Content-Encoding", coding)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _MOST_KIB, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    reason, kib = done.stdout.splitlines()
    assert reason == f"too long: more than {RECORD_BYTES:,} bytes when decoded"
    assert int(kib) << 10 < 5 * RECORD_BYTES


@pytest.mark.parametrize("tag", ["div", "article", "table><tr><td", "blockquote", "span", "ul><li"])
def test_deeply_nested_pages_take_no_time(tmp_path, tag):
    import time

    body = b"<html><body>" + f"<{tag}>".encode() * 50_000 + b"words"
    began = time.monotonic()
    (found,) = read(tmp_path, response("http://a.org/", body), "warc")
    assert time.monotonic() - began < 10
    assert isinstance(found, Doc) or found.reason == "blank text"


DEEP = 20_000


@pytest.mark.parametrize(
    "html",
    [
        "</div>" * DEEP + "<div>" * DEEP,
        "<div></article>" * DEEP,
        "<div><!-- </div> -->" * DEEP,
        "\ufeff" + "<div>" * DEEP,
    ],
)
def test_deep_pages_in_disguise(html):
    import time

    from transforms.formats import web_page

    data = (html + "<p>words</p>").encode("utf-16-le" if html[0] == "\ufeff" else "utf-8")
    began = time.monotonic()
    assert web_page.page(data, None) == ("words", None)
    assert time.monotonic() - began < 6  # and 19 s otherwise


def test_limit(tmp_path):
    records = [warcinfo(), *(wet(*one) for one in PAGES)]
    assert texts(read(tmp_path, members(records), "wet", name="f.wet.gz", limit=2)) == PAGES[:2]


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "fastwarc" else object())
    with pytest.raises(UsageError, match=r"^warc files need fastwarc: pip install 'embedbeam\[crawl\]'$"):
        registry.require("warc")
    registry.require("jsonl")


def test_what_the_writer_reads_is_what_was_checked(tmp_path):
    path = tmp_path / "f.wet.gz"
    path.write_bytes(members(wet(*one) for one in PAGES))
    piece = whole(path, "wet")
    check_slice(piece, ReadOptions())
    assert texts(read_slice(piece)) == PAGES


def test_small_records_of_large_texts_do_not_share_a_block(tmp_path):
    import tracemalloc

    size = 4 << 20
    body = gzip.compress(b"a b " * (size // 4))
    http = (("Content-Type", "text/plain"), ("Content-Encoding", "gzip"))
    path = tmp_path / "f.warc.gz"
    path.write_bytes(
        members(response(f"http://a.org/{i}", body, *http, mime="text/plain") for i in range(20))
    )
    tracemalloc.start()
    counts = []
    for block in slices.read_slice(whole(path, "warc"), ReadOptions()):
        counts.append((len(block.positions), block.size))
        del block
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts == [(1, size)] * 20
    assert most < 6 * size  # one text, while it is decoded
