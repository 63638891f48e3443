"""Mini-batches for training: rows/s of `embedbeam.batches` beside bare pyarrow, and a naive generator.

    python -m benchmarks.bench_batches [OUTPUT]     an output in Parquet; 200,000 x 384 are made without one

Each way reads the vectors and one column from a warm page cache and makes mini-batches of 1,024 rows of them.
Rounds take turns; medians, with least and most.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import tensorflow as tf

from benchmarks.common import WORK
from benchmarks.synthetic import clouds, write_output
from pipeline.training.batches import batches
from transforms.output.reader import Output, open_output

SIZE, ROUNDS, NAIVE_ROWS = 1024, 5, 20_000
COLUMNS = ["embedding", "kind"]


def paths(output: Output) -> list[str]:
    return [output.folder.join(receipt.part) for receipt in output.receipts if receipt.part]


def bare(output: Output) -> int:
    """pyarrow's own iteration, file after file; nothing is done with the rows."""
    return sum(
        len(b) for path in paths(output) for b in pq.ParquetFile(path).iter_batches(SIZE, columns=COLUMNS)
    )


def scanner(output: Output) -> int:
    """pyarrow's dataset, which decodes files in parallel and gives rows in any size."""
    return sum(len(block) for block in ds.dataset(paths(output)).to_batches(columns=COLUMNS))


def naive(output: Output) -> int:
    """What is written first: a Python generator of rows under `tf.data`. Some of the rows alone."""

    def rows() -> Iterator[dict[str, Any]]:
        for path in paths(output):
            for block in pq.ParquetFile(path).iter_batches(columns=COLUMNS):
                for row in block.to_pylist():
                    yield {"embedding": np.array(row["embedding"], np.float32), "kind": row["kind"]}

    signature = {"embedding": tf.TensorSpec([output.dim]), "kind": tf.TensorSpec([], tf.int64)}
    data = tf.data.Dataset.from_generator(rows, output_signature=signature).take(NAIVE_ROWS).batch(SIZE)
    return sum(len(batch["kind"]) for batch in data.prefetch(tf.data.AUTOTUNE))


def ours(framework: str, **how: Any) -> Callable[[Output], int]:
    def run(output: Output) -> int:
        data = batches(output, batch_size=SIZE, columns=["kind"], framework=framework, **how)
        return sum(len(batch["kind"]) for batch in data)

    return run


def later(framework: str, **how: Any) -> Callable[[Output], int]:
    """As `ours`, but each round is the next epoch of one dataset: the first one, which is not counted, reads
    which classes there are, and rows of each."""
    made: list[Any] = []

    def run(output: Output) -> int:
        made[:] = made or [batches(output, batch_size=SIZE, columns=["kind"], framework=framework, **how)]
        return sum(len(batch["kind"]) for batch in made[0])

    return run


WAYS: dict[str, Callable[[Output], int]] = {
    "bare pyarrow, iter_batches": bare,
    "bare pyarrow, dataset": scanner,
    "numpy, in order": ours("numpy"),
    "tf, in order": ours("tf"),
    "numpy, shuffled": ours("numpy", shuffle=True),
    "tf, shuffled": ours("tf", shuffle=True),
    "tf, shuffled and balanced, first epoch": ours("tf", shuffle=True, balance="kind"),
    "tf, shuffled and balanced, later epochs": later("tf", shuffle=True, balance="kind"),
    "numpy, shuffled and balanced, later epochs": later("numpy", shuffle=True, balance="kind"),
    "naive generator under tf": naive,
}


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else str(WORK / "batches")
    if not os.path.exists(path):
        write_output(path, clouds(200_000, 384, shards=8), dim=384, kept=[["kind", "int64"]])
    output = open_output(path)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(ROUNDS + 1):
        for name, way in list(WAYS.items())[:: 1 if number % 2 else -1]:
            begun = time.perf_counter()
            rows = way(output)
            if number:  # the first round loads libraries and files
                rates[name].append(rows / (time.perf_counter() - begun))
    print(f"{output.count:,} x {output.dim}, mini-batches of {SIZE:,}, n={ROUNDS}")
    print("| way | rows/s | of iter_batches | of the naive generator |\n| --- | --- | --- | --- |")
    for name, found in rates.items():
        over = []
        for other in ("bare pyarrow, iter_batches", "naive generator under tf"):
            ratios = [mine / its for mine, its in zip(found, rates[other], strict=True)]
            over.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"| {name} | {statistics.median(found):,.0f} | {over[0]} | {over[1]} |")


if __name__ == "__main__":
    main()
