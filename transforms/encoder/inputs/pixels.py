"""Encoded images into pixels of one size, by Pillow, which leaves Python to others while it works."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from transforms.encoder.device import available_cores
from transforms.encoder.inputs.opening import Unfit, loaded, opened, rows

if TYPE_CHECKING:
    from PIL import Image

# What a pixel takes while it is decoded, converted and resized: two copies of four bytes.
_BYTES_A_PIXEL = 8
# A large jpeg is decoded at a half, a fourth or an eighth of its size, in a part of the time and the memory;
# what is lost is hardly seen where so many times the model's pixels are left in each direction.
_LARGE, _SPARE = 4_000_000, 4


class Room:
    """Bytes that images may take at once while they are decoded; one that needs more gets them all, alone."""

    def __init__(self, most: int):
        self._most, self._taken, self._change = most, 0, threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        with self._change:
            self._change.wait_for(lambda: not self._taken or self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            with self._change:
                self._taken -= size
                self._change.notify_all()


# For each core a photo of sixteen million pixels.
_ROOM = Room(max(512 << 20, available_cores() * (128 << 20)))


@dataclasses.dataclass(frozen=True)
class Shape:
    """What images become.

    Attributes:
      height, width: in pixels.
      channels: 3 for red, green and blue, 1 for grey.
      resize: stretch, crop (what is left of the middle in the model's proportions) or pad (black bars).
      interpolation: nearest, bilinear, bicubic or lanczos, the last three over all pixels that become one.
    """

    height: int
    width: int
    channels: int = 3
    resize: str = "stretch"
    interpolation: str = "bilinear"

    def pixels(self, data: bytes) -> np.ndarray:
        """Decodes an image; uint8 [height, width, channels].

        Raises:
          Unfit: it is none, or damaged, or too large.
        """
        image = opened(data)
        pixels = image.width * rows(image)
        if pixels > _LARGE and self.interpolation != "nearest":
            side = _SPARE * max(self.height, self.width)
            image.draft("", (side, side))  # jpeg alone can, and none gets smaller than this
        if not image.info.get("progressive"):  # whose decoder holds all of it anyway
            pixels = image.width * rows(image)
        with _ROOM.of(pixels * _BYTES_A_PIXEL):
            return self._resized(loaded(image))

    def _resized(self, image: Image.Image) -> np.ndarray:
        from PIL import Image

        turned = _turned(image)
        image = _converted(image, self.channels)
        size = self.width, self.height
        if turned in _SIDEWAYS:
            size = self.height, self.width
        how = Image.Resampling[self.interpolation.upper()]
        if self.resize == "pad":
            inner = _inside(image.size, size)
            small = Image.new("RGB" if image.mode == "RGBA" else image.mode, size)
            corner = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
            small.paste(_on_white(image.resize(inner, how)), corner)
        else:
            box = _middle(image.size, size) if self.resize == "crop" else None
            small = _on_white(image.resize(size, how, box=box))
        if method := _SIDEWAYS.get(turned, _OTHER.get(turned)):
            small = small.transpose(Image.Transpose[method])
        if self.channels == 1 and small.mode != "L":
            small = small.convert("L")
        return np.asarray(small, np.uint8).reshape(self.height, self.width, self.channels)


# EXIF: how the camera was held, and what undoes it.
_ORIENTATION = 0x0112
_OTHER = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}
_SIDEWAYS = {5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}


def _turned(image: Image.Image) -> int:
    """As EXIF says it; Pillow has turned a tiff already. What else is in EXIF may be broken."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a dozen kinds, and none of the pixels' fault
        return 1


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """In 8 bits: RGBA where something shines through, else RGB or L."""
    if image.mode.startswith("I;16"):
        from PIL import Image

        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise Unfit("not an image", "numbers of 32 bits a pixel, whose range nobody knows; expected 8 or 16")
    if image.has_transparency_data:
        return image.convert("RGBA")
    wanted = "L" if channels == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _middle(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box of the wanted proportions in an image's middle, as Keras' `load_img` cuts it.

    >>> _middle((400, 300), (224, 224)), _middle((300, 401), (224, 224))
    ((50, 0, 350, 300), (0, 50, 300, 350))
    """
    width = max(1, min(have[0], have[1] * want[0] // want[1]))
    height = max(1, min(have[1], have[0] * want[1] // want[0]))
    left, top = (have[0] - width) // 2, (have[1] - height) // 2
    return left, top, left + width, top + height


def _inside(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, int]:
    """The largest size of an image's own proportions within what is wanted.

    >>> _inside((400, 300), (224, 224)), _inside((3, 9000), (224, 224))
    ((224, 168), (1, 224))
    """
    scale = min(want[0] / have[0], want[1] / have[1])
    width, height = (max(1, math.floor(side * scale + 0.5)) for side in have)
    return min(width, want[0]), min(height, want[1])
