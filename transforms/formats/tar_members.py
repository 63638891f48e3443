"""The files in a tar archive, one after the other, of a stream that need not be seekable.

The standard library's own loop takes a damaged header for the archive's end, and keeps all headers it saw.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from transforms.errors import BadFileError

_BLOCK = tarfile.BLOCKSIZE
# A name, or what else an extended header holds.
_MOST_HEADER = 1 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
# Nothing follows these, whatever their header says of a size.
_BARE = (*_LINKS, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_SPARSE = "GNU.sparse."
_NUMBER = re.compile(rb"[0-9]{1,18}")


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
      skipped: how many members are no files of their own, by what they are.
    """

    def __init__(self, stream: BinaryIO, source: str):
        self._stream, self._source = stream, source
        self.at = 0
        self.skipped: collections.Counter[str] = collections.Counter()
        self._left = 0  # bytes of the file at hand that nobody has read

    def __iter__(self) -> Iterator[TarFile]:
        """Yields regular files; links, directories and devices are none.

        Raises:
          BadFileError: the archive is truncated or damaged, or no archive.
        """
        start, extended = 0, dict[str, bytes]()
        while header := self._header():
            start = start if extended else self.at - _BLOCK
            padded = -(-header.size // _BLOCK) * _BLOCK
            if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                extended |= self._pax(self._extension(header, padded))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = self._extension(header, padded).partition(b"\0")[0]
            else:
                if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith(_SPARSE) for key in extended):
                    raise self._damaged("it holds a sparse file; make it again without --sparse", start)
                size = 0 if header.type in _BARE else int(extended.get("size", header.size))
                self._left = -(-size // _BLOCK) * _BLOCK
                self.skipped["link"] += header.type in _LINKS
                if header.type in _FILES:
                    name = extended["path"].decode("utf-8", "replace") if "path" in extended else header.name
                    yield TarFile(name, start, size, self)
                self._skip()
                extended = {}

    def take(self, size: int) -> bytes:
        """Reads so many bytes of the file at hand."""
        data = self._read(size)
        self._left -= size
        return data

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the archive's end.

        A block of zeros ends an archive, and another may follow (`cat a.tar b.tar`): all are read, so that
        nothing is lost, and what is compressed is checked to its end.
        """
        ended = False
        while True:
            block = self._stream.read(_BLOCK)
            self.at += len(block)
            if not self.at:
                raise BadFileError(self._source, 0, "empty, expected a tar archive")
            if block.strip(b"\0"):
                break
            if len(block) < _BLOCK:
                if ended:
                    return None
                raise self._truncated("there is no end-of-archive marker")
            ended = True
        if len(block) < _BLOCK:
            raise self._truncated()
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError as e:
            what = "damaged" if self.at > _BLOCK else "not a tar archive"
            raise self._damaged(f"{what}: {e}; fetch the file again") from e
        if header.size < 0:
            raise self._damaged(f"damaged: a file of {header.size:,} bytes; fetch the file again")
        return header

    def _extension(self, header: tarfile.TarInfo, padded: int) -> bytes:
        if header.size > _MOST_HEADER:
            raise self._damaged(f"damaged: an extended header of {header.size:,} bytes; fetch the file again")
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

    def _pax(self, data: bytes) -> dict[str, bytes]:
        """The records of an extended header: length, a blank, a key, =, a value and the end of a line."""
        found: dict[str, bytes] = {}
        while data.strip(b"\0"):
            length = data[:20].partition(b" ")[0]
            end = int(length) if _NUMBER.fullmatch(length) else 0
            key, equals, value = data[len(length) + 1 : end].removesuffix(b"\n").partition(b"=")
            if not equals or end > len(data) or (key == b"size" and not _NUMBER.fullmatch(value)):
                raise self._damaged(f"damaged: an extended header with {data[:40]!r}; fetch the file again")
            found[key.decode("utf-8", "replace")] = value
            data = data[end:]
        return found

    def _damaged(self, reason: str, at: int | None = None) -> BadFileError:
        return BadFileError(self._source, self.at - _BLOCK if at is None else at, reason)

    def _truncated(self, what: str = "the archive ends inside a file") -> BadFileError:
        return BadFileError(self._source, self.at, f"truncated: {what}; fetch the file again")
