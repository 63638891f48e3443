"""Images as files have them, made of gradients, shapes and noise: each different, and none flat."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Something like a photo: light from one side, round things, grain; uint8 [h, w, 3]."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height, x / width
    base, slope = rng.uniform(40, 200, 3), rng.uniform(-90, 90, (2, 3))
    pixels = base + x[..., None] * slope[0] + y[..., None] * slope[1]
    for _ in range(12):
        (cx, cy), radius, colour = rng.uniform(0, 1, 2), rng.uniform(0.02, 0.3), rng.uniform(0, 255, 3)
        inside = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[..., None]
        stripes = 20 * np.sin(x * rng.uniform(10, 200) + y * rng.uniform(10, 200))[..., None]
        pixels = np.where(inside, colour + stripes, pixels)
    pixels = pixels + rng.normal(0, 6, (height, width, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    """The bytes of a file, by Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def jpeg(number: int, width: int = 320, height: int = 240, **options) -> bytes:
    return encoded(photo(number, width, height), "JPEG", **{"quality": 90, **options})
