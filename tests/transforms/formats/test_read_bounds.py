"""Records without an end, other encodings, files that look like another: read past, refused, never held."""

import base64
import gzip
import json
import re
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import Doc, cut, flat, read, read_slice, short, whole
from tfrecords import example, frame, masked

from transforms.elements import EndOfShard, Shard
from transforms.errors import BadFileError
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice
from transforms.steps.shards import ReadConfig, read_shard

LIMIT = 10_000


@pytest.fixture(autouse=True)
def small_records(monkeypatch):
    """Records of 10 kB are too long here, as those of 64 MiB are otherwise."""
    for module in ("base", "lines", "txt", "delimited", "parquet", "tfrecord"):
        monkeypatch.setattr(f"transforms.formats.{module}.RECORD_BYTES", LIMIT)


def too_long(size: int) -> str:
    return f"too long: {size:,} bytes, expected at most 10,000"


@pytest.mark.parametrize("size", [1, 700, 100_000])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_long_lines(tmp_path, size, ending):
    lines = ["a", "x" * LIMIT, "b", "y" * (LIMIT + 1), "é" * 20_000, "c"]
    path = tmp_path / "f"
    path.write_text(ending.join(lines), newline="")
    found = [one for piece in cut(path, "lines", size) for one in read_slice(piece)]
    offsets = [0]
    for line in lines[:-1]:
        offsets.append(offsets[-1] + len(line.encode()) + len(ending))
    assert [one.position for one in found] == offsets
    assert [one.text for one in found if isinstance(one, Doc)] == ["a", "x" * LIMIT, "b", "c"]
    letters = [one for one in found if not isinstance(one, Doc)]
    assert [one.kind for one in letters] == ["too long"] * 2
    assert [one.payload for one in letters] == ["y" * 4096, "é" * 2048]


def test_long_json_lines(tmp_path):
    lines = ['{"text": "a"}', '{"text": "' + "x" * 50_000 + '"}', '{"text": "b"}']
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert short(read_slice(whole(path, "jsonl"))) == [
        ("f.jsonl.gz:0", "a", {}),
        ("f.jsonl.gz:14", too_long(50_013), lines[1][:4096]),
        ("f.jsonl.gz:50027", "b", {}),
    ]


def test_a_long_file(tmp_path):
    assert short(read(tmp_path, b"x" * 50_000, "txt")) == [("f", too_long(50_000), "x" * 4096)]
    assert short(read(tmp_path, b"x" * LIMIT, "txt")) == [("f", "x" * LIMIT, {})]


def test_long_csv_records(tmp_path):
    texts = ["a", "x" * 50_000, "b", 'many "lines",\n' * 5000, "c", "y" * 9000, "d"]
    data = "text,n\n" + "".join('"' + text.replace('"', '""') + '",1\r\n' for text in texts)
    found = short(read(tmp_path, data.encode(), "csv"))
    assert [one for one in found if one[0] not in ("f:1", "f:3")] == [
        (f"f:{i}", text, {}) for i, text in enumerate(texts) if i not in (1, 3)
    ]
    assert [one[1] for one in (found[1], found[3])] == [too_long(50_006), too_long(80_006)]
    assert found[1][2] == '"' + "x" * 4095
    with pytest.raises(BadFileError, match=r"^f at 1: a quote in the record that begins on line 3 is"):
        read(tmp_path, b'text\na\n"' + b"x y,\n" * 10_000, "csv")


def test_long_tfrecords(tmp_path):
    long = example(text="x" * 50_000)
    data = frame(example(text="a")) + frame(long) + frame(example(text="b"))
    first, second, third = short(read(tmp_path, data, "tfrecord"))
    assert (first, third) == (("f:0", "a", {}), ("f:2", "b", {}))
    assert second[:2] == ("f:1", too_long(len(long)))
    assert base64.b64decode(second[2]) == long[:4096]
    length = struct.pack("<Q", 50_000)
    with pytest.raises(BadFileError, match="truncated: 9012 bytes are left here, expected a record of 50016"):
        read(tmp_path, length + masked(length) + b"x" * 9000, "tfrecord")


@pytest.mark.parametrize("dictionary", [False, True])
def test_long_cells(tmp_path, dictionary):
    path = tmp_path / "f.parquet"
    table = pa.table({"text": ["a", "x" * 50_000, "b"], "n": [1, 2, 3]})
    pq.write_table(table, path, use_dictionary=dictionary)
    first, second, third = short(read_slice(whole(path, "parquet"), ReadOptions(keep_fields=("n",))))
    assert (first, third) == (("f.parquet:0", "a", {"n": 1}), ("f.parquet:2", "b", {"n": 3}))
    assert second[1].startswith("too long: 50,0")
    assert json.loads(second[2]) == {"text": "x" * 4096, "n": 2}


ENCODINGS = {"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"}
ENCODINGS |= {"utf-32": "UTF-32", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("format", ["lines", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_other_encodings_are_refused(tmp_path, encoding, format, suffix):
    text = {"lines": "ein schöner Text\nnoch einer\n", "jsonl": '{"text": "schön"}\n{"text": "b"}\n'}
    data = (
        text.get(format, "text\tn\nschön\t1\n")
        .replace("\t", "," if format == "csv" else "\t")
        .encode(encoding)
    )
    path = tmp_path / f"f{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    name = ENCODINGS[encoding]
    says = f"^f{re.escape(suffix)}: is {name}, expected UTF-8; convert it with iconv -f {name} -t UTF-8$"
    later = [] if suffix or format in ("csv", "tsv") else [whole(path, format, start=len(data) // 2)]
    for piece in (whole(path, format), *later):
        for use in (check_slice, read_slice):
            with pytest.raises(BadFileError, match=says):
                use(piece, ReadOptions())


def test_a_note_of_another_encoding_is_a_dead_letter(tmp_path):
    ((doc_id, reason, _),) = short(read(tmp_path, "ein Text".encode("utf-16"), "txt"))
    assert (doc_id, reason) == ("f", "is UTF-16: expected UTF-8; convert it with iconv -f UTF-16 -t UTF-8")


@pytest.mark.parametrize("text", ["a\0b", "nul\0s \0 in UTF-8\n" * 9, "一二三\n", "\0" * 40, "é\0"])
def test_nul_characters_alone_are_no_other_encoding(tmp_path, text):
    found = read(tmp_path, text.encode(), "lines")
    assert [one.text for one in found] == text.removesuffix("\n").split("\n")


def test_a_bad_first_line_that_is_an_array_kills_no_other(tmp_path):
    good = [f'{{"text": "t{i}"}}' for i in range(200)]
    for first, reason in (
        ('["a", 1]', "not a JSON object: list"),
        ("[1, 2", "not JSON: Expecting ',' delimiter"),
    ):
        path = tmp_path / "f.jsonl"
        path.write_text("\n".join([first, *good]))
        for size in (10**6, 300):
            bad, *rest = [one for piece in cut(path, "jsonl", size) for one in read_slice(piece)]
            assert (bad.position, bad.payload) == (0, first)
            assert bad.reason.startswith(reason)
            assert [one.text for one in rest] == [f"t{i}" for i in range(200)]


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_whole_array_on_one_line_is_told_so(tmp_path, size):
    (letter,) = read(tmp_path, json.dumps([{"text": "a"}] * (1 + size // 20)).encode()[:], "jsonl")[:1]
    if size == 1:
        assert letter.kind.endswith("(the file looks like a JSON array; convert it with jq -c '.[]')")
    else:
        assert letter.kind == "too long"


def tfrecord_shard(tmp_path, records):
    path = tmp_path / "f.tfrecord"
    path.write_bytes(b"".join(frame(record) for record in records))
    return Shard("s", (whole(path, "tfrecord"),))


def read_kept(shard, name, kind):
    """The shard's elements, with a kept field of a type."""
    options = ReadOptions(keep_fields=(name,), kept=((name, kind),))
    return flat(list(read_shard(shard, ReadConfig(options))))


def test_a_bytes_feature_has_one_type_whatever_the_record(tmp_path):
    records = [example(text="a", raw=raw) for raw in (b"\xff", b"text", b"\xc3\xa9")]
    shard = tfrecord_shard(tmp_path, records)
    *found, _ = read_kept(shard, "raw", "binary")
    assert [one.kept["raw"] for one in found] == [b"\xff", b"text", b"\xc3\xa9"]
    bad, *found, _ = read_kept(shard, "raw", "string")
    assert bad.reason == "keep field 'raw' expected string, got binary: b'\\xff'"
    assert [one.kept["raw"] for one in found] == ["text", "é"]


def test_a_feature_of_lists_is_json_in_every_record(tmp_path):
    records = [example(text="a", tags=tags) for tags in (["p", "q"], ["p"], "r")]
    shard = tfrecord_shard(tmp_path, [*records, example(text="b")])
    *found, end = read_kept(shard, "tags", "json")
    assert [one.kept["tags"] for one in found] == ['["p","q"]', '["p"]', '["r"]', None]
    assert end == EndOfShard("s", 4)
    bad, *found, _ = read_kept(shard, "tags", "string")
    assert bad.reason == "keep field 'tags' expected string, got array: [b'p', b'q']"
    assert [one.kept["tags"] for one in found] == ["p", "r", None]


@pytest.mark.parametrize("header", ["id,,text,", "id,text,x,x", ",text,,"])
def test_a_header_with_empty_or_double_names_that_nobody_asked_for(tmp_path, header):
    row = ["1" if name != "text" else "a" for name in header.split(",")]
    found = read(tmp_path, f"{header}\n{','.join(row)}\n".encode(), "csv")
    assert short(found) == [("f:0", "a", {})]
    with pytest.raises(BadFileError, match="the header names '' more than once") as caught:
        read(tmp_path, b"id,,text,\n1,,a,\n", "csv", options=ReadOptions(keep_fields=("",)))
    assert (caught.value.kind, caught.value.column) == ("column", "")
