"""Files that name documents."""

import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.forget.ids import read_ids
from transforms.errors import UsageError

WANTED = ["a", " b ", "Grüße\u2028", "7"]


def test_lines_are_ids_as_they_are(tmp_path, monkeypatch):
    data = "\ufeffa\r\n b \n\nGrüße\u2028\r\n7\na\n".encode()
    (tmp_path / "ids.txt").write_bytes(data)
    assert read_ids(str(tmp_path / "ids.txt")) == WANTED
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_ids("-") == WANTED


def test_tables(tmp_path):
    (tmp_path / "ids.jsonl").write_text(
        '{"doc_id": "a"}\n{"doc_id": " b "}\n{"doc_id": "Grüße\\u2028"}\n{"doc_id": 7, "id": 1}\n'
    )
    (tmp_path / "ids.csv").write_text('id,why\na,x\n" b ",x\n"Grüße\u2028",x\n7,x\na,x\n')
    pq.write_table(pa.table({"doc_id": WANTED, "n": [1, 2, 3, 4]}), tmp_path / "ids.parquet")
    for name in ("ids.jsonl", "ids.csv", "ids.parquet"):
        assert read_ids(str(tmp_path / name)) == WANTED


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("ids.txt", b"\n\n", "names no document; expected an id a line"),
        ("ids.txt", b"a\n\xff\n", "cannot be read: 'utf-8' codec can't decode byte 0xff"),
        ("ids.txt", None, "cannot be read: No such file or directory"),
        ("ids.csv", b"name\na\n", "expected columns doc_id or id; it has name"),
        ("ids.jsonl", b'{"id": "\\udc80"}\n', "holds an id that is no text: surrogates not allowed"),
    ],
)
def test_mistakes_are_told(name, data, said, tmp_path):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=f"ids .*{name}: {said}"):
        read_ids(str(tmp_path / name))
