"""Text files are UTF-8: other Unicode encodings are told by a file's first bytes."""

from __future__ import annotations

import codecs
from typing import BinaryIO

from transforms.elements import Slice
from transforms.errors import BadFileError
from transforms.formats.compression import compression_of, open_decompressed
from transforms.storage import files

BOM = codecs.BOM_UTF8
# Looked at.
HEAD = 64 << 10
_MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # before UTF-16's, with which it begins
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def open_text(slice: Slice) -> tuple[BinaryIO, bytes]:
    """Opens a slice's file, decompressed, at its first byte.

    Returns:
      The stream, and the file's first bytes.

    Raises:
      BadFileError: the file is UTF-16 or UTF-32.
    """
    stream = open_decompressed(slice.path, source=slice.source)
    try:
        if compression_of(slice.path) is not None:
            head = stream.peek(HEAD)[:HEAD]  # type: ignore[attr-defined]
        elif slice.start > 0:
            head = files.read_head(slice.path, HEAD)
        else:
            head = stream.read(HEAD)
            stream.seek(0)
        if wrong := foreign(head):
            raise BadFileError(slice.source, None, ", ".join(wrong), kind="unreadable")
    except BaseException:
        stream.close()
        raise
    return stream, head


def foreign(head: bytes) -> tuple[str, str] | None:
    """What is wrong with a file of another encoding, and what to do; None if nothing is."""
    found = foreign_encoding(head)
    return (f"is {found}", f"expected UTF-8; convert it with iconv -f {found} -t UTF-8") if found else None


def foreign_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32 where a file begins with a byte order mark or looks so; else "".

    >>> foreign_encoding("a text".encode("utf-16")), foreign_encoding("a text".encode("utf-16-le"))
    ('UTF-16', 'UTF-16LE')
    """
    for name, marks in _MARKS.items():
        if head.startswith(marks):
            return name
    if head.count(0, 0, 4096) < 4:
        return ""
    # Without a mark: white space and Latin letters have NULs at every second byte, or at three of four.
    zeros = [part.count(0) / max(1, len(part)) for part in (head[i:4096:4] for i in range(4))]
    if min(zeros[2:]) > 0.95 and zeros[0] < 0.5:
        return "UTF-32LE"
    if min(zeros[:2]) > 0.95 and zeros[3] < 0.5:
        return "UTF-32BE"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if max(even, odd) < 0.12 or min(even, odd) > 0.02:
        return ""
    return "UTF-16LE" if odd > even else "UTF-16BE"
