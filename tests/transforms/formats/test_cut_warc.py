"""Gzip files cut at members: each record is read once, wherever the cuts are."""

import dataclasses
import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Doc, read_slice, whole
from warcs import members, record, warcinfo, wet

from transforms.errors import BadFileError
from transforms.formats import registry
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice


def noise(seed, size):
    """Text that deflate can hardly shrink."""
    return random.Random(seed).randbytes(size).hex()


def read_cut(path, target):
    """The documents of a file's slices one after the other, and where the slices begin."""
    (slices,) = registry.get("wet").cut([whole(path, "wet")], target)
    assert slices[0].start == 0
    assert slices[-1].end is None
    assert [a.end for a in slices[:-1]] == [b.start for b in slices[1:]]
    assert sum(one.bytes for one in slices) == path.stat().st_size
    found = []
    for one in slices:
        check_slice(one, ReadOptions())
        found += read_slice(one)
    return [(one.doc_id, one.position, one.text) for one in found], [one.start for one in slices]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=40),
    target=st.integers(1, 20_000),
    padding=st.integers(0, 3),
)
def test_any_cut_reads_each_record_once(tmp_path_factory, sizes, target, padding):
    path = tmp_path_factory.mktemp("cut") / "f.wet.gz"
    pages = [(f"http://a.org/{i}", noise(i, size) + "x") for i, size in enumerate(sizes)]
    pieces = [members([one]) for one in (warcinfo(), *(wet(*page) for page in pages))]
    path.write_bytes((bytes(padding)).join(pieces))
    starts = [sum(map(len, pieces[:i])) + padding * i for i in range(len(pieces))]
    found, cuts = read_cut(path, target)
    assert found == [(url, at, text) for (url, text), at in zip(pages, starts[1:], strict=True)]
    assert set(cuts) <= set(starts)
    if target < min(map(len, pieces)):
        assert set(cuts) == set(starts)


@pytest.mark.parametrize("inner", [100, 60_000])
def test_an_archive_inside_a_record_is_no_place_to_cut(tmp_path, inner):
    """Its members lie there byte for byte, since deflate stores what it cannot shrink."""
    nested = b"".join(
        members([wet(f"http://inner.org/{i}", noise(i, inner))]) for i in range(200_000 // (inner + 300))
    )
    stored = gzip.compress(
        record("resource", "http://a.org/x.gz", nested, content_type="application/gzip"), 0
    )
    before, after = (members([wet(f"http://a.org/{name}", name)]) for name in ("before", "after"))
    path = tmp_path / "f.wet.gz"
    path.write_bytes(before + stored + after)
    for target in (5_000, 70_000):
        found, cuts = read_cut(path, target)
        assert [text for _, _, text in found] == ["before", "after"]
        assert set(cuts) <= {0, len(before), len(before + stored)}


def test_a_cut_that_is_none_is_told(tmp_path):
    path = tmp_path / "f.wet.gz"
    data = members([wet("http://a.org/", "one"), wet("http://b.org/", "two")])
    path.write_bytes(data)
    with pytest.raises(BadFileError, match=r"no record begins at byte 20, where the file was cut"):
        check_slice(whole(path, "wet", end=20), ReadOptions())


@settings(max_examples=40, deadline=None)
@given(target=st.integers(1, 3000), damaged=st.integers(0, 18), where=st.floats(0.05, 0.95))
def test_damage_takes_no_other_record_along(tmp_path_factory, target, damaged, where):
    path = tmp_path_factory.mktemp("cut") / "f.wet.gz"
    pages = [(f"http://a.org/{i}", noise(i, 200)) for i in range(20)]
    pieces = [bytearray(members([wet(*page)])) for page in pages]
    (cut,) = registry.get("wet").cut([_written(path, pieces)], target)
    piece = pieces[damaged]
    at = 10 + int((len(piece) - 10) * where)
    piece[at] ^= 0x10
    path.write_bytes(b"".join(pieces))
    found = [one for piece in cut for one in read_slice(dataclasses.replace(piece, mtime=None))]
    kept = [one.text for one in found if isinstance(one, Doc)]
    assert kept == [text for i, (_, text) in enumerate(pages) if i != damaged]
    assert len(found) == 20


def test_damage_that_nothing_follows_fails_the_file(tmp_path):
    data = bytearray(members([wet("http://a.org/", "one"), wet("http://b.org/", noise(1, 900))]))
    data[-300] ^= 0xFF
    path = tmp_path / "f.wet.gz"
    path.write_bytes(data)
    with pytest.raises(
        BadFileError, match=r"damaged gzip: .*, and no record begins behind it; fetch the file again"
    ):
        check_slice(whole(path, "wet"), ReadOptions())


def _written(path, pieces):
    path.write_bytes(b"".join(pieces))
    return whole(path, "wet")


def test_files_with_one_member_are_not_cut(tmp_path):
    path = tmp_path / "f.wet.gz"
    path.write_bytes(gzip.compress(b"".join(wet(f"http://a.org/{i}", noise(i, 500)) for i in range(20))))
    found, cuts = read_cut(path, 1000)
    assert len(found) == 20
    assert cuts == [0]
    assert not registry.get("wet").can_split("f.wet.zst")
    assert not registry.get("wet").can_split("f.wet")
    assert registry.get("wet").can_split("f.wet.gz")


def test_a_cut_of_a_remote_file_is_a_small_read(tmp_path, monkeypatch):
    path = tmp_path / "f.wet.gz"
    path.write_bytes(members(wet(f"http://a.org/{i}", noise(i, 20_000)) for i in range(400)))
    asked = []

    class Remote(io.FileIO):
        def readinto(self, buffer):
            asked.append(len(buffer))
            return super().readinto(buffer)

    def open_read(path, *, block=8 << 20):
        return io.BufferedReader(Remote(path), block)

    monkeypatch.setattr("transforms.formats.warc.files.open_read", open_read)
    (slices,) = registry.get("wet").cut([whole(path, "wet")], -(-path.stat().st_size // 4))
    assert len(slices) == 4
    assert sum(asked) < 4 << 20 < path.stat().st_size
