"""The checksum of TFRecord files."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

_Crc = TypeVar("_Crc", int, np.ndarray)


def masked(crc: _Crc) -> _Crc:
    """TensorFlow stores checksums rotated and shifted, so that a checksum of checksums means something.

    Works on arrays of uint64 too.

    >>> hex(masked(0xE3069283))  # the CRC-32C of b"123456789"
    '0xc78ab0e5'
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
