"""TFRecord files of tf.train.Example, read without TensorFlow, whose import takes seconds."""

from __future__ import annotations

import base64
import collections
import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np

from transforms.elements import ABSENT, RECORD_BYTES, Slice
from transforms.errors import BadFileError
from transforms.formats.base import (
    HEAD_BYTES,
    Bad,
    Format,
    RawBlock,
    ReadOptions,
    Record,
    in_blocks,
    too_long,
)
from transforms.formats.compression import open_decompressed, taken_of
from transforms.formats.example_message import example_class
from transforms.formats.records import as_json

_Crc = TypeVar("_Crc", int, np.ndarray)
_Content = tuple[bytes, int, str]
_LONGEST = (1 << 31) - 1  # protobuf's own limit of a message
_HEADER = struct.Struct("<QI")
# The type of a payload's bytes: of values as they are, what is UTF-8 is text.
_PAYLOADS = {"text": "id or text", "bytes": "binary", "any": "string"}


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    """A document per record; the payload of a dead letter is the record's bytes in base64."""
    kinds = dict(options.kept) | dict.fromkeys(options.strict, "id or text")
    kinds |= dict.fromkeys(options.payload_fields, _PAYLOADS[options.payload_kind])

    def columns(records: Sequence[_Content], bad: Bad) -> dict[str, list[Any]]:
        features = [_features(content, row, bad) for row, content in enumerate(records)]
        return {name: [_value(one, name, kinds.get(name)) for one in features] for name in options.fields}

    with open_decompressed(slice.path, source=slice.source) as stream:
        yield from in_blocks(
            slice,
            _records(stream, slice.source),
            columns=columns,
            text=lambda content: base64.b64encode(content[0]).decode(),
            taken=taken_of(stream),
        )


def masked(crc: _Crc) -> _Crc:
    """TensorFlow stores checksums rotated and shifted, so that a checksum of checksums means something.

    Works on arrays of uint64 too.

    >>> hex(masked(0xE3069283))  # the CRC-32C of b"123456789"
    '0xc78ab0e5'
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """A record as it lies in a file."""
    import google_crc32c

    size = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked(google_crc32c.value(part))) for part in (size, data)]
    return size + checks[0] + data + checks[1]


def _records(stream: BinaryIO, source: str) -> Iterator[Record]:
    """Records as data, byte offset and place in words.

    The format: uint64 length, uint32 masked CRC-32C of the length, data, uint32 masked CRC-32C of the data.
    Of data that is too long only the head is there.
    """
    import google_crc32c

    offset = 0
    for number in itertools.count():
        header = stream.read(_HEADER.size)
        if not header:
            return
        if len(header) < _HEADER.size:
            raise BadFileError(source, offset, _truncated(len(header), "12 bytes of a record's header"))
        length, checksum = _HEADER.unpack(header)
        if masked(google_crc32c.value(header[:8])) != checksum:
            reason = "wrong checksum of a record's length: damaged, or not a TFRecord file"
            if header.startswith(b"\x1f\x8b"):
                reason = "this is a gzip file, not a plain TFRecord file; give it a name that ends in .gz"
            raise BadFileError(source, offset, reason)
        if length > _LONGEST:
            reason = f"a record of {length} bytes; a tf.train.Example has at most 2 GiB"
            raise BadFileError(source, offset, reason)
        data = stream.read(length if length <= RECORD_BYTES else HEAD_BYTES)
        there = len(data)
        while there < length and (rest := len(stream.read(min(length - there, 1 << 20)))):
            there += rest
        footer = stream.read(4)
        if there < length or len(footer) < 4:
            left = len(header) + there + len(footer)
            raise BadFileError(source, offset, _truncated(left, f"a record of {length + 16}"))
        where, bad = f"record {number} at byte {offset}", None
        if length > RECORD_BYTES:
            bad = too_long(length)
        elif masked(google_crc32c.value(data)) != int.from_bytes(footer, "little"):
            bad = "wrong checksum", where
        yield number, (data, offset, where), len(data), bad
        offset += length + 16


def _features(content: _Content, row: int, bad: Bad) -> Any:
    """A record's map of features; empty, and the reason noted, where it is no Example."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    data, _, where = content
    if row in bad:
        return {}
    try:
        return example_class().FromString(data).features.feature
    except DecodeError:
        bad[row] = "not a tf.train.Example", where
        return {}


def _value(features: Any, name: str, kind: str | None) -> Any:
    """A feature's one value, a list of several, or None, as its column's type has it.

    An Example does not tell text from bytes, nor one value from a list of one: the column decides. What
    contradicts its type stays as it is.

    Args:
      kind: "id or text" for the fields that make a document: an error stands for what is not UTF-8.
    """
    if name not in features:  # reading an absent key of a protobuf map adds it
        return ABSENT
    oneof = features[name].WhichOneof("kind")
    values = [] if oneof is None else list(getattr(features[name], oneof).value)
    if not values:
        return None
    if kind == "json":
        return as_json(values)
    value = values if len(values) > 1 else values[0]
    if type(value) is bytes and kind in ("string", "id or text"):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as e:
            return value if kind == "string" else e
    return value


def _check(slice: Slice, options: ReadOptions) -> None:
    with open_decompressed(slice.path, source=slice.source) as stream:
        collections.deque(_records(stream, slice.source), maxlen=0)


def records(path: str, source: str) -> Iterator[bytes]:
    """Yields a file's records as they were written.

    Raises:
      BadFileError: a checksum is wrong, a record is too long, or the file is truncated.
    """
    with open_decompressed(path, source=source) as stream:
        for number, (data, offset, _), _, bad in _records(stream, source):
            if bad:
                reason = f"wrong checksum of record {number}"
                if bad[0] == "too long":
                    reason = f"record {number} is {': '.join(bad)}"
                raise BadFileError(source, offset, reason)
            yield data


def _truncated(found: int, expected: str) -> str:
    return f"truncated: {found} bytes are left here, expected {expected}; fetch the file again"


FORMAT = Format("tfrecord", (".tfrecord", ".tfrecords"), _read, _check, codecs=("", ".gz"))
