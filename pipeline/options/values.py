"""Values of options as they are typed: numbers, sizes, and limits."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from fractions import Fraction

from transforms.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def size(text: str) -> int:
    """A number of bytes, with an optional unit.

    >>> size("64MiB"), size("10k"), size("123")
    (67108864, 10000, 123)
    """
    match = re.fullmatch(r"(\d+)\s*([kmg]i?|)b?", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, like 1000000, 64MB or 64MiB")
    return int(match[1]) * _UNITS[match[2]]


def decimal(text: str) -> float:
    """A number; not nan, and not infinite.

    >>> decimal("0.5"), decimal("1e-3")
    (0.5, 0.001)
    """
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number, like 0.5")


def similarity(text: str) -> float:
    """A Jaccard similarity that texts can have.

    >>> similarity("0.9"), similarity("1")
    (0.9, 1.0)
    """
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:  # nan is not
            return float(text)
    expected = "expected a Jaccard similarity above 0, and 1 at most, like 0.9"
    raise argparse.ArgumentTypeError(f"{text!r}: {expected}")


def most_dead_letters(limit: str, documents: int) -> int:
    """How many dead letters a job of so many documents may have.

    >>> most_dead_letters("1%", 250), most_dead_letters("7", 250)
    (2, 7)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", limit.strip())
    if not match or (not match[2] and "." in match[1]) or (match[2] and float(match[1]) > 100):
        raise UsageError(
            f"max_dead_letters {limit}: expected a number like 10 or a percentage like 1%",
            argument="max_dead_letters",
        )
    return int(documents * Fraction(match[1]) / 100) if match[2] else int(match[1])
