"""Regions of a map, and the words of their documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.map.points import told_apart
from pipeline.words import characteristic_words

_WORDS = 3


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Clusters of places.

    Attributes:
      of: numbers of the clusters that places lie in, int32 [rows], the largest is 0; -1 where a place is NaN.
      names: of each its words; "region 3" where it has none that tell it from others.
      centres: float32 [clusters, dim]; the median of the sample's places.
      sizes: how many of the sample's places.
    """

    of: Callable[[np.ndarray], np.ndarray]
    names: list[str]
    centres: np.ndarray
    sizes: list[int]


def find_clusters(places: np.ndarray, count: int, texts: Sequence[str], *, seed: int) -> Clusters:
    """Clusters the sample's places by mini-batch k-means.

    Args:
      places: float32 [n, dim]; NaN where a row has no place.
      count: how many clusters; fewer where there are fewer different places.
      texts: of each place what its words are taken from.
    """
    from sklearn.cluster import MiniBatchKMeans

    sound = np.isfinite(places).all(axis=1)
    known = places[sound].astype(np.float64)
    count = min(count, len(np.unique(known, axis=0)))
    means = MiniBatchKMeans(count, random_state=seed, n_init=5, batch_size=4096).fit(known)
    sizes = np.bincount(means.labels_, minlength=count)
    number = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")  # of a label: its place by size

    def of(some: np.ndarray) -> np.ndarray:
        found = np.full(len(some), -1, np.int32)
        there = np.isfinite(some).all(axis=1)
        if there.any():
            found[there] = number[means.predict(some[there].astype(np.float64))]
        return found

    mine = of(places)
    pairs = ((group, text) for group, text in zip(mine.tolist(), texts, strict=True) if group >= 0)
    words = characteristic_words(pairs, top=_WORDS)
    filled = [group for group in range(count) if (mine == group).any()]
    return Clusters(
        of,
        told_apart([", ".join(words.get(group, [])) or f"region {group + 1}" for group in filled]),
        np.array([np.median(places[mine == group], axis=0) for group in filled], np.float32),
        [int((mine == group).sum()) for group in filled],
    )
