"""What a sample of vectors is like: lengths, cosines, spread, near-duplicates."""

from __future__ import annotations

import dataclasses

import numpy as np

NEAR = 0.98  # cosine from which two documents are near-duplicates
_PAIRS = 20_000
_BLOCK = 1024
_LARGE = 1024  # vectors with more numbers: principal directions are those of so many rows
_LISTED = 20


@dataclasses.dataclass(frozen=True)
class Measures:
    """Of a sample of n vectors of length dim.

    Attributes:
      broken: how many hold NaN or infinity; they are left out of all that follows.
      zero, constant: how many are all zeros; how many have one and the same number everywhere.
      norms: float64 [n]; Euclidean lengths.
      random: float32 [pairs]; cosines of pairs drawn at random.
      nearest: float32 [n]; of each vector with the one nearest to it.
      twins: how many vectors have another at a cosine of NEAR or more.
      pairs: (row, row, cosine) of the nearest pairs of them, nearest first; rows count in the sample.
      spread: float64 [dim]; share of the variance along each principal direction, largest first; of
        1,024 rows where a vector is longer than that.
      places: float32 [n, 2]; the vectors along the first two of them; NaN where a vector is broken.
    """

    broken: int
    zero: int
    constant: int
    norms: np.ndarray
    random: np.ndarray
    nearest: np.ndarray
    twins: int
    pairs: list[tuple[int, int, float]]
    spread: np.ndarray
    places: np.ndarray

    @property
    def directions(self) -> int:
        """How many principal directions hold nine tenths of the variance; 0 where there is none."""
        return int(np.searchsorted(np.cumsum(self.spread), 0.9) + 1) if self.spread.sum() > 0 else 0


def measure(vectors: np.ndarray, seed: int = 0) -> Measures:
    """Measures vectors, float32 [n, dim]; n may be 0.

    Memory: two copies of them, and blocks of 1,024 x n cosines.
    """
    sound = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    kept = vectors[sound]
    norms = np.linalg.norm(kept.astype(np.float64), axis=1)  # squares of large numbers are no float32
    zero = int((norms == 0).sum())
    constant = int(((np.ptp(kept, axis=1) == 0) & (norms > 0)).sum()) if vectors.shape[1] > 1 else 0
    directed = sound[norms > 0]  # a zero vector has no direction
    unit = (vectors[directed] / norms[norms > 0, np.newaxis]).astype(np.float32)
    nearest, pairs, twins = _nearest(unit)
    spread, places = _principal(kept)
    everywhere = np.full((len(vectors), 2), np.nan, np.float32)
    everywhere[sound] = places
    return Measures(
        broken=len(vectors) - len(sound),
        zero=zero,
        constant=constant,
        norms=norms,
        random=_random(unit, seed),
        nearest=nearest,
        twins=twins,
        pairs=[(int(directed[a]), int(directed[b]), cosine) for a, b, cosine in pairs],
        spread=spread,
        places=everywhere,
    )


def _random(unit: np.ndarray, seed: int) -> np.ndarray:
    if len(unit) < 2:
        return np.empty(0, np.float32)
    random = np.random.default_rng(seed)
    first = random.integers(len(unit), size=_PAIRS)
    second = (first + random.integers(1, len(unit), size=_PAIRS)) % len(unit)  # never the same row
    return np.clip(np.einsum("ij,ij->i", unit[first], unit[second]), -1, 1)


def _nearest(unit: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, float]], int]:
    """Cosine of each row's nearest, the nearest pairs, and how many rows have a near-duplicate."""
    count = len(unit)
    if count < 2:
        return np.empty(0, np.float32), [], 0
    cosines, others = np.empty(count, np.float32), np.empty(count, np.int64)
    for low in range(0, count, _BLOCK):
        rows = np.arange(low, min(low + _BLOCK, count))
        block = unit[rows] @ unit.T
        block[rows - low, rows] = -2  # itself
        others[rows] = block.argmax(axis=1)
        cosines[rows] = block.max(axis=1)
    np.clip(cosines, -1, 1, out=cosines)
    near = np.flatnonzero(cosines >= NEAR)
    order = near[np.argsort(-cosines[near], kind="stable")].tolist()
    once = dict.fromkeys((min(a, int(others[a])), max(a, int(others[a]))) for a in order)
    listed = [(a, b, float(max(cosines[a], unit[a] @ unit[b]))) for a, b in list(once)[:_LISTED]]
    return cosines, listed, len(near)


def _principal(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the variance, and places along the first two directions.

    They are the eigenvectors of the covariance; where there are fewer rows than numbers of a vector, those of
    the rows' products, which has the same spectrum.
    """
    places = np.zeros((len(vectors), 2), np.float32)
    most = len(vectors) if vectors.shape[1] <= _LARGE else _LARGE
    some = vectors[:: max(1, len(vectors) // max(most, 1))][:most].astype(np.float64)
    if len(some) < 2:
        return np.zeros(0), places
    mean = some.mean(axis=0)
    centred = some - mean
    wide = len(some) < some.shape[1]
    values, found = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    values, axes = values[::-1].clip(0), found.T[::-1]
    if wide:
        axes = axes @ centred / np.sqrt(np.maximum(values, 1e-300))[:, np.newaxis]
    variance = np.zeros(some.shape[1])
    variance[: len(values)] = values
    if variance.sum() <= 1e-12 * np.square(some).sum():  # all the same, but for rounding
        return np.zeros(len(variance)), places
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, np.newaxis]
    shown = (vectors - mean) @ axes[:2].T
    places[:, : shown.shape[1]] = shown
    return variance / variance.sum(), places
