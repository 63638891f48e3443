"""Rows to a TFRecord file of tf.train.Example records, without TensorFlow.

Every record has the same few features, so its protobuf bytes are put together from parts that are mostly
constant; building `tf.train.Example` objects takes many times as long. The format is in
https://www.tensorflow.org/tutorials/load_data/tfrecord (framing),
https://protobuf.dev/programming-guides/encoding (wire bytes) and
tensorflow/core/example/feature.proto (message).
"""

from __future__ import annotations

import functools
import gzip as gzip_module
import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from transforms.elements import Embedding
from transforms.output.schema import BYTES_TYPES, FLOAT_TYPES, TEXT_TYPES, RowSchema, columns, stack_vectors

_AT_ONCE = 1024  # rows encoded before they are written; bounds the memory that a large write takes
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"  # fields 1, 2, 3 of Feature
_LENGTH_DELIMITED_1 = b"\x0a"  # field 1, length-delimited, of whatever message is open

_INT_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool")
_NULL_INT = -(2**63)  # what parse_example gives for a kept integer that is null


def varint(number: int) -> bytes:
    """A protobuf varint; negative numbers as their 64-bit two's complement.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = tuple(varint(number) for number in range(4096))


def _sized(message: bytes) -> bytes:
    return varint(len(message)) + message


def _entry_head(name: str, kind: bytes, size: int) -> bytes:
    """What comes before the `size` bytes of content in a features map entry, `{name: Feature}`."""
    inner = _LENGTH_DELIMITED_1 + varint(size)  # BytesList.value, or the packed numbers
    list_head = kind + varint(len(inner) + size) + inner
    entry = _LENGTH_DELIMITED_1 + _sized(name.encode()) + b"\x12" + varint(len(list_head) + size) + list_head
    return _LENGTH_DELIMITED_1 + varint(len(entry) + size) + entry


def _bytes_encoder(name: str, to_bytes: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    head = functools.lru_cache(maxsize=4096)(functools.partial(_entry_head, name, _BYTES_LIST))

    def encode(value: Any) -> bytes:
        if value is None:
            return b""
        content = to_bytes(value)
        return head(len(content)) + content

    return encode


def _int_encoder(name: str) -> Callable[[Any], bytes]:
    heads = [_entry_head(name, _INT64_LIST, size) for size in range(11)]

    def encode(value: int | None) -> bytes:
        if value is None:
            return b""
        content = _VARINTS[value] if 0 <= value < len(_VARINTS) else varint(value)
        return heads[len(content)] + content

    return encode


def _float_encoder(name: str) -> Callable[[Any], bytes]:
    head = _entry_head(name, _FLOAT_LIST, 4)

    def encode(value: float | None) -> bytes:
        if value is None:
            return b""
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as in a tf.train.Example
            return head + np.asarray(value, "<f4").tobytes()

    return encode


def _text(value: Any) -> bytes:
    """Dates and times as isoformat, all else (decimals, durations) as str()."""
    return (value.isoformat() if hasattr(value, "isoformat") else str(value)).encode()


def _encoders(schema: RowSchema) -> dict[str, Callable[[Any], bytes]]:
    """By column, without the vector: what turns a value into its bytes in a record, none for None."""
    fixed = {"doc_id": "string", "tokens": "int64", "tokens_dropped": "int64"}
    fixed |= {"source": "string", "position": "int64"}
    fixed |= dict.fromkeys(("chunk", "start", "end"), "int64") if schema.chunks else {}
    fixed |= {"text": "string"} if schema.keep_text else {}
    encoders: dict[str, Callable[[Any], bytes]] = {}
    for name, kind in itertools.chain(fixed.items(), schema.kept):
        if kind in _INT_TYPES:
            encoders[name] = _int_encoder(name)
        elif kind in FLOAT_TYPES:
            encoders[name] = _float_encoder(name)
        elif kind in BYTES_TYPES or kind.startswith("fixed_size_binary"):
            encoders[name] = _bytes_encoder(name, bytes)
        else:
            encoders[name] = _bytes_encoder(name, str.encode if kind in TEXT_TYPES else _text)
    return encoders


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


@functools.lru_cache(maxsize=4096)
def _frame_head(size: int) -> tuple[bytes, int]:
    """What precedes `size` bytes of features in a file, and the checksum of its part inside the record."""
    record_head = _LENGTH_DELIMITED_1 + varint(size)
    length = struct.pack("<Q", len(record_head) + size)
    frame = length + struct.pack("<I", _masked(google_crc32c.value(length)))
    return frame + record_head, google_crc32c.value(record_head)


class TFRecordSink:
    """Writes rows to one TFRecord file, whose bytes are a pure function of the rows.

    A null is a feature that is not there. Vectors are a float_list; in float16, one bytes value of
    little-endian numbers, for `tf.io.decode_raw`. Bools become int64; dates, times, decimals and uint64
    strings; a kept double loses what float32 cannot hold, since an Example has no wider float. `feature_spec`
    says how to read the file.
    """

    def __init__(
        self, file: BinaryIO, schema: RowSchema, metadata: Mapping[str, str], *, gzip: bool = False
    ) -> None:
        """Starts the file.

        Args:
          file: where the bytes go; stays open when the sink is closed.
          schema: the columns.
          metadata: not written, for the format has no place for it.
          gzip: compress, without name and time, so that the same rows give the same bytes.
        """
        del metadata
        self._schema = schema
        self._gzip = gzip_module.GzipFile("", "wb", 6, file, mtime=0) if gzip else None
        self._file: Any = self._gzip or file
        self._encoders = _encoders(schema)
        single = schema.vector_dtype == "float32"
        self._dtype = np.dtype("<f4" if single else "<f2")
        kind = _FLOAT_LIST if single else _BYTES_LIST
        self._vector_bytes = schema.dim * self._dtype.itemsize
        self._vector_head = _entry_head("embedding", kind, self._vector_bytes)

    def write(self, rows: Sequence[Embedding]) -> None:
        """Appends rows.

        Raises:
          ValueError: naming the document, for a vector or a text that the file cannot hold.
        """
        for begin in range(0, len(rows), _AT_ONCE):
            self._file.write(b"".join(self._records(rows[begin : begin + _AT_ONCE])))

    def close(self) -> None:
        """Ends the compressed stream, if there is one; the file stays open."""
        if self._gzip:
            self._gzip.close()

    def _records(self, rows: Sequence[Embedding]) -> list[bytes]:
        vectors = np.empty((len(rows), self._schema.dim), self._dtype)
        stack_vectors(self._schema, rows, out=vectors)
        packed = vectors.tobytes()
        size = self._vector_bytes
        parts = [self._encode(name, column, rows) for name, column in columns(self._schema, rows).items()]
        doc_ids, *others = parts
        slices = (packed[start : start + size] for start in range(0, len(packed), size))
        records: list[bytes] = []
        extend, pack = google_crc32c.extend, struct.Struct("<I").pack
        for doc_id, vector, *more in zip(doc_ids, slices, *others, strict=True):
            features = b"".join((doc_id, self._vector_head, vector, *more))
            head, crc = _frame_head(len(features))
            records += (head, features, pack(_masked(extend(crc, features))))
        return records

    def _encode(self, name: str, column: list[Any], rows: Sequence[Embedding]) -> list[bytes]:
        encode = self._encoders[name]
        try:
            return [encode(value) for value in column]
        except UnicodeEncodeError as e:
            wrong = column.index(e.object)
            raise ValueError(f"column {name!r}, document {rows[wrong].doc_id!r}: {e}") from e


def feature_spec(schema: RowSchema) -> dict[str, dict[str, Any]]:
    """How to read the records, in plain JSON: a feature's dtype, shape, and default, which stands for a null.

    A kept integer that is null reads as -2**63, a bool as -1, a float as nan, a string as "". With float16
    vectors, `embedding` is a string, and its `decode_raw` says what dtype and shape `tf.io.decode_raw` is to
    make of it.

    >>> feature_spec(RowSchema(dim=3))["embedding"]
    {'dtype': 'float32', 'shape': [3]}
    """
    string, int64 = {"dtype": "string", "shape": []}, {"dtype": "int64", "shape": []}
    spec: dict[str, dict[str, Any]] = {"doc_id": dict(string)}
    if schema.vector_dtype == "float32":
        spec["embedding"] = {"dtype": "float32", "shape": [schema.dim]}
    else:
        spec["embedding"] = string | {"decode_raw": {"dtype": "float16", "shape": [schema.dim]}}
    spec |= {name: int64 | {"default": -1} for name in ("tokens", "tokens_dropped")}
    spec |= {"source": dict(string), "position": dict(int64)}
    if schema.chunks:
        spec |= {name: dict(int64) for name in ("chunk", "start", "end")}
    if schema.keep_text:
        spec["text"] = dict(string)
    for name, kind in schema.kept:
        if kind in _INT_TYPES:
            spec[name] = int64 | {"default": -1 if kind == "bool" else _NULL_INT}
        elif kind in FLOAT_TYPES:
            spec[name] = {"dtype": "float32", "shape": [], "default": "nan"}  # JSON has no NaN
        else:
            spec[name] = string | {"default": ""}
    return spec


def to_tf(spec: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A spec as `tf.io.parse_example` takes it: a `tf.io.FixedLenFeature` by feature."""
    import tensorflow as tf

    features = {}
    for name, entry in spec.items():
        default = entry.get("default")
        default = float(default) if entry["dtype"] == "float32" and default is not None else default
        features[name] = tf.io.FixedLenFeature(entry["shape"], tf.dtypes.as_dtype(entry["dtype"]), default)
    return features
