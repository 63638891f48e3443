"""Parquet: row groups, types, and damaged files."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import Doc, read, read_slice, short, whole

from transforms.errors import BadFileError
from transforms.formats import parquet, slices
from transforms.formats.base import ReadOptions
from transforms.formats.parquet import row_groups
from transforms.formats.slices import check_slice


def write(tmp_path, columns, **options):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_row_group_ranges(tmp_path):
    path = write(tmp_path, {"n": range(2500), "text": [f"t{i}" for i in range(2500)]}, row_group_size=1000)
    groups = row_groups(str(path))
    assert [rows for rows, _ in groups] == [1000, 1000, 500]
    assert all(size > 0 for _, size in groups)
    options = ReadOptions(keep_fields=("n",))
    expected = [(f"f.parquet:{i}", f"t{i}", {"n": i}) for i in range(2500)]
    assert short(list(read_slice(whole(path, "parquet"), options))) == expected
    for start, end, rows in [
        (0, 1, (0, 1000)),
        (1, 3, (1000, 2500)),
        (2, None, (2000, 2500)),
        (1, 1, (0, 0)),
    ]:
        piece = whole(path, "parquet", start=start, end=end)
        check_slice(piece, options)
        assert short(list(read_slice(piece, options))) == expected[slice(*rows)]
    assert short(list(read_slice(whole(path, "parquet", limit=3, start=1), options))) == expected[1000:1003]
    with pytest.raises(BadFileError, match="row groups up to 9 then, 3 now"):
        check_slice(whole(path, "parquet", start=1, end=9), options)


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_types_and_dead_letters(tmp_path, type):
    texts = pa.array(["é", None, " ", "é"]).cast(type)
    path = write(tmp_path, {"text": texts, "id": pa.array([7, 8, 9, None], pa.int64())})
    assert short(list(read_slice(whole(path, "parquet"), ReadOptions(id_field="id")))) == [
        ("7", "é", {}),
        ("8", "field 'text' is null", '{"text":null,"id":8}'),
        ("9", "blank text", '{"text":" ","id":9}'),
        ("f.parquet:3", "field 'id' is null", '{"text":"é","id":null}'),
    ]


def test_kept_values(tmp_path):
    time = datetime.datetime(2020, 1, 2, 3, 4, 5)
    columns = {
        "text": ["a"],
        "list": [[1, None]],
        "struct": [{"b": "é", "t": time}],
        "time": pa.array([time], pa.timestamp("us")),
        "money": [decimal.Decimal("1.50")],
        "raw": [b"\xff"],
        "x": [float("inf")],
        "nan": [[float("nan")]],
        "word": pa.array(["w"]).dictionary_encode(),
    }
    path = write(tmp_path, columns)
    names = tuple(columns)[1:]
    (found,) = read_slice(whole(path, "parquet"), ReadOptions(keep_fields=names))
    assert found.kept == {
        "list": "[1,null]",
        "struct": '{"b":"é","t":"2020-01-02T03:04:05"}',
        "time": time,
        "money": decimal.Decimal("1.50"),
        "raw": b"\xff",
        "x": float("inf"),
        "nan": '["NaN"]',
        "word": "w",
    }
    (raw,) = slices.read_slice(whole(path, "parquet"), ReadOptions(keep_fields=names))
    assert raw.types == {
        "text": "string",
        "list": "json",
        "struct": "json",
        "time": "timestamp[us]",
        "money": "decimal128(3, 2)",
        "raw": "binary",
        "x": "double",
        "nan": "json",
        "word": "string",
    }


def test_not_utf8(tmp_path):
    bad = pa.array([b"ok", b"a\xff", b"ok"]).view(pa.string())
    path = write(tmp_path, {"text": bad, "title": pa.array([b"t", b"t", b"\xfe"]).view(pa.string())})
    assert short(list(read_slice(whole(path, "parquet"), ReadOptions(keep_fields=("title",))))) == [
        ("f.parquet:0", "ok", {"title": "t"}),
        ("f.parquet:1", "not UTF-8: byte 0xff at 1", '{"text":"a\\\\xff","title":"t"}'),
        ("f.parquet:2", "not UTF-8: byte 0xfe at 0 of field 'title'", '{"text":"ok","title":"\\\\xfe"}'),
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (ReadOptions(("body",)), "no column 'body'; the file has 'text' (string), 'n' (double)"),
        (ReadOptions(keep_fields=("k",)), "no column 'k'; the file has 'text' (string), 'n' (double)"),
        (ReadOptions("n"), "column 'n' is double, expected string"),
        (ReadOptions(id_field="n"), "column 'n' is double, expected string or integer"),
    ],
)
def test_wrong_columns(tmp_path, options, reason):
    path = write(tmp_path, {"text": ["a"], "n": [1.5]})
    for use in (check_slice, lambda *args: list(read_slice(*args))):
        with pytest.raises(BadFileError) as caught:
            use(whole(path, "parquet"), options)
        assert str(caught.value) == f"f.parquet: {reason}"


def test_truncated_at_every_byte(tmp_path):
    data = write(tmp_path, {"text": ["a", "b"]}).read_bytes()
    for end in range(len(data)):
        with pytest.raises(BadFileError, match=r"^f: cannot be read as Parquet: .*; fetch the file again$"):
            read(tmp_path, data[:end], "parquet")


def test_damaged_page(tmp_path):
    columns = {"text": [f"text {i}" for i in range(2000)]}
    path = write(tmp_path, columns, row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset + 300] ^= 0xFF
    with pytest.raises(BadFileError, match=r"^f at 1000: row group 1 is damaged: .*; fetch the file again$"):
        read(tmp_path, bytes(data), "parquet")
    assert len(read(tmp_path, bytes(data), "parquet", end=1)) == 1000


def test_no_rows(tmp_path):
    path = write(tmp_path, {"text": pa.array([], pa.string())})
    assert list(read_slice(whole(path, "parquet"), ReadOptions())) == []


def test_only_needed_columns_are_read(tmp_path, monkeypatch):
    seen = []
    original = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **options: seen.append(options["columns"]) or original(self, *args, **options),
    )
    path = write(tmp_path, {"text": ["a"], "big": ["b"], "id": ["k"]})
    assert list(read_slice(whole(path, "parquet"), ReadOptions(id_field="id"))) == [
        Doc("k", "a", "f.parquet", 0)
    ]
    assert seen == [["text", "id"]]


@pytest.mark.parametrize("dictionary", [False, True])
def test_batches_are_bounded_in_bytes(tmp_path, dictionary):
    """A value that a dictionary holds once takes its place in every row of a batch."""
    texts = ["t" * 500_000] * 200
    path = write(tmp_path, {"text": texts}, use_dictionary=dictionary, write_batch_size=8)
    sizes = [batch.nbytes for _, batch, _ in parquet._batches(whole(path, "parquet"), ReadOptions())]
    assert sum(sizes) > 100_000_000
    assert max(sizes) < 40_000_000
