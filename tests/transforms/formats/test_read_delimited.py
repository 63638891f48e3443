"""CSV and TSV: quoting, dead letters and files without sense."""

import csv
import io

import pytest
from reading import read, short

from transforms.errors import BadFileError
from transforms.formats.base import ReadOptions


def test_what_the_csv_module_writes(tmp_path):
    texts = ['a "quoted" word', "two\nlines", "a,b", "\r\n", "é\0", "plain"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["id", "text", "title"])
    writer.writerows([f"k{i}", text, f"t{i}"] for i, text in enumerate(texts))
    options = ReadOptions(id_field="id", keep_fields=("title",))
    found = short(read(tmp_path, b"\xef\xbb\xbf" + file.getvalue().encode(), "csv", options=options))
    assert found == [
        (f"k{i}", text, {"title": f"t{i}"}) if text.strip() else (f"k{i}", "blank text", 'k3,"\r\n",t3')
        for i, text in enumerate(texts)
    ]


def test_tsv(tmp_path):
    data = b'text\tn\n"a\tb"\t1\n\nc, d\t2\n'
    assert short(read(tmp_path, data, "tsv", options=ReadOptions(keep_fields=("n",)))) == [
        ("f:0", "a\tb", {"n": "1"}),
        ("f:1", "c, d", {"n": "2"}),
    ]


def test_dead_letters(tmp_path):
    data = b'id,text\r\n1,"two\r\nlines\xff"\r\n2,b,c\r\n3\r\n4,  \r\n ,x\r\n5,fine\r\n'
    assert short(read(tmp_path, data, "csv", options=ReadOptions(id_field="id"))) == [
        ("f:0", "not UTF-8: byte 0xff at 13", '1,"two\r\nlines\\xff"'),
        ("f:1", "wrong number of columns: 3, the header has 2", "2,b,c"),
        ("f:2", "wrong number of columns: 1, the header has 2", "3"),
        ("4", "blank text", "4,  "),
        ("f:4", "field 'id' is blank, expected an id", " ,x"),
        ("5", "fine", {}),
    ]


def test_no_records(tmp_path):
    assert read(tmp_path, b"", "csv") == []
    assert read(tmp_path, b"id,text\n", "csv") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,body\n1,a\n", "f at 0: no column 'text'; the file has 'id', 'body'"),
        (b"text,a,text\n1,2,3\n", "f at 0: the header names 'text' more than once: 'text', 'a', 'text'"),
        (
            b'text\n"a',
            "f at 0: a quote in the record that begins on line 2 is never closed; close or double it",
        ),
        (
            b'text\nfine\n"a\nb\nc',
            "f at 1: a quote in the record that begins on line 3 is never closed; close or double it",
        ),
        (
            b'text\nfine\n"a\nb" c\nd\n',
            "f at 1: the record on lines 3 to 4 is no valid CSV: ',' expected after '\"'; "
            "inside quotes a quote is written twice",
        ),
    ],
)
def test_bad_files(tmp_path, data, message):
    with pytest.raises(BadFileError) as caught:
        read(tmp_path, data, "csv")
    assert str(caught.value) == message


def test_missing_id_and_kept_columns(tmp_path):
    for options in (ReadOptions(id_field="key"), ReadOptions(keep_fields=("key",))):
        with pytest.raises(BadFileError, match=r"^f at 0: no column 'key'; the file has 'text'$"):
            read(tmp_path, b"text\na\n", "csv", options=options)


def test_long_field(tmp_path):
    text = "long " * 100_000
    assert [e.text for e in read(tmp_path, f'text\n"{text}"\n'.encode(), "csv")] == [text]
