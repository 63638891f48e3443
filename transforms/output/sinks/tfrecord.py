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
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import google_crc32c
import numpy as np

from transforms.formats.tfrecord import masked
from transforms.output.column_types import BYTES_TYPES, FLOAT_TYPES, TEXT_TYPES
from transforms.output.schema import RowSchema
from transforms.output.vectors import SCALE, stored_dtype, stored_width

if TYPE_CHECKING:
    import pyarrow as pa

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


@functools.lru_cache(maxsize=1 << 14)
def _entry_head(name: str, kind: bytes, size: int) -> bytes:
    """What comes before the `size` bytes of content in a features map entry, `{name: Feature}`."""
    inner = _LENGTH_DELIMITED_1 + varint(size)  # BytesList.value, or the packed numbers
    list_head = kind + varint(len(inner) + size) + inner
    key = name.encode()
    entry = _LENGTH_DELIMITED_1 + varint(len(key)) + key + b"\x12" + varint(len(list_head) + size) + list_head
    return _LENGTH_DELIMITED_1 + varint(len(entry) + size) + entry


def _text(value: Any) -> bytes:
    """Dates and times as isoformat, all else (decimals, durations) as str()."""
    return (value.isoformat() if hasattr(value, "isoformat") else str(value)).encode()


def _entries(name: str, kind: str, column: pa.Array) -> list[bytes]:
    """A column's entries in the records' feature maps, one a row; b"" for a null."""
    if kind in FLOAT_TYPES:
        head = _entry_head(name, _FLOAT_LIST, 4)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as in a tf.train.Example
            packed = column.to_numpy(zero_copy_only=False).astype("<f4").tobytes()
        there = column.is_valid().to_pylist()
        return [head + packed[4 * row : 4 * row + 4] if there[row] else b"" for row in range(len(there))]
    # Values that are there again and again (sources, zeros) are encoded once.
    encoded = column.dictionary_encode()
    values = encoded.dictionary
    if kind in _INT_TYPES:
        contents = [varint(value) for value in values.to_pylist()]
    elif kind in TEXT_TYPES or kind in BYTES_TYPES or kind.startswith("fixed_size_binary"):
        contents = values.cast("large_binary").to_pylist()
    else:
        contents = [_text(value) for value in values.to_pylist()]
    feature = _INT64_LIST if kind in _INT_TYPES else _BYTES_LIST
    entries = [_entry_head(name, feature, len(content)) + content for content in contents]
    return [b"" if row is None else entries[row] for row in encoded.indices.to_pylist()]


@functools.lru_cache(maxsize=1 << 14)
def _frame_head(size: int) -> tuple[bytes, int]:
    """What precedes `size` bytes of features in a file, and the checksum of its part inside the record."""
    record_head = _LENGTH_DELIMITED_1 + varint(size)
    length = struct.pack("<Q", len(record_head) + size)
    frame = length + struct.pack("<I", masked(google_crc32c.value(length)))
    return frame + record_head, google_crc32c.value(record_head)


class TFRecordSink:
    """Writes rows to one TFRecord file, whose bytes are a pure function of the rows.

    A null is a feature that is not there. Vectors are a float_list; in other types, one bytes value of
    little-endian numbers, for `tf.io.decode_raw`. Bools become int64; dates, times, decimals and uint64
    strings; a kept double loses what float32 cannot hold, since an Example has no wider float. `feature_spec`
    says how to read the file.
    """

    def __init__(self, file: BinaryIO, schema: RowSchema, metadata: Mapping[str, str], *, gzip: bool = False):
        """Starts the file.

        Args:
          file: where the bytes go; stays open when the sink is closed.
          schema: the columns.
          metadata: not written, for the format has no place for it.
          gzip: compress, without name and time, so that the same rows give the same bytes.
        """
        del metadata
        self._gzip = gzip_module.GzipFile("", "wb", 6, file, mtime=0) if gzip else None
        self._file: Any = self._gzip or file
        single = schema.vector_dtype == "float32"
        self._vector_dtype = stored_dtype(schema.vector_dtype).newbyteorder("<")
        width = stored_width(schema.vector_dtype, schema.dim)
        self._vector_bytes = width * self._vector_dtype.itemsize
        kind = _FLOAT_LIST if single else _BYTES_LIST
        self._vector_head = _entry_head("embedding", kind, self._vector_bytes)
        self._kept = dict(schema.kept)

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows.

        Args:
          batch: of the schema's own columns and types.
        """
        for begin in range(0, batch.num_rows, _AT_ONCE):
            self._file.write(self._records(batch.slice(begin, _AT_ONCE)))

    def close(self) -> None:
        """Ends the compressed stream, if there is one; the file stays open."""
        if self._gzip:
            self._gzip.close()

    def _records(self, batch: pa.RecordBatch) -> bytes:
        parts: list[Iterable[bytes]] = []
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if field.name == "embedding":
                parts += [itertools.repeat(self._vector_head, batch.num_rows), self._vectors(column)]
            else:
                kind = self._kept.get(field.name, str(field.type))
                parts.append(_entries(field.name, kind, column))
        features = [b"".join(entries) for entries in zip(*parts, strict=True)]
        heads = [_frame_head(len(some)) for some in features]
        extend = google_crc32c.extend
        crcs = [extend(crc, some) for (_, crc), some in zip(heads, features, strict=True)]
        stored = masked(np.array(crcs, np.uint64)).astype("<u4").tobytes()
        ends = [stored[at : at + 4] for at in range(0, len(stored), 4)]
        frames = zip((head for head, _ in heads), features, ends, strict=True)
        return b"".join(itertools.chain.from_iterable(frames))

    def _vectors(self, column: pa.Array) -> list[bytes]:
        packed = column.flatten().to_numpy().astype(self._vector_dtype, copy=False).tobytes()
        size = self._vector_bytes
        return [packed[at : at + size] for at in range(0, len(packed), size)]


def feature_spec(schema: RowSchema) -> dict[str, dict[str, Any]]:
    """How to read the records, in plain JSON: a feature's dtype, shape, and default, which stands for a null.

    A kept integer that is null reads as -2**63, a bool as -1, a float as nan, a string as "". Where vectors
    are not float32, `embedding` is a string, and its `decode_raw` says what dtype and shape
    `tf.io.decode_raw` is to make of it.

    >>> feature_spec(RowSchema(dim=3))["embedding"]
    {'dtype': 'float32', 'shape': [3]}
    """
    string, int64 = {"dtype": "string", "shape": []}, {"dtype": "int64", "shape": []}
    kind = schema.vector_dtype
    vector = {"dtype": str(stored_dtype(kind)), "shape": [stored_width(kind, schema.dim)]}
    packed = kind != "float32"
    spec: dict[str, dict[str, Any]]
    spec = {"doc_id": string, "embedding": string | {"decode_raw": vector} if packed else vector}
    if kind == "int8":
        spec[SCALE] = {"dtype": "float32", "shape": []}
    spec |= dict.fromkeys(("tokens", "tokens_dropped"), int64 | {"default": -1})
    spec |= {"source": string, "position": int64, "fingerprint": string}
    if schema.chunks:
        place = {"dtype": "float32", "shape": []} if schema.seconds else int64
        spec |= {"chunk": int64, "start": place, "end": place}
    if schema.keep_text:
        spec["text"] = string
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

    def feature(entry: Mapping[str, Any]) -> Any:
        default = entry.get("default")
        kind = tf.dtypes.as_dtype(entry["dtype"])
        return tf.io.FixedLenFeature(entry["shape"], kind, float(default) if default == "nan" else default)

    return {name: feature(entry) for name, entry in spec.items()}
