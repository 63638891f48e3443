"""Which texts may be alike: MinHash signatures in bands, and the buckets of texts that share a band.

Broder (1997); Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from pipeline.duplicates.shingles import mixed
from transforms.output.buckets import Buckets, begins

NUMBERS = 128  # of a signature
_MISSED = 0.01  # of pairs that are just alike enough, how many may share no band
_SEED = 1


def bands(threshold: float) -> tuple[int, int]:
    """How many bands a signature has, and how many numbers a band.

    Two texts of Jaccard similarity s share a band with probability 1 - (1 - s^r)^b. Candidates are looked at
    once more, so a wrong one costs time, and a missed one is lost: the bands are as long as they can be while
    one in a hundred is missed at most.

    >>> bands(0.9), bands(0.7), bands(1.0)
    ((12, 10), (32, 4), (1, 128))
    """
    fitting = (r for r in range(NUMBERS, 0, -1) if (1 - threshold**r) ** (NUMBERS // r) <= _MISSED)
    rows = next(fitting, 1)
    return NUMBERS // rows, rows


def band_keys(shingles: np.ndarray, sizes: np.ndarray, threshold: float) -> np.ndarray:
    """Of each text the hashes of its bands.

    Args:
      shingles: uint64, text after text, as `shingles` gives them.
      sizes: int64 [n], how many each text has, at least one.

    Returns:
      uint64 [n, bands]; those of two bands hardly ever agree.
    """
    count, rows = bands(threshold)
    signatures = _signatures(shingles, sizes)[:, : count * rows].reshape(-1, count, rows).astype(np.uint64)
    keys = np.broadcast_to(np.arange(count, dtype=np.uint64), signatures.shape[:2])
    for row in range(rows):
        keys = mixed(keys * np.uint64(31) + signatures[:, :, row])
    return keys


def _signatures(shingles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """MinHash signatures, uint32 [n, NUMBERS]."""
    from rensa import RMinHash

    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    found = RMinHash.digest_matrix_from_flat_token_hashes(shingles, ends, NUMBERS, _SEED).to_rows()
    numbers = np.fromiter(chain.from_iterable(found), np.uint32, len(sizes) * NUMBERS)
    return numbers.reshape(-1, NUMBERS)


def shared(bands: Buckets, copies: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bands that several texts have: ordinals, int64, bucket after bucket, and int64 how many each has.

    Args:
      bands: rows of a band's hash and an ordinal.
      copies: owners of exact copies; these take no part.
    """
    for keys, members in bands.in_order():
        ordinals = members.astype(np.int64)
        first = copies[ordinals] == ordinals
        keys, ordinals = keys[first], ordinals[first]
        starts = np.flatnonzero(begins(keys))
        sizes = np.diff(np.append(starts, len(keys)))
        yield ordinals[np.repeat(sizes > 1, sizes)], sizes[sizes > 1]
