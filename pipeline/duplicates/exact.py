"""Exact copies: documents with the same fingerprint."""

from __future__ import annotations

import numpy as np

from pipeline.duplicates.read import mapped
from transforms.output.buckets import Buckets, begins


def owners(fingerprints: Buckets, count: int, path: str) -> np.ndarray:
    """Of each ordinal that of the first document with the same fingerprint: its own, of that.

    Args:
      fingerprints: rows of both halves of a fingerprint and the document's ordinal.
      count: of ordinals.
      path: of the file that the result is mapped to.

    Returns:
      int64 [count]; -1 where there is no document.
    """
    made = mapped(path, np.int64, count, fill=-1)
    for high, low, ordinals in fingerprints.in_order():
        ordinals = ordinals.astype(np.int64)
        new = begins(high, low)
        made[ordinals] = ordinals[new][np.cumsum(new) - 1]
    return made
