"""Encoded images before and while they are decoded, by Pillow: what they are, how large, and what is wrong.

All but the last stands at their beginning, and is looked at before anything is decoded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from transforms.modality.image import kind_of
from transforms.texts import Refusal

if TYPE_CHECKING:
    from PIL import Image, ImageFile

# 16,384 x 8,192: the largest phones and cameras have 108 million. Pillow's own limit is the process's, whose
# other users may have moved it.
MOST_PIXELS = 1 << 27
# Pillow's class of each kind. `Image.open` would try all there are, some of which start other programs.
_CLASSES = {
    "jpeg": "JpegImagePlugin.JpegImageFile",
    "png": "PngImagePlugin.PngImageFile",
    "gif": "GifImagePlugin.GifImageFile",
    "bmp": "BmpImagePlugin.BmpImageFile",
    "tiff": "TiffImagePlugin.TiffImageFile",
    "webp": "WebPImagePlugin.WebPImageFile",
}


class Unfit(Exception):
    """Bytes that no image can be made of.

    Attributes:
      refusal: kind and detail, for the dead letter.
    """

    def __init__(self, kind: str, detail: str):
        super().__init__(kind, detail)
        self.refusal: Refusal = (kind, detail)


def opened(data: bytes) -> ImageFile.ImageFile:
    """The image before it is decoded: its kind, its size, its mode.

    Raises:
      Unfit: it is none, or larger than MOST_PIXELS.
    """
    kind = kind_of(data)
    if kind is None:
        raise Unfit("not an image", "expected jpeg, png, webp, gif, bmp or tiff")
    if kind == "webp":  # whose decoder makes room for all its pixels before it tells how many they are
        _check_size(*_webp_size(data))
    module, _, name = _CLASSES[kind].partition(".")
    with _unfit(kind):
        image: ImageFile.ImageFile = getattr(importlib.import_module(f"PIL.{module}"), name)(io.BytesIO(data))
    _check_size(image.width, rows(image))
    return image


def rows(image: ImageFile.ImageFile) -> int:
    """Rows of pixels that decoding makes: in a bmp one that skips may pass the end, by 255 at most."""
    return image.height + (255 if any(tile[0] == "bmp_rle" for tile in image.tile) else 0)


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Unfit("too large", f"{width:,} x {height:,} pixels, expected at most {MOST_PIXELS:,} in all")
    if not width * height:
        raise Unfit("not an image", f"{width:,} x {height:,} pixels")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header, in its three forms; (1, 1) where Pillow will find it damaged."""
    form, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 1, 1
    if form == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if form == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", body, 6)
    return (width & 0x3FFF) or 1, (height & 0x3FFF) or 1


def loaded(image: ImageFile.ImageFile) -> Image.Image:
    """The image decoded; of several in one file the first."""
    with _unfit(str(image.format).lower()):
        image.load()
    return image


@contextlib.contextmanager
def _unfit(kind: str) -> Iterator[None]:
    from PIL.Image import DecompressionBombError

    try:
        yield
    except DecompressionBombError as e:  # of a tile, or of a frame that is larger than its file says
        raise Unfit("too large", str(e)) from e
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error) as e:
        words = " ".join(str(e).split())
        if "truncated" in words.lower():
            raise Unfit("truncated image", f"the {kind} ends before its last pixels") from e
        raise Unfit(f"damaged {kind}", words) from e
    except (
        TypeError,
        AttributeError,
        OverflowError,
        RuntimeError,
        NotImplementedError,
        ArithmeticError,
        MemoryError,
    ) as e:
        # What decoders stumble over, too.
        raise Unfit(f"damaged {kind}", f"{type(e).__name__}: {e}".removesuffix(": ")) from e
