"""Lines, whole files, JSON Lines: exact documents, dead letters, byte ranges that never lose a line."""

import dataclasses
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Doc, cut, read, read_slice, short, whole

from transforms.errors import BadFileError
from transforms.formats.base import ReadOptions
from transforms.formats.slices import check_slice

BOM = b"\xef\xbb\xbf"


def test_lines(tmp_path):
    data = BOM + "één\r\n\n \t\na\rb\r\nlast\r".encode()
    assert short(read(tmp_path, data, "lines")) == [
        ("f:0", "één", {}),
        ("f:10", "blank text", ""),
        ("f:11", "blank text", " \t"),
        ("f:14", "a\rb", {}),
        ("f:19", "last\r", {}),
    ]


@pytest.mark.parametrize("data", [b"", BOM])
def test_no_lines(tmp_path, data):
    assert read(tmp_path, data, "lines") == []
    assert read(tmp_path, data, "jsonl") == []


def test_lines_not_utf8(tmp_path):
    assert short(read(tmp_path, b"ok\nab\xffc\nend", "lines")) == [
        ("f:0", "ok", {}),
        ("f:3", "not UTF-8: byte 0xff at 2", "ab\\xffc"),
        ("f:8", "end", {}),
    ]


def test_kept_fields_of_text_are_absent(tmp_path):
    options = ReadOptions(keep_fields=("title",))
    assert short(read(tmp_path, b"a", "lines", options=options)) == [("f:0", "a", {"title": None})]
    assert short(read(tmp_path, b"a", "txt", options=options)) == [("f", "a", {"title": None})]


def test_txt(tmp_path):
    assert short(read(tmp_path, BOM + b"a\r\nb\n", "txt")) == [("f", "a\r\nb\n", {})]
    assert short(read(tmp_path, b"", "txt")) == [("f", "blank text", "")]
    assert short(read(tmp_path, b" \n", "txt")) == [("f", "blank text", " \n")]
    assert short(read(tmp_path, b"a\xe9", "txt")) == [("f", "not UTF-8: byte 0xe9 at 1", "a\\xe9")]


def test_jsonl(tmp_path):
    rows = [
        {"text": "één\n", "title": "t", "n": 3, "x": 1.5, "ok": True, "deep": {"b": [1, None], "a": "é"}},
        {"text": "nul\0 \U0001f600", "tags": ["p", "q"]},
    ]
    data = BOM + "".join(json.dumps(row) + "\r\n" for row in rows).encode()
    second = data.index(b'{"text": "nul')
    options = ReadOptions(keep_fields=("title", "n", "x", "ok", "deep", "tags"))
    assert short(read(tmp_path, data, "jsonl", options=options)) == [
        (
            "f:0",
            "één\n",
            {"title": "t", "n": 3, "x": 1.5, "ok": True, "deep": '{"b":[1,null],"a":"é"}', "tags": None},
        ),
        (
            f"f:{second}",
            "nul\0 \U0001f600",
            {"title": None, "n": None, "x": None, "ok": None, "deep": None, "tags": '["p","q"]'},
        ),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter at column 13"),
        ('{"text": "a"} x', "not JSON: Extra data at column 15"),
        ('{"text": "a\tb"}', "not JSON: Invalid control character at at column 12"),
        ("text", "not JSON: Expecting value at column 1"),
        ('{"text": "a", "x": NaN}', "not JSON: NaN is no JSON value"),
        ('{"text": "a", "x": -Infinity}', "not JSON: -Infinity is no JSON value"),
        ('["a"]', "not a JSON object: list"),
        ("null", "not a JSON object: null"),
        ("17", "not a JSON object: int"),
        ("{}", "missing field 'text'"),
        ('{"text": 5}', "field 'text' is int, expected string"),
        ('{"text": null}', "field 'text' is null"),
        ('{"text": ["a"]}', "field 'text' is list, expected string"),
        ('{"text": ""}', "blank text"),
        ('{"text": " \\n"}', "blank text"),
        ("", "blank line"),
        (" \t", "blank line"),
        ('{"text": "abc\\ud800"}', "not Unicode: lone surrogate at 3"),
        ('{"text": "a", "x": ["\\uDC00"]}', "not Unicode: lone surrogate at 2 of field 'x'"),
        ("[" * 200_000, "not JSON: nested too deeply"),
        (
            '{"text": "a", "x": ' + "1" * 5000 + "}",
            "not JSON: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
        ),
    ],
)
def test_jsonl_dead_letters(tmp_path, line, reason):
    data = f'{{"text": "before"}}\n{line}\n{{"text": "after"}}\n'.encode()
    options = ReadOptions(keep_fields=("x",))
    assert short(read(tmp_path, data, "jsonl", options=options)) == [
        ("f:0", "before", {"x": None}),
        ("f:19", reason, line),
        (f"f:{20 + len(line)}", "after", {"x": None}),
    ]


def test_jsonl_surrogate_pairs_and_white_space_are_fine(tmp_path):
    data = b' {"text": "\\ud83d\\ude00"} \n'
    assert short(read(tmp_path, data, "jsonl")) == [("f:0", "\U0001f600", {})]


def test_jsonl_not_utf8(tmp_path):
    assert short(read(tmp_path, b'{"text": "\xff"}', "jsonl")) == [
        ("f:0", "not UTF-8: byte 0xff at 10", '{"text": "\\xff"}')
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"k"', "k"),
        ("7", "7"),
        ('" "', "field 'id' is blank, expected an id"),
        ('""', "field 'id' is blank, expected an id"),
        ("null", "field 'id' is null"),
        ("true", "field 'id' is bool, expected string or integer"),
        ("1.5", "field 'id' is float, expected string or integer"),
        ("[1]", "field 'id' is list, expected string or integer"),
        ('"\\ud800"', "not Unicode: lone surrogate at 0 of field 'id'"),
    ],
)
def test_jsonl_ids(tmp_path, value, expected):
    line = f'{{"id": {value}, "text": "a"}}'
    (found,) = short(read(tmp_path, line.encode(), "jsonl", options=ReadOptions(id_field="id")))
    assert found == ((expected, "a", {}) if expected in ("k", "7") else ("f:0", expected, line))


def test_jsonl_id_missing_and_id_of_a_dead_letter(tmp_path):
    options = ReadOptions(id_field="id", payload_fields=("body",))
    data = b'{"body": "a"}\n{"id": "k", "body": ""}'
    assert short(read(tmp_path, data, "jsonl", options=options)) == [
        ("f:0", "missing field 'id'", '{"body": "a"}'),
        ("k", "blank text", '{"id": "k", "body": ""}'),
    ]


ARRAY = "not a JSON object per line (the file looks like a JSON array; convert it with jq -c '.[]')"


@pytest.mark.parametrize("prefix", [b"", BOM])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_json_array(tmp_path, prefix, size):
    lines = ["[", '{"text": "a"},', '{"text": "b"}', "]"]
    path = tmp_path / "f.json"
    path.write_bytes(prefix + "\n".join(lines).encode())
    found = [one for piece in cut(path, "jsonl", size) for one in read_slice(piece, ReadOptions())]
    assert [(one.reason, one.payload) for one in found] == [(ARRAY, line) for line in lines]


def test_limit_counts_dead_letters(tmp_path):
    found = read(tmp_path, b"a\n\nb\nc\n", "lines", limit=3)
    assert short(found) == [("f:0", "a", {}), ("f:2", "blank text", ""), ("f:3", "b", {})]


def test_changed_and_gone(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    piece = whole(path, "lines", mtime=None)
    path.write_bytes(b"abcd")
    for use in (lambda: list(read_slice(piece, ReadOptions())), lambda: check_slice(piece, ReadOptions())):
        with pytest.raises(BadFileError, match=r"^f: changed since the plan was made: 3 bytes then, 4 now$"):
            use()
    piece = whole(path, "lines")
    os.utime(path, (1, 1))
    with pytest.raises(
        BadFileError, match=r"changed since the plan was made \(time 20.* then, 1970-01-01T00:00:01"
    ):
        list(read_slice(piece, ReadOptions()))
    path.unlink()
    with pytest.raises(BadFileError, match=r"^f: the file is gone; it was there when the plan was made$"):
        list(read_slice(piece, ReadOptions()))


def test_io_errors_name_the_file(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    path = tmp_path / "f"
    path.write_bytes(b"abc")
    monkeypatch.setattr("transforms.storage.files.open_read", refuse)
    for format in ("lines", "txt", "jsonl", "csv", "tfrecord"):
        with pytest.raises(BadFileError, match=r"^f: cannot be read: Permission denied$"):
            list(read_slice(whole(path, format), ReadOptions()))


PIECES = st.sampled_from(["\n", "\r\n", "\r", " ", "a", "é", "\U0001f600", "word " * 5, "\ufeff"])


@pytest.fixture(scope="module")
def property_path(tmp_path_factory):
    return tmp_path_factory.mktemp("ranges") / "f"


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PIECES, max_size=30), size=st.integers(1, 80))
def test_byte_ranges_of_lines(property_path, parts, size):
    data = "".join(parts).encode()
    property_path.write_bytes(data)
    expected, offset = [], 0
    for i, line in enumerate([] if data == BOM else data.split(b"\n")):
        if offset < len(data):
            last = offset + len(line) == len(data)
            text = (line if last else line.removesuffix(b"\r")).removeprefix(BOM if i == 0 else b"").decode()
            expected.append((f"f:{offset}", text))
        offset += len(line) + 1
    found = [one for piece in cut(property_path, "lines", size) for one in read_slice(piece, ReadOptions())]
    assert [(e.doc_id, e.text if isinstance(e, Doc) else e.payload) for e in found] == expected


JSON_LINES = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps({"text": text}, ensure_ascii=False)),
    st.text(max_size=5).map(lambda text: json.dumps({"text": text})),
    st.sampled_from(["", "{", "[1]", " ", '{"text": 1}']),
)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(JSON_LINES, max_size=8),
    ending=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    size=st.integers(1, 80),
)
def test_byte_ranges_of_jsonl(property_path, lines, ending, final, size):
    data = ending.join(lines) + (ending if final else "")
    property_path.write_bytes(data.encode("utf-8", "replace"))
    once = list(read_slice(whole(property_path, "jsonl"), ReadOptions()))
    found = [one for piece in cut(property_path, "jsonl", size) for one in read_slice(piece, ReadOptions())]
    assert [dataclasses.replace(one, index=i) for i, one in enumerate(found)] == once
    missing = 0 if final or (lines and lines[-1]) else 1
    assert len(once) == max(len(lines) - missing, 1 if final else 0)
