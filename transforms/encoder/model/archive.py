"""Unpacking an archive that nobody vouches for: nothing outside the folder, and no more than fits."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

# Far more than any text model has; an archive that holds more is a mistake or an attack.
MAX_BYTES = 20 << 30
MAX_MEMBERS = 100_000
_CHUNK = 1 << 20
_LONGEST_HEADER = 16 << 20


class ArchiveError(Exception):
    """The archive is refused; the text says why."""


class _Bounded:
    """A file of which no more than a chunk is read at once: tarfile reads a header whole, however long."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise ArchiveError(f"a header of {size:,} bytes")
        return self._file.read(size)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a .tar or .tar.gz: no path or link outside, no device file, counted before anything is written.

    Raises:
      ArchiveError: it holds too much.
      tarfile.TarError, EOFError, OSError, zlib.error: it is damaged, or would write elsewhere.
    """
    room = shutil.disk_usage(folder).free
    with open(archive, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
        if zipped:
            _read_through(file)
        with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:  # type: ignore[call-overload]
            _check_members(tar, room)
            tar.extractall(folder, filter="data")


def _read_through(file: BinaryIO) -> None:
    """Reads to the end and so to the checksum: tarfile takes a broken header for the end."""
    total = 0
    while block := file.read(_CHUNK):
        total += len(block)
        # Headers and padding come on top of the files.
        _check(total - MAX_MEMBERS * 1024, MAX_BYTES, "bytes unpacked")
    file.seek(0)


def _check_members(tar: tarfile.TarFile, room: int) -> None:
    total = 0
    for number, member in enumerate(tar, start=1):
        total += member.size
        _check(number, MAX_MEMBERS, "files")
        _check(total, MAX_BYTES, "bytes unpacked")
        if total > room:
            raise ArchiveError(f"more than {total:,} bytes unpacked, and {room:,} free on the disk")


def _check(value: int, most: int, what: str) -> None:
    if value > most:
        raise ArchiveError(f"more than {most:,} {what}")
