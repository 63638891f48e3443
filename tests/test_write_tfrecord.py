import datetime
import gzip
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import Row, expected
from rows import write as write_rows

from transforms.output.column_types import check_kept
from transforms.output.schema import RowSchema
from transforms.output.sinks.tfrecord import TFRecordSink, feature_spec, to_tf, varint

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")

FULL = RowSchema(
    3,
    chunks=True,
    keep_text=True,
    kept=(
        *(("title", "string"), ("year", "int64"), ("score", "double"), ("fresh", "bool"), ("tags", "json")),
        *(("raw", "binary"), ("at", "timestamp[us]"), ("big", "uint64"), ("price", "decimal128(10, 2)")),
        *(("single", "float"), ("day", "date32[day]"), ("took", "duration[us]")),
    ),
)
INTS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 20_000))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": TEXTS,
    "year": INTS,
    "score": st.floats(),
    "fresh": st.booleans(),
    "tags": st.lists(TEXTS).map(lambda tags: json.dumps(tags, ensure_ascii=False)),
    "raw": st.binary(),
    "at": st.datetimes(),
    "big": st.integers(0, 2**64 - 1),
    "price": st.decimals(-(10**7), 10**7, places=2),
    "single": st.floats(width=32),
    "day": st.dates(),
    "took": st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000)),
}


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    rows = []
    counted = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        kept = {
            name: check_kept(name, kind, draw(st.none() | VALUES[name]))
            for name, kind in FULL.kept
            if draw(st.booleans())
        }
        vector = draw(st.lists(st.floats(width=32), min_size=3, max_size=3))
        tokens = draw(st.integers(0, 2**31 - 1)) if counted else None
        doc_id, source, text, position = draw(TEXTS), draw(TEXTS), draw(TEXTS), draw(INTS)
        chunk = draw(st.integers(0, 9))
        rows.append(Row(doc_id, vector, source, position, tokens, tokens, text, chunk, 0, len(text), kept))
    return rows


def write(rows: list[Row], schema: RowSchema, *, gzip: bool = False, at_once: int = 10_000) -> bytes:
    file = io.BytesIO()
    write_rows(TFRecordSink(file, schema, {"model": "m"}, gzip=gzip), rows, schema, at_once=at_once)
    assert not file.closed
    return file.getvalue()


def payloads(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        found.append(data[at + 12 : at + 12 + size])
        at += size + 16
    return found


def feature(value: Any) -> Any:
    if isinstance(value, bool | int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    plain = value if isinstance(value, bytes) else value.encode()
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[plain]))


def as_text(value: Any) -> str:
    return str(value) if isinstance(value, int | Decimal | datetime.timedelta) else value.isoformat()


def examples(rows: list[Row], schema: RowSchema) -> list[Any]:
    """The rows as tf.train.Example objects, built field by field."""
    kinds, built = dict(schema.kept), []
    for values in expected(rows, schema):
        vector = values.pop("embedding")
        features = {"embedding": tf.train.Feature(float_list=tf.train.FloatList(value=vector))}
        for name, value in values.items():
            if value is None:
                continue
            if kinds.get(name, "").startswith(("timestamp", "date", "duration", "decimal", "uint64")):
                value = as_text(value)
            features[name] = feature(value)
        built.append(tf.train.Example(features=tf.train.Features(feature=features)))
    return built


def make_rows(count: int, dim: int = 3) -> list[Row]:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    kept = {"title": "ü", "year": -7, "score": 0.5, "fresh": True, "at": datetime.datetime(2024, 1, 2, 3, 4)}
    return [
        Row(
            f"文/{i}",
            vectors[i].tolist(),
            "f.txt",
            i * 2**30,
            tokens=i,
            dropped=None,
            text="text",
            chunk=i,
            end=4,
            kept=kept if i % 2 else {},
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 2**32, 2**63 - 1, -1, -(2**63)])
def test_varint(number: int) -> None:
    assert b"\x0a" + varint(len(varint(number))) + varint(number) == (
        tf.train.Int64List(value=[number]).SerializeToString()
    )


@settings(max_examples=150, deadline=None)
@given(row_lists())
def test_records_are_the_examples(rows: list[Row]) -> None:
    records = [tf.train.Example.FromString(record) for record in payloads(write(rows, FULL))]
    assert [str(record) for record in records] == [str(example) for example in examples(rows, FULL)]


def test_framing_is_tensorflow_s(tmp_path: Path) -> None:
    data = write(make_rows(5), FULL)
    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for record in payloads(data):
            writer.write(record)
    assert (tmp_path / "x").read_bytes() == data


@pytest.mark.parametrize("compress", [False, True])
def test_tf_data_reads_the_rows(compress: bool, tmp_path: Path) -> None:
    rows = make_rows(5)
    (tmp_path / "x").write_bytes(write(rows, FULL, gzip=compress))
    spec = json.loads(json.dumps(feature_spec(FULL), allow_nan=False))
    dataset = tf.data.TFRecordDataset(str(tmp_path / "x"), compression_type="GZIP" if compress else "")
    (batch,) = dataset.batch(10).map(lambda records: tf.io.parse_example(records, to_tf(spec)))
    got = {name: tensor.numpy() for name, tensor in batch.items()}
    assert [doc_id.decode() for doc_id in got["doc_id"]] == [row.doc_id for row in rows]
    np.testing.assert_array_equal(got["embedding"], [row.vector for row in rows])
    assert got["tokens"].tolist() == [0, 1, 2, 3, 4]
    assert got["tokens_dropped"].tolist() == [-1] * 5
    assert got["fingerprint"].tolist() == [row.fingerprint for row in rows]
    assert set(got["source"]) == {b"f.txt"}
    assert got["position"].tolist() == [i * 2**30 for i in range(5)]
    assert got["chunk"].tolist() == [0, 1, 2, 3, 4]
    assert got["end"].tolist() == [4] * 5
    assert got["text"].tolist() == [b"text"] * 5
    assert got["title"].tolist() == [b"", "ü".encode(), b"", "ü".encode(), b""]
    assert got["year"].tolist() == [-(2**63), -7, -(2**63), -7, -(2**63)]
    assert got["fresh"].tolist() == [-1, 1, -1, 1, -1]
    np.testing.assert_array_equal(got["score"], np.float32([np.nan, 0.5, np.nan, 0.5, np.nan]))
    assert got["at"].tolist() == [b"", b"2024-01-02T03:04:00", b"", b"2024-01-02T03:04:00", b""]
    assert set(got["raw"]) == {b""}


def test_float16_is_read_by_decode_raw() -> None:
    schema = RowSchema(3, "float16")
    rows = make_rows(4)
    spec = feature_spec(schema)
    decode = spec["embedding"]["decode_raw"]
    parsed = tf.io.parse_example(payloads(write(rows, schema)), to_tf(spec))
    vectors = tf.io.decode_raw(parsed["embedding"], tf.dtypes.as_dtype(decode["dtype"]), little_endian=True)
    assert vectors.shape == [4, *decode["shape"]]
    np.testing.assert_array_equal(vectors.numpy(), np.float16([row.vector for row in rows]))


def test_feature_spec_is_plain() -> None:
    assert feature_spec(RowSchema(3, kept=(("year", "int64"), ("ok", "bool")))) == {
        "doc_id": {"dtype": "string", "shape": []},
        "embedding": {"dtype": "float32", "shape": [3]},
        "tokens": {"dtype": "int64", "shape": [], "default": -1},
        "tokens_dropped": {"dtype": "int64", "shape": [], "default": -1},
        "source": {"dtype": "string", "shape": []},
        "position": {"dtype": "int64", "shape": []},
        "fingerprint": {"dtype": "string", "shape": []},
        "year": {"dtype": "int64", "shape": [], "default": -(2**63)},
        "ok": {"dtype": "int64", "shape": [], "default": -1},
    }


@pytest.mark.parametrize("compress", [False, True])
def test_bytes_are_a_function_of_the_rows(compress: bool) -> None:
    rows = make_rows(3000)
    files = [write(rows, FULL, gzip=compress) for _ in range(2)]
    assert files[0] == files[1]
    spread = write(rows, FULL, gzip=compress, at_once=77)
    plain = gzip.decompress if compress else bytes
    assert plain(spread) == plain(files[0])


def test_gzip_records_neither_name_nor_time() -> None:
    data = write(make_rows(2), FULL, gzip=True)
    assert data[3] == 0
    assert data[4:8] == b"\0\0\0\0"
    assert gzip.decompress(data) == write(make_rows(2), FULL)


def test_no_rows_no_records() -> None:
    assert write([], FULL) == b""
    assert gzip.decompress(write([], FULL, gzip=True)) == b""


def test_needs_no_tensorflow() -> None:
    code = (
        "import sys, io\n"
        "from rows import Row, write\n"
        "from transforms.output.schema import RowSchema\n"
        "from transforms.output.sinks.tfrecord import TFRecordSink, feature_spec\n"
        "schema = RowSchema(1, kept=(('year', 'int64'),)); feature_spec(schema)\n"
        "write(TFRecordSink(io.BytesIO(), schema, {}), [Row('a', [0.0])], schema)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})
