"""Where the clusters lie: k-means over all rows in blocks, or HDBSCAN on a sample of them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.clustering.assign import NOISE, Assign
from pipeline.search.exact import unit
from transforms.errors import UsageError
from transforms.output.reader import Output
from transforms.output.sample import sample_rows

START_ROWS = 20_000  # k-means starts from these
STARTS = 3  # the best of so many
AUTO_ROWS = 5_000  # silhouettes need all distances between them
DENSE_ROWS = 10_000  # HDBSCAN's time grows with their square
DENSE_NUMBERS = 50
GRID = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100)
STILL = 1e-4  # k-means ends when a pass turns its centres by less, as the mean of 1 - cosine


@dataclasses.dataclass(frozen=True)
class Found:
    """Clusters that were found.

    Attributes:
      assign: gives any row its cluster.
      passes: how often all rows were read for them.
      moved: by how much the last pass turned the centres, as the mean of 1 - cosine; None if none was made.
      sampled: rows of the sample.
    """

    assign: Assign
    passes: int
    moved: float | None
    sampled: int


def kmeans(
    output: Output, k: int, *, seed: int, passes: int, told: Callable[[int, int], None] = lambda *_: None
) -> Found:
    """Spherical k-means: of unit vectors, around centres that are made unit vectors too.

    Lloyd's algorithm on a sample finds the start (k-means++), then scikit-learn's MiniBatchKMeans takes all
    rows in blocks (Sculley, Web-scale k-means clustering, 2010), again and again until the centres are still.

    Args:
      k: how many clusters.
      seed: of the sample and of the start.
      passes: over all rows, at most.
      told: gets the pass and the rows that it has read.

    Raises:
      UsageError: k is larger than the number of rows, or of different vectors.
    """
    from sklearn.cluster import MiniBatchKMeans

    check_k(k, output)
    sample = drawn(output, max(START_ROWS, 10 * k), seed)
    start, labels = lloyd(sample, k, seed, starts=STARTS)
    if (different := len(np.unique(labels))) < k:
        raise UsageError(
            f"k {k}: only {different} different vectors in a sample of {len(sample):,}", argument="k"
        )
    model = MiniBatchKMeans(k, init=start, n_init=1, random_state=seed, reassignment_ratio=0)
    # The start weighs as much as a pass: rows lie in the order of the input, and the first ones, alike as
    # they may be, would drag centres of no weight along.
    model.partial_fit(sample, sample_weight=np.full(len(sample), output.count / len(sample)))
    model.cluster_centers_ = unit(model.cluster_centers_)
    centres, moved, made = model.cluster_centers_, 1.0, 0
    while made < passes and moved > STILL:
        made, before = made + 1, centres.copy()  # changed in place
        for read, vectors in _blocks(output):
            told(made, read)
            model.partial_fit(vectors)
            model.cluster_centers_ = unit(model.cluster_centers_)
        centres = model.cluster_centers_
        moved = max(0.0, float(1 - (before * centres).sum(axis=1).mean()))
    asked = {"method": "kmeans", "k": k, "seed": seed, "passes": passes}
    assign = Assign(centres, np.arange(k, dtype=np.int32), centres, asked, output.schema.chunks)
    return Found(assign, made, moved, len(sample))


def check_k(k: int, output: Output) -> None:
    """Raises UsageError where so many clusters cannot be."""
    if k < 2:
        raise UsageError(f"k {k}: expected at least 2, or auto", argument="k")
    if k > output.count:
        raise UsageError(f"k {k}: {output.folder.path} has {output.count:,} rows", argument="k")


def _blocks(output: Output) -> Iterator[tuple[int, np.ndarray]]:
    """Rows that were read, and the unit vectors of the last of them."""
    read = 0
    for block in output.rows(output.vector_columns):
        vectors = _directions(output, output.matrix(block))
        read += len(vectors)
        yield read, vectors


def drawn(output: Output, rows: int, seed: int) -> np.ndarray:
    """Unit vectors of some rows drawn at random."""
    return _directions(output, output.matrix(sample_rows(output, rows, seed, output.vector_columns)))


def _directions(output: Output, vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1.

    Raises:
      UsageError: one holds NaN or infinity.
    """
    if not np.isfinite(vectors).all():
        raise UsageError(f"{output.folder.path}: vectors hold NaN or infinity; `embedbeam verify` names them")
    return unit(vectors)


def lloyd(vectors: np.ndarray, k: int, seed: int, *, starts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Centres [k, dim] and labels by k-means in memory, the best of some starts."""
    from sklearn.cluster import KMeans, kmeans_plusplus
    from threadpoolctl import threadpool_limits

    # Threads would add their sums up in any order: other last bits each time.
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than k: the caller says so
        # Of float32 it converts blocks again and again, which takes six times as long.
        doubles = vectors.astype(np.float64)
        begun = (kmeans_plusplus(doubles, k, random_state=seed + i)[0] for i in range(starts))
        models = (KMeans(k, init=start.astype(np.float32), n_init=1).fit(vectors) for start in begun)
        best = min(models, key=lambda model: model.inertia_)
    return best.cluster_centers_, best.labels_


def silhouettes(
    output: Output, seed: int, told: Callable[[int], None] = lambda _: None
) -> tuple[dict[int, float], int]:
    """The mean silhouette (Rousseeuw, 1987; by cosine distance) of each k of a grid, on a sample.

    Returns:
      Silhouettes by k, and the rows of the sample.

    Raises:
      UsageError: no k of the grid can be tried.
    """
    from sklearn.metrics import silhouette_score

    sample = drawn(output, AUTO_ROWS, seed)
    distances = np.maximum(1 - sample @ sample.T, 0)
    np.fill_diagonal(distances, 0)
    found: dict[int, float] = {}
    for k in GRID:
        if k >= len(sample):
            break
        told(k)
        labels = lloyd(sample, k, seed)[1]
        if len(np.unique(labels)) < k:
            break
        found[k] = float(silhouette_score(distances, labels, metric="precomputed"))
    if not found:
        few = "rows" if len(sample) < 3 else "different vectors"
        raise UsageError(
            f"k auto: {output.folder.path} has fewer than three {few}: nothing to group", argument="k"
        )
    return found, len(sample)


def hdbscan(output: Output, *, seed: int) -> Found:
    """Clusters as dense regions (Campello et al., 2013), by scikit-learn's HDBSCAN on a sample.

    The sample's unit vectors are reduced to at most DENSE_NUMBERS numbers by PCA. A row that is not in the
    sample gets the label of the row there that is nearest to it, which may be noise.

    Raises:
      UsageError: there are too few rows for one cluster.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    sample = drawn(output, DENSE_ROWS, seed)
    least = max(5, len(sample) // 200)
    if len(sample) < 2 * least:
        raise UsageError(
            f"method hdbscan: {output.folder.path} has {output.count:,} rows; expected at least {2 * least}",
            argument="method",
        )
    reduced = PCA(min(DENSE_NUMBERS, *sample.shape), random_state=seed).fit_transform(sample)
    labels = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(reduced).astype(np.int32)
    labels[labels < 0] = NOISE
    means = [sample[labels == one].mean(axis=0) for one in range(labels.max() + 1)]
    centres = unit(np.array(means, np.float32)) if means else np.zeros((0, sample.shape[1]), np.float32)
    asked = {"method": "hdbscan", "seed": seed, "min_cluster_size": least, "sample": len(sample)}
    return Found(Assign(sample, labels, centres, asked, output.schema.chunks), 0, None, len(sample))
