"""Payloads that are no texts: bytes, lists of token ids, rows of columns, from formats that have fields."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import Doc, read, short, whole
from tfrecords import example, frame

from transforms.elements import RECORD_BYTES
from transforms.errors import BadFileError
from transforms.formats import slices
from transforms.formats.base import ReadOptions
from transforms.texts import plain_values

JPEG, PNG = b"\xff\xd8\xff\xe0 an image", b"\x89PNG\r\n"
IMAGE = ReadOptions(("image",), "bytes", id_field="id", keep_fields=("id",))


def parquet(tmp_path, columns, options, **write):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(columns), path, **write)
    return read(tmp_path, path.read_bytes(), "parquet", name="f.parquet", options=options)


@pytest.mark.parametrize(
    "type", [pa.binary(), pa.large_binary(), pa.binary(4), pa.dictionary(pa.int32(), pa.binary())]
)
def test_binary_columns(tmp_path, type):
    values = [b"\xff\xd8\xff\xe0", b"\x89PNG", None]
    columns = {
        "id": ["a", "b", "c"],
        "image": pa.array(values, pa.binary()).cast(type) if type != pa.binary(4) else pa.array(values, type),
    }
    found = parquet(tmp_path, columns, IMAGE)
    assert short(found)[:2] == [("a", values[0], {"id": "a"}), ("b", values[1], {"id": "b"})]
    assert (found[2].doc_id, found[2].reason) == ("c", "field 'image' is null")


def test_images_of_hugging_face(tmp_path):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [
        {"bytes": JPEG, "path": "a.jpg"},
        {"bytes": None, "path": "/data/b.jpg"},
        {"bytes": None, "path": None},
        None,
        {"bytes": PNG, "path": None},
    ]
    columns = {"id": list("abcde"), "image": pa.array(values, image)}
    for write in ({}, {"row_group_size": 2}):
        found = parquet(tmp_path, columns, IMAGE, **write)
        assert [(one.doc_id, one.text) for one in found if isinstance(one, Doc)] == [("a", JPEG), ("e", PNG)]
        assert [(one.position, one.reason) for one in found if not isinstance(one, Doc)] == [
            (1, "field 'image' has no bytes: it only refers to '/data/b.jpg'"),
            (2, "field 'image' has no bytes"),
            (3, "field 'image' is null"),
        ]
        letter = json.loads(found[1].payload)
        assert letter["id"] == "b"
        assert letter["image"].endswith(" bytes")


def test_an_image_that_is_too_long(tmp_path):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": bytes(RECORD_BYTES + 1), "path": ""}, {"bytes": PNG, "path": ""}]
    found = parquet(tmp_path, {"id": ["a", "b"], "image": pa.array(values, image)}, IMAGE)
    assert found[0].kind == "too long"
    assert len(found[0].payload) < 100
    assert found[1].text == PNG


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (["a"], "bytes", "is string, expected binary, or a struct with a field `bytes`"),
        ([{"path": "a"}], "bytes", "expected binary, or a struct with a field `bytes`"),
        ([{"bytes": "a"}], "bytes", "expected binary, or a struct with a field `bytes`"),
        ([b"a"], "text", "is binary, expected string"),
        ([[1]], "text", "expected string"),
        ([{"a": 1}], "any", "expected numbers, strings, or lists of them"),
        ([[[1]]], "any", "expected numbers, strings, or lists of them"),
        ([None], "any", "is null, expected numbers, strings, or lists of them"),
    ],
)
def test_columns_of_another_type(tmp_path, column, kind, expected):
    with pytest.raises(BadFileError) as e:
        parquet(tmp_path, {"x": column}, ReadOptions(("x",), kind))
    assert e.value.kind == "column"
    assert e.value.reason.startswith("column 'x' is ")
    assert e.value.reason.endswith(expected)


IDS = [[101, 7, 102], [], None, [5], [2**31 - 1] * 4]


@pytest.mark.parametrize("of", [pa.int32(), pa.int64(), pa.uint32()])
@pytest.mark.parametrize("list_", [pa.list_, pa.large_list])
def test_token_ids_of_parquet(tmp_path, of, list_):
    options = ReadOptions(("ids",), "any")
    found = parquet(tmp_path, {"ids": pa.array(IDS, list_(of))}, options)
    assert [one.text if isinstance(one, Doc) else one.reason for one in found] == [
        [101, 7, 102],
        [],
        "field 'ids' is null",
        [5],
        [2**31 - 1] * 4,
    ]
    fixed = pa.array([[1, 2], [3, 4]], pa.list_(of, 2))
    assert [one.text for one in parquet(tmp_path, {"ids": fixed}, options)] == [[1, 2], [3, 4]]


def test_token_ids_of_json_and_tfrecord(tmp_path):
    options = ReadOptions(("ids",), "any")
    lines = "".join(json.dumps({"ids": ids}) + "\n" for ids in IDS)
    found = read(tmp_path, lines.encode(), "jsonl", options=options)
    assert [one.text if isinstance(one, Doc) else one.reason for one in found] == [
        [101, 7, 102],
        [],
        "field 'ids' is null",
        [5],
        [2**31 - 1] * 4,
    ]
    # An Example does not tell a list of one from a value.
    for ids, expected in (([101, 7, 102], [101, 7, 102]), ([5], 5)):
        (found,) = read(tmp_path, frame(example(ids=ids)), "tfrecord", options=options)
        assert found.text == expected


def test_bytes_of_tfrecord(tmp_path):
    data = b"".join(frame(example(id=name, image=image)) for name, image in (("a", JPEG), ("b", b"text")))
    found = read(tmp_path, data, "tfrecord", options=IMAGE)
    assert [(one.doc_id, one.text) for one in found] == [("a", JPEG), ("b", b"text")]


def test_long_lists_make_small_blocks(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"ids": pa.array([[7] * 100_000] * 20, pa.list_(pa.int32()))}), path)
    blocks = list(slices.read_slice(whole(path, "parquet"), ReadOptions(("ids",), "any")))
    assert [len(block.positions) for block in blocks] == [2] * 10
    assert [block.size for block in blocks] == [800_000] * 10


ROWS = [{"age": 31, "fare": 7.5, "town": "Kiel"}, {"age": 4, "fare": 0.25, "town": "één"}]
NAMES = ("town", "age", "fare")


def test_rows_of_several_columns(tmp_path):
    options = ReadOptions(NAMES, "any")
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), stream)
    strings = [{name: str(value) for name, value in row.items()} for row in ROWS]
    text = "age,fare,town\n" + "".join(f"{row['age']},{row['fare']},{row['town']}\n" for row in ROWS)
    for format, data, expected in (
        ("parquet", stream.getvalue().to_pybytes(), ROWS),
        ("jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode(), ROWS),
        ("tfrecord", b"".join(frame(example(**row)) for row in ROWS), ROWS),
        ("csv", text.encode(), strings),
        ("tsv", text.replace(",", "\t").encode(), strings),
    ):
        path = tmp_path / format
        path.write_bytes(data)
        (block,) = slices.read_slice(whole(path, format), options)
        assert list(block.columns) == list(NAMES)
        columns = [plain_values(block.columns[name]) for name in NAMES]
        assert [dict(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)] == [
            {name: row[name] for name in NAMES} for row in expected
        ]
