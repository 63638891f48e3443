"""Bodies of HTTP decoded by their Content-Encoding, no further than is wanted: some bytes may mean gigabytes.

fastwarc's own decoder of `br` takes the memory of all that a body decodes to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from transforms.formats.compression import decompressor

_PIECE = 1 << 20
# Handed to a decoder at once: what it does not take is copied for each member.
_FED = 8 << 10
# What is encoded has a zero byte among so many, and text has none.
_LOOK = 4096


class _CutOff(ValueError):
    """A body ends before its last member does; its argument is what it gave."""

    def __str__(self) -> str:
        return "it ends too early"


def decoded_body(body: bytes, codings: str, most: int, *, cut: bool = False) -> bytes:
    """The body as it was before the codings were applied, about `most` bytes.

    Crawlers write bodies decoded, and leave headers as they were: what cannot be decoded is taken as it is.

    Args:
      cut: whether the crawler says that it cut the body off; then its head is given.

    Raises:
      ValueError: it cannot be decoded, and is no text as it is.
    """
    for coding in reversed(codings.lower().split(",")):
        coding = coding.strip().removeprefix("x-")
        decode = _DECODERS.get(coding)
        try:
            body = decode(body, most) if decode else body
        except (zlib.error, ValueError) as e:
            if isinstance(e, _CutOff) and e.args[0]:
                if not cut:
                    raise ValueError(f"{coding}: {e}") from e
                body = e.args[0]
                continue
            if b"\0" in body[:_LOOK]:
                raise ValueError(f"{coding}: {e}") from e
            return body
    return body


def _unpacked(body: bytes, most: int, new: Callable[[], Any], magic: bytes = b"") -> bytes:
    """What the members of a body decode to; what follows the last one and begins none is no part of it."""
    found, member, at = bytearray(), new(), 0
    while at < len(body) and len(found) < most:
        piece = body[at : at + _FED]
        found += member.decompress(piece, most - len(found))
        at += len(piece)
        if member.eof:
            at -= len(member.unused_data)
            if not magic or not body.startswith(magic, at):
                return bytes(found)
            member = new()
    if body and len(found) < most:
        raise _CutOff(bytes(found))
    return bytes(found)


def _gunzipped(body: bytes, most: int) -> bytes:
    return _unpacked(body, most, decompressor("gzip")[0], b"\x1f\x8b")


def _inflated(body: bytes, most: int) -> bytes:
    try:
        return _unpacked(body, most, zlib.decompressobj)
    except zlib.error:  # many servers leave zlib's header out
        return _unpacked(body, most, lambda: zlib.decompressobj(wbits=-15))


def _unbrotlied(body: bytes, most: int) -> bytes:
    import brotli

    decoder, found = brotli.Decompressor(), bytearray()
    try:
        piece = decoder.process(body, output_buffer_limit=_PIECE)
        while piece and len(found) < most:
            found += piece
            piece = decoder.process(b"", output_buffer_limit=_PIECE)
    except brotli.error as e:
        raise ValueError(str(e)) from e
    if body and len(found) < most and not decoder.is_finished():
        raise _CutOff(bytes(found))
    return bytes(found)


def _unzstd(body: bytes, most: int) -> bytes:
    new, errors = decompressor("zstd")
    try:
        return _unpacked(body, most, new, b"\x28\xb5\x2f\xfd")
    except errors as e:
        raise ValueError(str(e)) from e


_DECODERS = {"gzip": _gunzipped, "deflate": _inflated, "br": _unbrotlied, "zstd": _unzstd}
