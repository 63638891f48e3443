"""Plain text: a document per file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transforms.elements import RECORD_BYTES, Slice
from transforms.formats.base import HEAD_BYTES, Format, RawBlock, ReadOptions, too_long
from transforms.formats.compression import open_decompressed
from transforms.formats.encoding import BOM, foreign, foreign_encoding
from transforms.formats.records import escaped


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    with open_decompressed(slice.path, source=slice.source) as stream:
        data = stream.read(RECORD_BYTES + 1)
        bad = None
        if len(data) > RECORD_BYTES:
            size = len(data)
            while more := len(stream.read(1 << 20)):
                size += more
            bad, data = too_long(size), data[:HEAD_BYTES]
        elif encoding := foreign_encoding(data[:4096]):
            bad = foreign(encoding)
    data = data.removeprefix(BOM)
    columns = {options.text_field: [data]}
    yield RawBlock(
        np.zeros(1, np.int64),
        columns,
        lambda _: escaped(data),
        size=len(data),
        bytes=slice.bytes,
        bad={0: bad} if bad else {},
        whole=True,
    )


FORMAT = Format("txt", (".txt", ".md"), _read, has_fields=False, whole=True)
