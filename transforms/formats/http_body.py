"""Bodies of HTTP decoded by their Content-Encoding, no further than is wanted: some bytes may mean gigabytes.

fastwarc's own decoder of `br` takes the memory of all that a body decodes to.
"""

from __future__ import annotations

import zlib

from transforms.formats.compression import decompressor

_PIECE = 1 << 20
# What is encoded has a zero byte among so many, and text has none.
_LOOK = 4096


def decoded_body(body: bytes, codings: str, most: int) -> bytes:
    """The body as it was before the codings were applied, about `most` bytes; of one cut off its head.

    Crawlers write bodies decoded, and leave headers as they were: what cannot be decoded is taken as it is.

    Raises:
      ValueError: it cannot be decoded, and is no text as it is.
    """
    for coding in reversed(codings.lower().split(",")):
        coding = coding.strip().removeprefix("x-")
        decode = _DECODERS.get(coding)
        try:
            body = decode(body, most) if decode else body
        except (zlib.error, ValueError) as e:
            if b"\0" in body[:_LOOK]:
                raise ValueError(f"{coding}: {e}") from e
            return body
    return body


def _gunzipped(body: bytes, most: int) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(body, most)


def _inflated(body: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, most)
    except zlib.error:  # many servers leave zlib's header out
        return zlib.decompressobj(wbits=-15).decompress(body, most)


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
    return bytes(found)


def _unzstd(body: bytes, most: int) -> bytes:
    new, errors = decompressor("zstd")
    try:
        return new().decompress(body, most)
    except errors as e:
        raise ValueError(str(e)) from e


_DECODERS = {"gzip": _gunzipped, "deflate": _inflated, "br": _unbrotlied, "zstd": _unzstd}
