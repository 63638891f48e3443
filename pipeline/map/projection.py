"""Places in two or three dimensions: fitted on a sample or on everything, then given to every row."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from transforms.errors import UsageError
from transforms.extras import check_extra

METHODS = ("umap", "tsne", "pca")
# Components that the incremental fit of PCA keeps: with more of them it forgets less of the first ones.
_COMPONENTS = 16
_LEAST = {"umap": 20, "tsne": 10}  # rows from which a neighbourhood means something
_NEIGHBOURS = 15
_PERPLEXITY = 30

Fit = Callable[[], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Projection:
    """A fitted one.

    Attributes:
      sample: float32 [n, dim]; places of the sample's rows, NaN where a vector holds NaN or infinity.
      place: places of other rows, [rows, dim] for [rows, vector], all of them finite.
    """

    sample: np.ndarray
    place: Callable[[np.ndarray], np.ndarray]


def check_method(method: str, dim: int, rows: int, vector: int) -> None:
    """Raises UsageError where the packages, the rows or the dimensions are not there."""
    needs = {"umap": "umap", "tsne": "openTSNE", "pca": "sklearn"}
    check_extra("explore", needs[method], "sklearn", "matplotlib", "plotly", what="map")
    least = _LEAST.get(method, dim + 1)
    if rows < least:
        other = "" if method == "pca" or rows <= dim else "; give --method pca"
        raise UsageError(
            f"{method} needs at least {least} rows, there are {rows}{other}",
            argument=None if method == "pca" else "method",
        )
    if vector < dim:
        raise UsageError(f"--dim {dim}: the vectors have {vector} numbers", argument="dim")


def fit(method: str, sample: np.ndarray, *, dim: int, seed: int, everything: Fit | None = None) -> Projection:
    """Fits a projection.

    Args:
      method: one of METHODS.
      sample: float32 [n, vector].
      dim: 2 or 3.
      everything: gives all rows in blocks, for a PCA that is fitted on all; None fits on the sample.

    Raises:
      UsageError: too few of the vectors are finite.
    """
    sound = np.isfinite(sample).all(axis=1)
    if sound.sum() < _LEAST.get(method, dim + 1):
        raise UsageError(f"{method}: only {sound.sum()} of {len(sample)} sampled vectors hold finite numbers")
    fitted, place = _FITS[method](sample[sound], dim, seed, everything)
    places = np.full((len(sample), dim), np.nan, np.float32)
    places[sound] = fitted
    return Projection(places, place)


def placed(
    blocks: Iterable[tuple[Any, np.ndarray]], projection: Projection, chosen: np.ndarray
) -> Iterator[tuple[Any, np.ndarray]]:
    """Every block with the places of its rows, float32 [rows, dim].

    Args:
      blocks: (anything, vectors), in the order of all rows.
      chosen: ascending places of the sample's rows among all; these have the place that they were fitted at.
    """
    start = 0
    for block, vectors in blocks:
        places = np.full((len(vectors), projection.sample.shape[1]), np.nan, np.float32)
        low, high = np.searchsorted(chosen, [start, start + len(vectors)])
        inside = np.zeros(len(vectors), bool)
        inside[chosen[low:high] - start] = True
        others = ~inside & np.isfinite(vectors).all(axis=1)
        places[inside] = projection.sample[low:high]
        if others.any():
            places[others] = projection.place(vectors[others])
        yield block, places
        start += len(vectors)


def _pca(
    sample: np.ndarray, dim: int, seed: int, everything: Fit | None
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(n_components=min(_COMPONENTS, *sample.shape))
    for block in _steady(everything() if everything else [sample], least=pca.n_components):
        pca.partial_fit(block)

    def place(vectors: np.ndarray) -> np.ndarray:
        return pca.transform(vectors)[:, :dim]

    return place(sample), place


def _steady(blocks: Iterable[np.ndarray], least: int) -> Iterator[np.ndarray]:
    """The finite rows of the blocks; fewer than `least` go with those before them, or after them."""
    held = None
    for block in blocks:
        sound = block[np.isfinite(block).all(axis=1)]
        if held is not None and min(len(held), len(sound)) >= least:
            yield held
            held = sound
        else:
            held = sound if held is None else np.concatenate([held, sound])
    if held is not None:
        yield held


def _umap(
    sample: np.ndarray, dim: int, seed: int, everything: Fit | None
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    # Its package would load TensorFlow for a class that is not wanted here: ten seconds, half a gigabyte.
    sys.modules.setdefault("umap.parametric_umap", None)  # type: ignore[arg-type]
    from umap import UMAP

    # One thread: several would not give the same picture twice.
    umap = UMAP(
        n_components=dim,
        n_neighbors=min(_NEIGHBOURS, len(sample) - 1),
        metric="cosine",
        random_state=seed,
        transform_seed=seed,
        n_jobs=1,
    )
    return umap.fit_transform(sample), umap.transform


def _tsne(
    sample: np.ndarray, dim: int, seed: int, everything: Fit | None
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    from openTSNE import TSNE

    embedding = TSNE(
        n_components=dim,
        perplexity=min(_PERPLEXITY, (len(sample) - 1) / 3),
        metric="cosine",
        negative_gradient_method="auto" if dim == 2 else "bh",
        random_state=seed,
        n_jobs=1,
    ).fit(sample)

    def place(vectors: np.ndarray) -> np.ndarray:
        """Among the nearest of the sample, at their median; no further steps, which would cost minutes."""
        return np.asarray(embedding.prepare_partial(vectors, initialization="median"))

    return np.asarray(embedding), place


_FITS = {"umap": _umap, "tsne": _tsne, "pca": _pca}
