"""Encoded images as payloads: a document is the bytes of a file, which are decoded when it is embedded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from transforms.modality.protocol import Encoded
from transforms.texts import Refusal, not_of_type

EMPTY: Refusal = ("empty image", "no bytes")
# How files begin. TIFF has two orders of bytes, and BigTIFF numbers of its own.
_BEGINNINGS = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
}


@dataclasses.dataclass(frozen=True)
class Image(Encoded):
    """The modality of jpeg, png, webp, gif, bmp and tiff; see Modality.

    Attributes:
      cost: of an image in tokens. All are of one size when the model sees them, so all cost the same.
    """

    name: ClassVar[str] = "image"
    field: ClassVar[str] = "image"
    # A photo of 1.5 MB weighs as much as its pixels cost at 224 x 224.
    bytes_a_token: ClassVar[int] = 8 << 10
    cost: int = 196  # of 224 x 224

    def refusal(self, value: Any, field: str) -> Refusal | None:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return None if len(value) else EMPTY
        return not_of_type(value, field, "an encoded image (bytes)")

    def shown(self, payload: Any) -> str:
        """Its kind and size in words: an image as base64 would be megabytes.

        >>> Image().shown(b"\\xff\\xd8\\xff\\xe0" + bytes(5000)), Image().shown(b"<html>")
        ('jpeg of 5,004 bytes', 'no image, 6 bytes')
        """
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            return f"no image, {type(payload).__name__}"
        kind = kind_of(payload)
        return f"{kind} of {len(payload):,} bytes" if kind else f"no image, {len(payload):,} bytes"

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return np.full(len(payloads), self.cost, np.int64)


def cost_of(height: int, width: int) -> int:
    """Tokens of an image of such a size: one for every 16 x 16 pixels, the patches of vision transformers.

    A token of the budget is so 256 pixels, or 3 KiB of float32 in three colours.

    >>> cost_of(224, 224), cost_of(299, 299), cost_of(1, 1)
    (196, 350, 1)
    """
    return -(-height * width // 256)


def kind_of(data: Any) -> str | None:
    """What an encoded image is, by how it begins."""
    head = bytes(data[:12])
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _BEGINNINGS.items() if head.startswith(start)), None)
