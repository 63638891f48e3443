"""The files in a tar archive, one after the other, of a stream that need not be seekable.

The standard library's own loop takes a damaged header for the archive's end, and keeps all headers it saw.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from transforms.errors import BadFileError

_BLOCK = tarfile.BLOCKSIZE
# A name, or what else an extended header holds.
_MOST_HEADER = 1 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclasses.dataclass(slots=True)
class TarFile:
    """A regular file in an archive: its name, where its header begins, and its size in bytes."""

    name: str
    start: int
    size: int
    stream: TarStream

    def read(self, most: int) -> bytes | None:
        """Its bytes, before the next file is asked for; None if it has more than `most`."""
        return self.stream.take(self.size) if self.size <= most else None


class TarStream:
    """Walks an archive.

    Attributes:
      at: bytes read so far.
    """

    def __init__(self, stream: BinaryIO, source: str):
        self._stream, self._source = stream, source
        self.at = 0
        self._left = 0  # bytes of the file at hand that nobody has read

    def __iter__(self) -> Iterator[TarFile]:
        """Yields regular files; links, directories and devices are none.

        Raises:
          BadFileError: the archive is truncated or damaged, or no archive.
        """
        start, extended = 0, dict[str, str]()
        while header := self._header():
            start = start if extended else self.at - _BLOCK
            padded = -(-header.size // _BLOCK) * _BLOCK
            if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extended |= _pax(self._extension(header, padded))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                name = self._extension(header, padded).partition(b"\0")[0]
                extended["path"] = name.decode("utf-8", "replace")
            else:
                size = int(extended.get("size", header.size))
                self._left = -(-size // _BLOCK) * _BLOCK
                if header.type in _FILES:
                    yield TarFile(extended.get("path", header.name), start, size, self)
                self._skip()
                extended = {}

    def take(self, size: int) -> bytes:
        """Reads so many bytes of the file at hand."""
        data = self._read(size)
        self._left -= size
        return data

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the archive's end: a block of zeros, or the end of the file."""
        block = self._stream.read(_BLOCK)
        self.at += len(block)
        if not self.at:
            raise BadFileError(self._source, 0, "empty, expected a tar archive")
        if 0 < len(block) < _BLOCK:
            raise self._truncated()
        if not block.strip(b"\0"):
            while more := len(self._stream.read(1 << 20)):  # so that what is compressed is checked to its end
                self.at += more
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError as e:
            what = "damaged" if self.at > _BLOCK else "not a tar archive"
            raise BadFileError(self._source, self.at - _BLOCK, f"{what}: {e}; fetch the file again") from e

    def _extension(self, header: tarfile.TarInfo, padded: int) -> bytes:
        if header.size > _MOST_HEADER:
            reason = f"damaged: an extended header of {header.size:,} bytes; fetch the file again"
            raise BadFileError(self._source, self.at - _BLOCK, reason)
        return self._read(padded)[: header.size]

    def _skip(self) -> None:
        while self._left:
            self._left -= len(self._read(min(self._left, 1 << 20)))

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.at += len(data)
        if len(data) < size:
            raise self._truncated()
        return data

    def _truncated(self) -> BadFileError:
        return BadFileError(
            self._source, self.at, "truncated: the archive ends inside a file; fetch the file again"
        )


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: their length, a blank, a key, =, a value and the end of a line."""
    found: dict[str, str] = {}
    while data:
        length = data.partition(b" ")[0]
        if not length.isdigit() or not int(length):
            break
        record, data = data[: int(length)], data[int(length) :]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return {
        key: value for key, value in found.items() if key == "path" or (key == "size" and value.isdigit())
    }
