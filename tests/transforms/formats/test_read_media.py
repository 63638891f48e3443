"""Images and sounds as files, and tar archives in WebDataset's layout: bytes as they are."""

import gzip
import io
import json
import subprocess
import tarfile

import pytest
from compressed import COMPRESS
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Doc, read, short, whole

from transforms.errors import BadFileError
from transforms.formats import media, registry, slices, tar
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice

IMAGE = ReadOptions(("image",), "bytes")
JPEG, PNG = b"\xff\xd8\xff\xe0 not decoded here", b"\x89PNG\r\n"


@pytest.mark.parametrize(("format", "name"), [("image", "a/b.JPEG"), ("image", "c.tif"), ("audio", "d.flac")])
def test_a_file_is_a_document(tmp_path, format, name):
    assert registry.format_of(name) == format
    options = ReadOptions((format,), "bytes", keep_fields=("title",))
    assert short(read(tmp_path, JPEG, format, options=options)) == [("f", JPEG, {"title": None})]


def test_empty_and_too_long_files(tmp_path, monkeypatch):
    assert short(read(tmp_path, b"", "image", options=IMAGE)) == [("f", "empty file", None)]
    monkeypatch.setitem(media.MOST_BYTES, "image", 10)
    assert short(read(tmp_path, bytes(10), "image", options=IMAGE)) == [("f", bytes(10), {})]
    assert short(read(tmp_path, bytes(11), "image", options=IMAGE)) == [
        ("f", "too long: 11 bytes, expected at most 10", None)
    ]


def archive(files, format=tarfile.PAX_FORMAT):
    with tarfile.open(fileobj=(out := io.BytesIO()), mode="w", format=format) as made:
        for name, data in files:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            made.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return out.getvalue()


SAMPLES = [
    ("a", None),
    ("a/001.jpg", JPEG),
    ("a/001.json", b'{"caption": "one", "n": 1, "deep": {"b": [1]}, "jpg": "not this"}'),
    ("a/001.cls", b"3"),
    ("a/002.json", b'{"caption": "two"}'),
    ("a/002.png", PNG),
    ("a/002.txt", "twö".encode()),
]
FIELDS = ("caption", "n", "deep", "cls", "txt", "png")


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_samples(tmp_path, suffix):
    options = ReadOptions(("image",), "bytes", keep_fields=FIELDS)
    name = f"f.tar{suffix}"
    assert registry.format_of(name) == "tar"
    found = read(tmp_path, COMPRESS[suffix](archive(SAMPLES)), "tar", name=name, options=options)
    none = dict.fromkeys(FIELDS)
    assert short(found) == [
        ("a/001", JPEG, none | {"caption": "one", "n": 1, "deep": '{"b":[1]}', "cls": "3"}),
        ("a/002", PNG, none | {"caption": "two", "txt": "twö", "png": PNG}),
    ]
    assert [one.position for one in found] == [512, 512 * 7]


@pytest.mark.parametrize(
    ("field", "expected"), [("text", ["twö"]), ("caption", ["one", "two"]), ("cls", ["3"])]
)
def test_texts_of_samples(tmp_path, field, expected):
    found = read(tmp_path, archive(SAMPLES), "tar", options=ReadOptions((field,)))
    assert [one.text for one in found if isinstance(one, Doc)] == expected
    assert {one.kind for one in found if not isinstance(one, Doc)} <= {f"missing field {field!r}"}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names(tmp_path, format):
    folder = ("d" * 60 + "/") * 2
    names = [f"{folder}long.jpg", "./dot.jpg", "x.seg.png", "README", ".hidden.jpg", "link.jpg"]
    if format != tarfile.USTAR_FORMAT:
        names += [f"{'n' * 300}.jpg", "日本/é.jpg"]
    files = [(name, "dot.jpg" if name == "link.jpg" else JPEG) for name in names]
    data = archive(files, format)
    found = read(tmp_path, data, "tar", options=IMAGE)
    keys = [f"{folder}long", "dot", "n" * 300, "日本/é"]
    assert [one.doc_id for one in found if isinstance(one, Doc)] == keys[: len(names) - 4]
    (letter,) = [one for one in found if not isinstance(one, Doc)]
    assert (letter.doc_id, letter.reason) == (
        "f:" + str(letter.position),
        "missing field 'image': the sample has seg.png",
    )
    (found,) = [
        one
        for one in read(tmp_path, data, "tar", options=ReadOptions(("seg.png",), "bytes"))
        if isinstance(one, Doc)
    ]
    assert (found.doc_id, found.text) == ("x", JPEG)
    path = tmp_path / "f"
    blocks = list(slices.read_slice(whole(path, "tar"), IMAGE))
    assert [block.skipped for block in blocks] == [{"file without an extension": 2, "link": 1}]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("b.json", b"{}")], "missing field 'image': the sample has json"),
        ([("b.txt", b"x"), ("b.json", b"{}")], "missing field 'image': the sample has txt, json"),
        ([("b.jpg", JPEG), ("b.json", b"{")], "not JSON: Expecting property name"),
        ([("b.jpg", JPEG), ("b.json", b"\xff\xfe")], "not JSON: "),
        ([("b.jpg", JPEG), ("b.json", b"[" * 100_000)], "not JSON: too deep"),
        ([("b.jpg", JPEG), ("b.json", b"[1]")], "not a JSON object: the sample's json is list"),
        ([("b.jpg", JPEG), ("b.jpg", JPEG)], "two files of one name: 'jpg' at byte 2048"),
        ([("b.jpg", bytes(2000))], "too long: 2,000 bytes, expected at most 1,500"),
    ],
)
def test_bad_samples(tmp_path, monkeypatch, files, reason):
    monkeypatch.setitem(tar.MOST_BYTES, "image", 1500)
    data = archive([("a.jpg", JPEG), *files, ("c.jpg", PNG)])
    options = ReadOptions(("image",), "bytes", keep_fields=("caption",))
    before, bad, after = read(tmp_path, data, "tar", options=options)
    assert [(one.doc_id, one.text) for one in (before, after)] == [("a", JPEG), ("c", PNG)]
    assert (bad.doc_id, bad.position) == ("f:1024", 1024)
    assert bad.reason.startswith(reason)
    shown = json.loads(bad.payload)
    assert (shown["key"], set(shown["files"])) == ("b", {name.partition(".")[2] for name, _ in files})


def test_truncated_at_every_block_and_byte(tmp_path):
    data = archive([("a.jpg", bytes(600)), ("b.jpg", PNG)], tarfile.USTAR_FORMAT)
    end = data.rindex(PNG)
    for cut in [1, 511, 513, 1000, 1536, *range(end - 511, end + 512, 37)]:
        if cut % 512 == 0:
            continue
        with pytest.raises(BadFileError, match=r"^f at \d+: (truncated|not a tar)"):
            read(tmp_path, data[:cut], "tar", options=IMAGE)
    squeezed = gzip.compress(data)
    for cut in range(0, len(squeezed), 7):
        with pytest.raises(BadFileError, match=r"^f\.tar\.gz at \d+: truncated gzip"):
            read(tmp_path, squeezed[:cut], "tar", name="f.tar.gz", options=IMAGE)


def test_damaged(tmp_path):
    data = bytearray(archive([("a.jpg", JPEG), ("b.jpg", PNG), ("c.jpg", PNG)]))
    data[1024 + 20] ^= 0xFF
    with pytest.raises(BadFileError, match=r"^f at 1024: damaged: bad checksum; fetch the file again$"):
        read(tmp_path, bytes(data), "tar", options=IMAGE)
    with pytest.raises(BadFileError, match=r"^f at 0: not a tar archive: invalid header"):
        read(tmp_path, b"x" * 600, "tar", options=IMAGE)
    with pytest.raises(BadFileError, match=r"^f at 0: empty, expected a tar archive$"):
        read(tmp_path, b"", "tar", options=IMAGE)
    assert read(tmp_path, archive([]), "tar", options=IMAGE) == []


def test_limit(tmp_path):
    found = read(tmp_path, archive(SAMPLES), "tar", options=IMAGE, limit=1)
    assert [one.doc_id for one in found] == ["a/001"]


@settings(max_examples=60, deadline=None)
@given(
    samples=st.lists(
        st.tuples(
            st.text("abcé/", min_size=1, max_size=150),
            st.dictionaries(st.sampled_from(["jpg", "x.y"]), st.binary(max_size=1500)),
        ),
        max_size=12,
    ),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_tarfile_wrote_is_read(tmp_path_factory, samples, format):
    folder = tmp_path_factory.mktemp("tar")
    files = [
        (f"{i}{key}/k.{extension}", data)
        for i, (key, found) in enumerate(samples)
        for extension, data in found.items()
    ]
    path = folder / "f.tar"
    path.write_bytes(archive(files, format))
    check_slice(whole(path, "tar"), IMAGE)
    found = read(folder, path.read_bytes(), "tar", options=IMAGE)
    expected = {f"{i}{key}/k": of["jpg"] for i, (key, of) in enumerate(samples) if "jpg" in of}
    assert {one.doc_id: one.text for one in found if isinstance(one, Doc)} == expected
    assert len(found) == sum(bool(of) for _, of in samples)


def member(data, type=tarfile.REGTYPE, size=None):
    info = tarfile.TarInfo("x")
    info.type, info.size = type, len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def test_archives_one_after_the_other(tmp_path):
    first, second = archive([("a.jpg", JPEG)]), archive([("b.jpg", PNG)])
    for data, name in (
        (first + second, "f.tar"),
        (gzip.compress(first) + gzip.compress(second), "f.tar.gz"),
        (first[:1536] + second[:1536], "f.tar"),
    ):
        found = read(tmp_path, data, "tar", name=name, options=IMAGE)
        assert [(one.doc_id, one.text) for one in found] == [("a", JPEG), ("b", PNG)]
    with pytest.raises(BadFileError, match=r"^f at 10240: damaged: invalid header"):
        read(tmp_path, first + b"x" * 512, "tar", options=IMAGE)


@pytest.mark.parametrize("cut", [1024, 1024 + 100])
def test_no_end_of_archive_marker(tmp_path, cut):
    data = archive([("a.jpg", JPEG)])
    with pytest.raises(
        BadFileError, match=rf"^f at {cut}: truncated: there is no end-of-archive marker; fetch"
    ):
        read(tmp_path, data[:cut], "tar", options=IMAGE)


@pytest.mark.parametrize(
    "crafted",
    [
        *(
            member(data, tarfile.XHDTYPE)
            for data in (
                "11 size=²\n".encode(),
                b"9" * 5000,
                b"11 size=-1\n",
                b"99 path=a\n",
                b"5 \n",
                b"0 a=b\n",
            )
        ),
        *(member(b"", type, size) for type in (tarfile.REGTYPE, tarfile.XHDTYPE) for size in (-1, -600)),
    ],
)
def test_crafted_headers(tmp_path, crafted):
    with pytest.raises(BadFileError, match=r"^f at \d+: damaged: "):
        read(tmp_path, crafted + archive([("a.jpg", JPEG)]), "tar", options=IMAGE)


def test_an_archive_without_samples_says_what_it_has(tmp_path):
    from transforms import modality
    from transforms.elements import EndOfShard, Shard
    from transforms.steps.shards import ReadConfig, read_shard

    path = tmp_path / "f.tar"
    path.write_bytes(archive([("README", b"1"), ("a.jpg", "b.jpg"), ("a", None)]))
    config = ReadConfig(IMAGE, modality=modality.get("image"))
    found = list(read_shard(Shard("s", (whole(path, "tar"),)), config))
    assert found == [EndOfShard("s", 0, 1, {"file without an extension": 1, "link": 1})]


def test_the_size_of_a_link_is_that_of_no_bytes(tmp_path):
    data = member(b"", tarfile.LNKTYPE, 700) + archive([("a.jpg", JPEG)])
    assert [one.doc_id for one in read(tmp_path, data, "tar", options=IMAGE)] == ["a"]


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_a_sparse_file(tmp_path, format):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with open(tmp_path / "a.jpg", "r+b") as stream:
        stream.truncate(10 << 20)
    subprocess.run(
        ["tar", "--sparse", f"--format={format}", "-cf", "s.tar", "a.jpg"], cwd=tmp_path, check=True
    )
    with pytest.raises(
        BadFileError, match=r"^f at 0: it holds a sparse file; make it again without --sparse$"
    ):
        read(tmp_path, (tmp_path / "s.tar").read_bytes(), "tar", options=IMAGE)


@pytest.mark.parametrize("format", ["image", "txt"])
def test_a_file_that_cannot_be_opened_is_told_before_any_is_read(tmp_path, format, monkeypatch):
    from transforms.storage import files

    def denied(path, **options):
        raise PermissionError(13, "Permission denied", path)

    (tmp_path / "f").write_bytes(JPEG)
    monkeypatch.setattr(files, "open_read", denied)
    with pytest.raises(BadFileError, match=r"^f: cannot be read: Permission denied$"):
        check_slice(whole(tmp_path / "f", format), IMAGE)
