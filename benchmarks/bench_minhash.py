"""Which library makes MinHash signatures fastest: time of the CPU for a text, of each that is installed.

    python -m benchmarks.bench_minhash

Texts are pairs of docstrings of the standard library; signatures have 128 numbers.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import corpus, texts_of


def main() -> None:
    """Signatures of 128 numbers, as an array, of texts that are shingled already; one thread."""
    import pyarrow as pa

    from pipeline.duplicates.shingles import shingles

    short = texts_of(corpus(6_000))
    texts = [f"{one}\n{other}" for one, other in itertools.pairwise(short)]
    hashes, sizes = shingles(pa.array(texts))
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    print(f"{len(texts):,} texts of {len(hashes) / len(texts):.0f} shingles")
    for name, make in _MAKERS.items():
        if importlib.util.find_spec(name.split()[0]) is None:
            print(f"{name:<30} not installed")
            continue
        seconds = []
        for _ in range(3):
            begun = time.process_time()
            make(hashes, ends)
            seconds.append(time.process_time() - begun)
        print(f"{name:<30} {min(seconds) / len(texts) * 1e6:6.1f} microseconds a text", flush=True)


def _rensa(hashes: np.ndarray, ends: np.ndarray) -> Any:
    from rensa import RMinHash

    rows = RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, 128, 1).to_rows()
    return np.fromiter(itertools.chain.from_iterable(rows), np.uint32, 128 * len(rows))


def _datasketch(hashes: np.ndarray, ends: np.ndarray) -> Any:
    from datasketch import MinHash

    about: dict[str, Any] = {"num_perm": 128, "hashfunc": int, "scheme": "affine32"}
    about["permutations"] = MinHash(**about).permutations
    made, hashes = [], hashes & np.uint64(0xFFFFFFFF)
    for low, high in itertools.pairwise(ends.tolist()):
        one = MinHash(**about)
        one.update_batch(hashes[low:high])
        made.append(one.hashvalues)
    return np.array(made)


def _fastsketch(hashes: np.ndarray, ends: np.ndarray) -> Any:
    from FastSketchLSH import FastSimilaritySketch

    return np.asarray(FastSimilaritySketch(128).batch_csr(hashes, ends, prehashed=True, num_threads=1))


def _numpy(hashes: np.ndarray, ends: np.ndarray) -> Any:
    numbers = np.random.default_rng(0).integers(0, 2**64, (2, 128), np.uint64)
    made = []
    for at in range(0, len(ends) - 1, 256):
        some = ends[at : at + 257].astype(np.int64)
        values = hashes[some[0] : some[-1], None] * (numbers[0] | np.uint64(1)) + numbers[1]
        made.append(np.minimum.reduceat(values, some[:-1] - some[0]))
    return np.concatenate(made)


_MAKERS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "rensa": _rensa,
    "datasketch": _datasketch,
    "FastSketchLSH": _fastsketch,
    "numpy alone": _numpy,
}


if __name__ == "__main__":
    main()
