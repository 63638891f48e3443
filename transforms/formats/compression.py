"""Decompression that notices a truncated or damaged file, whatever the codec.

The standard library's file classes do not serve: bz2 silently drops what follows a damaged member, and none
of them tells how far it came.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from transforms.errors import BadFileError
from transforms.storage import files

_BLOCK = 1 << 18
_CODECS = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz"}
# Zeros may follow the last member: gzip files padded to a tape's block, xz by its specification.
_PADDED = {"gzip", "xz"}

SUFFIXES: tuple[str, ...] = tuple(_CODECS)


def compression_of(path: str) -> str | None:
    """The codec a file's name promises: gzip, bzip2, zstd, xz or None.

    >>> compression_of("a.jsonl.gz"), compression_of("a.jsonl")
    ('gzip', None)
    """
    return _CODECS.get("." + path.rpartition(".")[2].lower())


def open_decompressed(path: str, *, source: str | None = None) -> BinaryIO:
    """Opens a file and decompresses it as its suffix says.

    Args:
      path: local path or URL.
      source: what errors call the file; the path if None.

    Returns:
      A buffered stream. Reading it raises BadFileError, with the number of decompressed bytes reached, if the
      file is truncated or damaged.
    """
    raw = files.open_read(path)
    codec = compression_of(path)
    if codec is None:
        return raw
    return io.BufferedReader(_Decompressed(raw, codec, source or path), 4 * _BLOCK)


def taken_of(stream: Any) -> Callable[[], int]:
    """Returns the function that tells how many of the file's bytes were read of a stream so far."""
    raw = getattr(stream, "raw", None)
    return (lambda: raw.compressed) if isinstance(raw, _Decompressed) else stream.tell


class _Decompressed(io.RawIOBase):
    """All members of a compressed file, one after the other.

    Attributes:
      compressed: bytes of the file that were read so far.
    """

    def __init__(self, raw: BinaryIO, codec: str, source: str):
        self.compressed = 0
        self._raw = raw
        self._codec = codec
        self._source = source
        self._new, self._errors = decompressor(codec)
        self._member: Any = None  # the decompressor at work; at its end between two members
        self._pending = b""  # compressed bytes read from the file and not yet taken
        self._first = True  # whether this is the first member
        self._reached = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            if self._member is None or self._member.eof:
                if not self._start_member():
                    return 0
            elif not self._pending and getattr(self._member, "needs_input", True) and not self._fill():
                raise self._truncated()
            data = self._decompress(len(buffer))
        buffer[: len(data)] = data
        self._reached += len(data)
        return len(data)

    def _start_member(self) -> bool:
        """Sets up the next member's decompressor; False at the file's end."""
        self._first = self._member is None
        padding = b"\0" if self._codec in _PADDED and not self._first else b""
        while not (pending := self._pending.lstrip(padding)):
            if not self._fill():
                if self._first:
                    raise self._truncated()
                return False
        self._pending = pending
        self._member = self._new()
        return True

    def _fill(self) -> bool:
        self._pending = self._raw.read(_BLOCK)
        self.compressed += len(self._pending)
        return bool(self._pending)

    def _decompress(self, size: int) -> bytes:
        try:
            data: bytes = self._member.decompress(self._pending, size)
        except self._errors as e:
            reason = f"damaged {self._codec}: {e}; fetch the file again"
            if self._reached == 0 and self._first:
                reason = f"not {self._codec}, though its name says so: {e}; rename it or fetch it again"
            raise BadFileError(self._source, self._reached, reason) from e
        # Of what was not taken the next member's is `unused_data`; zlib alone hands back this member's.
        self._pending = self._member.unused_data or getattr(self._member, "unconsumed_tail", b"")
        return data

    def _truncated(self) -> BadFileError:
        reason = (
            f"truncated {self._codec}: ended after {self.compressed} bytes ({self._reached} decompressed), "
            "expected the end-of-stream marker; fetch the file again"
        )
        return BadFileError(self._source, self._reached, reason)


def decompressor(codec: str) -> tuple[Callable[[], Any], type[Exception]]:
    """How to make the codec's decompressor of one member, and what it raises."""
    if codec == "gzip":
        return lambda: zlib.decompressobj(wbits=31), zlib.error
    if codec == "bzip2":
        return bz2.BZ2Decompressor, OSError
    if codec == "xz":
        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ), lzma.LZMAError
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    # Accept every window zstd can write (--long=31).
    options = {int(zstd.DecompressionParameter.window_log_max): 31}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError
