"""TFRecord: frames, checksums, and features, on bytes as TensorFlow itself writes them."""

import base64
import gzip
import math
import struct

import pytest
from reading import read, short
from tfrecords import example, frame, masked

from transforms.errors import BadFileError
from transforms.formats.base import ReadOptions


def test_what_tensorflow_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def feature(**lists):
        (kind, values), *_ = lists.items()
        if kind == "bytes_list":
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if kind == "int64_list":
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    for compression, name in (("", "f.tfrecord"), ("GZIP", "f.tfrecord.gz")):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for i in range(3):
                features = {
                    "text": feature(bytes_list=[f"text {i} é".encode()]),
                    "id": feature(int64_list=[i - 1]),
                    "title": feature(bytes_list=[b"t"]),
                    "raw": feature(bytes_list=[b"\xff"]),
                    "tags": feature(bytes_list=["é".encode(), b"\xff"]),
                    "x": feature(float_list=[0.5]),
                    "xs": feature(float_list=[0.5, math.inf]),
                    "none": feature(bytes_list=[]),
                }
                message = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(message.SerializeToString())
        kinds = {"title": "string", "raw": "binary", "tags": "json", "x": "double", "xs": "json"}
        kinds |= {"none": "string", "absent": "string"}
        options = ReadOptions(id_field="id", keep_fields=tuple(kinds), kept=tuple(kinds.items()))
        kept = {
            "title": "t",
            "raw": b"\xff",
            "tags": '["é","\\\\xff"]',
            "x": 0.5,
            "xs": '[0.5,"Infinity"]',
            "none": None,
            "absent": None,
        }
        found = read(tmp_path, path.read_bytes(), "tfrecord", name=name, options=options)
        assert short(found) == [(str(i - 1), f"text {i} é", kept) for i in range(3)]
        assert [e.position for e in found] == [0, 1, 2]


def test_dead_letters(tmp_path):
    records = [
        (example(text="fine"), None),
        (b"\xff" * 30, "not a tf.train.Example: record 1 at byte 36"),
        (example(body="x"), "missing field 'text'"),
        (example(text=5), "field 'text' is int, expected string"),
        (example(text=["a", "b"]), "field 'text' is list, expected string"),
        (example(text=b"a\xff"), "not UTF-8: byte 0xff at 1"),
        (example(text=" "), "blank text"),
        (example(text="last"), None),
    ]
    found = short(read(tmp_path, b"".join(frame(data) for data, _ in records), "tfrecord"))
    assert found[0] == ("f:0", "fine", {})
    assert found[-1] == ("f:7", "last", {})
    assert [one[1] for one in found[1:-1]] == [reason for _, reason in records[1:-1]]
    assert [base64.b64decode(one[2]) for one in found[1:-1]] == [data for data, _ in records[1:-1]]


def test_wrong_checksum_of_data(tmp_path):
    first, second = frame(example(text="a" * 2000)), frame(example(text="b"))
    broken = bytearray(first)
    broken[1000] ^= 0xFF
    dead, sound = short(read(tmp_path, bytes(broken) + second, "tfrecord"))
    assert dead[:2] == ("f:0", "wrong checksum: record 0 at byte 0")
    assert base64.b64decode(dead[2]) == bytes(broken)[12:-4]
    assert sound == ("f:1", "b", {})


def test_truncated_at_every_byte(tmp_path):
    first, second = frame(example(text="a")), frame(example(text="b"))
    assert [e.text for e in read(tmp_path, first, "tfrecord")] == ["a"]
    for end in range(1, len(second)):
        with pytest.raises(
            BadFileError, match=f"^f at {len(first)}: truncated: {end} bytes are left here, expected"
        ):
            read(tmp_path, first + second[:end], "tfrecord")
    data = gzip.compress(first + second)
    for end in range(len(data)):
        with pytest.raises(BadFileError, match=r"^f\.gz at \d+: truncated gzip"):
            read(tmp_path, data[:end], "tfrecord", name="f.gz")


def test_not_tfrecord(tmp_path):
    with pytest.raises(
        BadFileError, match=r"^f at 0: wrong checksum of a record's length: damaged, or not a TFR"
    ):
        read(tmp_path, b"plain text that is not a TFRecord", "tfrecord")
    with pytest.raises(BadFileError, match=r"^f at 0: this is a gzip file, .* ends in \.gz$"):
        read(tmp_path, gzip.compress(frame(example(text="a"))), "tfrecord")
    length = struct.pack("<Q", 1 << 60)
    with pytest.raises(BadFileError, match=r"^f at 0: a record of 1152921504606846976 bytes"):
        read(tmp_path, length + masked(length) + b"data", "tfrecord")


def test_empty(tmp_path):
    assert read(tmp_path, b"", "tfrecord") == []
