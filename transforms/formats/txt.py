"""Plain text: a document per file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transforms.elements import RECORD_BYTES, Slice
from transforms.formats.base import HEAD_BYTES, Format, RawBlock, ReadOptions, too_long
from transforms.formats.compression import open_decompressed
from transforms.formats.encoding import BOM, foreign
from transforms.formats.records import escaped


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    with open_decompressed(slice.path, source=slice.source) as stream:
        data = stream.read(RECORD_BYTES + 1)
        size, bad = len(data), {}
        if size > RECORD_BYTES:
            while more := len(stream.read(1 << 20)):
                size += more
            bad[0], data = too_long(size), data[:HEAD_BYTES]
        elif wrong := foreign(data[:4096]):
            bad[0] = wrong
    data = data.removeprefix(BOM)
    columns = {options.payload_field: [data]}
    yield RawBlock(
        np.zeros(1, np.int64), columns, lambda _: escaped(data), len(data), slice.bytes, bad, whole=True
    )


FORMAT = Format("txt", (".txt", ".md"), _read, has_fields=False, whole=True, holds="text")
