"""How fast exact search is beside the least it could cost; prints ratios, medians of several rounds.

One question: against a bare pyarrow read of the same column with as many threads, and against a matmul of
the same vectors in memory, which reads no file. Many questions: against that matmul.

    python -m benchmarks.bench_search [OUTPUT]     an output with Parquet files; without it one is made
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq

from benchmarks.common import WORK, rounds, show
from benchmarks.synthetic import clouds, write_output
from pipeline.search.exact import _BLOCK_ROWS, _LANES, TILE, Part, nearest, parts_of, unit
from transforms.output.reader import Output, open_output

_ROWS, _DIM, _K = 200_000, 384, 10
_COUNTS = (1, 1024, 8192)  # of questions
_ROUNDS = 3


def bare_read(output: Output, parts: list[Part]) -> float:
    """Seconds in which pyarrow alone decodes the column."""

    def read(part: Part) -> int:
        file = pq.ParquetFile(output.folder.join(part.name))
        return sum(len(block) for block in file.iter_batches(_BLOCK_ROWS, columns=["embedding"]))

    began = time.perf_counter()
    with ThreadPoolExecutor(min(_LANES, len(parts), 2)) as threads:
        assert sum(threads.map(read, parts)) == sum(part.rows for part in parts)
    return time.perf_counter() - began


def bare_matmul(rows: np.ndarray, questions: np.ndarray) -> float:
    """Seconds of the products alone, in the tiles in which search makes them."""
    began = time.perf_counter()
    for low in range(0, len(rows), _BLOCK_ROWS):
        block = rows[low : low + _BLOCK_ROWS].T
        for first in range(0, len(questions), TILE):
            questions[first : first + TILE] @ block
    return time.perf_counter() - began


def search(output: Output, parts: list[Part], questions: np.ndarray) -> float:
    began = time.perf_counter()
    nearest(output, questions, _K, parts=parts)
    return time.perf_counter() - began


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else str(WORK / "search")
    if len(sys.argv) == 1 and not (WORK / "search").exists():
        write_output(path, clouds(_ROWS, _DIM, shards=4), dim=_DIM, kept=[["kind", "int64"]])
    output = open_output(path)
    parts = [part for part in parts_of(output) if part.first + part.rows <= _ROWS]
    blocks = [block for part in parts for block in output.part(part.name, output.vector_columns)]
    rows = unit(np.concatenate([output.matrix(block) for block in blocks]))
    del blocks
    print(f"{len(rows):,} rows of {output.dim} float32 numbers in {len(parts)} parts, k {_K}")
    for count in _COUNTS:
        questions = unit(np.random.default_rng(0).standard_normal((count, output.dim), np.float32))
        read, matmul, found = rounds(
            _ROUNDS,
            lambda: bare_read(output, parts),
            lambda questions=questions: bare_matmul(rows, questions),  # type: ignore[misc]
            lambda questions=questions: search(output, parts, questions),  # type: ignore[misc]
        )
        speeds = ", ".join(
            f"{name} {len(rows) / np.median(times):,.0f}"
            for name, times in (("bare read", read), ("bare matmul", matmul), ("search", found))
        )
        print(f"{count:,} questions, rows/s: {speeds}")
        show(f"  bare read of the column / search, {count:,} questions", read, found, "0.8 for one")
        show(f"  bare matmul in memory / search, {count:,} questions", matmul, found, "0.8 for many")


if __name__ == "__main__":
    main()
