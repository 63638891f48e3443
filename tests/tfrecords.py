"""TFRecord files byte by byte."""

import struct

from transforms.formats.example_message import example_class


def example(**features) -> bytes:
    message = example_class()()
    for name, values in features.items():
        feature = message.features.feature[name]
        values = values if isinstance(values, list) else [values]
        if isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
    return message.SerializeToString()


def masked(data: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)
