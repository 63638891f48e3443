"""TFRecord files of tf.train.Example, read without TensorFlow, whose import takes seconds."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from transforms.elements import DeadLetter, Document, Slice
from transforms.errors import BadFileError
from transforms.formats.compression import open_decompressed
from transforms.formats.example_message import example_class
from transforms.formats.records import ReadOptions, dead, documents_of

_LONGEST = (1 << 31) - 1  # protobuf's own limit of a message
_HEADER = struct.Struct("<QI")


def read_tfrecord(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """A document per record; the payload of a dead letter is the record's bytes in base64."""
    import google_crc32c
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    parse = example_class().FromString
    document = documents_of(slice, options)
    names = options.fields
    strict = {options.text_field, options.id_field}
    with open_decompressed(slice.path, source=slice.source) as stream:
        for number, (offset, data, checksum) in enumerate(_frames(stream, slice.source)):
            payload = lambda data=data: base64.b64encode(data).decode()  # noqa: E731
            if _mask(google_crc32c.value(data)) != checksum:
                reason = f"wrong checksum: record {number} at byte {offset}"
                yield dead(slice, number, reason, payload=payload())
                continue
            try:
                features = parse(data).features.feature
            except DecodeError:
                reason = f"not a tf.train.Example: record {number} at byte {offset}"
                yield dead(slice, number, reason, payload=payload())
                continue
            # `in` first: reading an absent key of a protobuf map adds it.
            fields = {
                name: _value(features[name], strict=name in strict) for name in names if name in features
            }
            yield document(number, fields, payload=payload)


def check_tfrecord(slice: Slice) -> None:
    """Walks the frames to the file's end."""
    with open_decompressed(slice.path, source=slice.source) as stream:
        for _ in _frames(stream, slice.source):
            pass


def records(path: str, source: str) -> Iterator[bytes]:
    """Yields a file's records as they were written.

    Raises:
      BadFileError: a checksum is wrong, or the file is truncated.
    """
    import google_crc32c

    with open_decompressed(path, source=source) as stream:
        for number, (offset, data, checksum) in enumerate(_frames(stream, source)):
            if _mask(google_crc32c.value(data)) != checksum:
                raise BadFileError(source, offset, f"wrong checksum of record {number}")
            yield data


def _frames(stream: BinaryIO, source: str) -> Iterator[tuple[int, bytes, int]]:
    """Yields byte offset, data, and the checksum stored of the data, which is not checked here.

    The format: uint64 length, uint32 masked CRC-32C of the length, data, uint32 masked CRC-32C of the data.
    """
    import google_crc32c

    offset = 0
    while header := stream.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise BadFileError(source, offset, _truncated(len(header), "12 bytes of a record's header"))
        length, checksum = _HEADER.unpack(header)
        if _mask(google_crc32c.value(header[:8])) != checksum:
            reason = "wrong checksum of a record's length: damaged, or not a TFRecord file"
            if header.startswith(b"\x1f\x8b"):
                reason = "this is a gzip file, not a plain TFRecord file; give it a name that ends in .gz"
            raise BadFileError(source, offset, reason)
        if length > _LONGEST:
            raise BadFileError(
                source, offset, f"a record of {length} bytes; a tf.train.Example has at most 2 GiB"
            )
        data = stream.read(length)
        footer = stream.read(4)
        if len(data) < length or len(footer) < 4:
            left = len(header) + len(data) + len(footer)
            raise BadFileError(source, offset, _truncated(left, f"a record of {length + 16}"))
        yield offset, data, int.from_bytes(footer, "little")
        offset += length + 16


def _truncated(found: int, expected: str) -> str:
    return f"truncated: {found} bytes are left here, expected {expected}; fetch the file again"


def _mask(crc: int) -> int:
    """TensorFlow stores checksums rotated and shifted, so that a checksum of checksums means something."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _value(feature: Any, *, strict: bool) -> Any:
    """A feature's one value, the list of its values, or None where it has none.

    Bytes become text if they are UTF-8; if not, they stay bytes, or, if strict, the error stands for them.
    """
    kind = feature.WhichOneof("kind")
    values = [] if kind is None else list(getattr(feature, kind).value)
    if kind == "bytes_list":
        values = [_text(value, strict=strict) for value in values]
    if len(values) > 1:
        return values
    return values[0] if values else None


def _text(value: bytes, *, strict: bool) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as e:
        return e if strict else value
