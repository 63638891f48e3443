"""Where records begin and end, held against what another library finds."""

import io
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcs import record

from transforms.formats import warc_records
from transforms.formats.warc_records import TRUNCATED, framed

# Bodies that look like the end of a record, and the beginning of another.
BODY = st.binary(max_size=300) | st.lists(
    st.sampled_from(
        [b"\r\n", b"\n", b"WARC/1.0\r\n", b"Content-Length: 3\r\n", b"abc", b"\r\n\r\nWARC/1.1\r\n"]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(bodies=st.lists(BODY, max_size=6))
def test_sound_records_are_what_warcio_reads(bodies):
    records = [record("resource", f"http://a.org/{i}", body) for i, body in enumerate(bodies)]
    data = b"".join(records)
    found = list(framed(io.BytesIO(data)))
    assert [bad for *_, bad in found] == [None] * len(bodies)
    assert [position for position, *_ in found] == [sum(map(len, records[:i])) for i in range(len(records))]
    assert [one.partition(b"\r\n\r\n")[2] for _, one, *_ in found] == bodies
    read = [one.content_stream().read() for one in ArchiveIterator(io.BytesIO(data))]
    assert read == bodies


@settings(max_examples=150, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    junk=st.binary(max_size=200),
    at=st.integers(0, 4),
)
def test_whatever_lies_between_records_they_are_found(bodies, junk, at):
    """Nothing is read twice, and every byte belongs to a record or to a dead letter."""
    records = [record("resource", f"http://a.org/{i}", body) for i, body in enumerate(bodies)]
    at = min(at, len(records))
    data = b"".join([*records[:at], junk, b"\r\n\r\n", *records[at:]])
    found = list(framed(io.BytesIO(data)))
    sound = [one.partition(b"\r\n\r\n")[2] for _, one, _, bad in found if bad is None]
    if b"WARC/" not in junk:
        assert sound == bodies
    assert [position for position, *_ in found] == sorted({position for position, *_ in found})
    assert sum(size for _, _, size, _ in found) <= len(data)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(min_size=1, max_size=100), end=st.integers(1, 400))
def test_a_stream_that_ends_early_is_told(body, end):
    whole = record("resource", "http://a.org/", body)
    data = whole[: min(end, len(whole) - 5)]
    found = list(framed(io.BytesIO(data)))
    assert len(found) == 1
    assert found[0][3] is not None
    assert found[0][3][0] in (TRUNCATED, "not a WARC record", "bad WARC header")


@settings(max_examples=100, deadline=None)
@given(
    length=st.sampled_from([101, 150, 250, 400, 600, 10**11]),
    piece=st.integers(90, 200),
    after=st.integers(1, 3),
)
def test_a_wrong_length_that_is_too_long_takes_no_other_record_along(length, piece, after):
    records = [record("resource", f"http://a.org/{i}", b"body %d" % i) for i in range(2 + after)]
    records[1] = records[1].replace(b"Content-Length: 6", b"Content-Length: %d" % length)
    with mock.patch.multiple(warc_records, RECORD_BYTES=100, _PIECE=piece):
        found = list(framed(io.BytesIO(b"".join(records))))
    starts = [sum(map(len, records[:i])) for i in range(len(records))]
    assert [position for position, *_ in found] == starts
    assert [(bad or ("",))[0] for *_, bad in found] == ["", "wrong Content-Length", *[""] * after]


def test_a_record_that_is_too_long_is_one_letter():
    long = record("resource", "http://a.org/", b"x" * 5000)
    with mock.patch.multiple(warc_records, RECORD_BYTES=4000, _PIECE=700):
        found = list(framed(io.BytesIO(long + record("resource", "http://b.org/", b"y"))))
        assert [(bad or ("",))[0] for *_, bad in found] == ["too long", ""]
        ((_, _, _, bad),) = framed(io.BytesIO(long[:-100]))
        assert bad[0] == TRUNCATED
