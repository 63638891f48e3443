"""The exported model: packed over padded, and its shares of the machine's limits of matrix products."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.common import WORK, child, corpus, mini_batches, rounds, show

DOCUMENTS = 1500


def run_model(batches_path: Path, model_path: str, *, in_flight: int) -> None:
    """Child: documents/s and floating point operations/s of a model, mini-batches in flight as in the job."""
    from transforms.encoder.hub import import_tensorflow
    from transforms.encoder.model.handle import resolve

    tf = import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(max(1, (os.cpu_count() or 1) // in_flight))
    import tensorflow_hub as hub

    batches = json.loads(batches_path.read_text())
    function = hub.load(str(resolve(model_path))).signatures["serving_default"]
    with ThreadPoolExecutor(in_flight) as threads:
        embed = lambda texts: function(text=tf.constant(texts))["embedding"].numpy()  # noqa: E731
        list(threads.map(embed, batches[:4]))
        started = time.perf_counter()
        list(threads.map(embed, batches))
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds}))


def run_gemm(precision: str) -> None:
    """Child: the best rate that matrix products of BERT's shapes and of large squares reach here.

    The second factor is a constant of a graph, which oneDNN lays out once, or not: what is faster counts.
    """
    from transforms.encoder.hub import import_tensorflow

    tf = import_tensorflow()
    best = 0.0
    for m, k, n in ((1000, 384, 1536), (4000, 384, 1536), (2048, 2048, 2048)):
        a, b = (tf.cast(tf.random.normal(shape), precision) for shape in ([m, k], [k, n]))
        fixed = b.numpy()
        for product in (lambda a, b=b: tf.matmul(a, b), tf.function(lambda a, b=fixed: tf.matmul(a, b))):
            product(a).numpy()
            for _ in range(3):
                repeats = max(1, int(2e10 / (2 * m * k * n)))
                started = time.perf_counter()
                for _ in range(repeats):
                    c = product(a)
                c.numpy()
                best = max(best, 2 * m * k * n * repeats / (time.perf_counter() - started))
    print(json.dumps({"flops": best}))


def work_of(batches: list[list[str]]) -> float:
    """Floating point operations that MiniLM needs for these texts, padding not counted.

    A token needs 2 (4 h^2 + 2 h i) a layer in the dense parts, and 4 h l in attention to l tokens.
    """
    from transforms.encoder.config import ModelConfig
    from transforms.encoder.hub import HubEncoder

    encoder = HubEncoder(ModelConfig("minilm"))
    hidden, inner, layers = 384, 1536, 6
    lengths = [min(256, n) for texts in batches for n in encoder.count_tokens(texts).tolist()]
    dense = 2 * (4 * hidden**2 + 2 * hidden * inner)
    return float(sum(layers * n * (dense + 4 * hidden * n) for n in lengths))


def prepare(source: Path) -> None:
    """Child: writes the mini-batches and the padded model; prints the work in the mini-batches."""
    batches = mini_batches(source, "minilm")
    (WORK / "model-batches.json").write_text(json.dumps(batches))
    from benchmarks.padded import save_padded

    save_padded(WORK / "padded")
    print(json.dumps({"work": work_of(batches), "documents": sum(map(len, batches))}))


def main() -> None:
    work = child("bench_model", "prepare", corpus(DOCUMENTS))["work"]
    batches = WORK / "model-batches.json"
    models = {"packed": "minilm", "padded": WORK / "padded", "bfloat16": bfloat16()}
    measures = [partial(seconds, batches, model) for model in models.values()]
    limits = [partial(limit, precision) for precision in ("float32", "bfloat16")]
    packed, padded, half, limit32, limit16 = rounds(3, *measures, *limits)
    show("padded / packed model time, same mini-batches", padded, packed, "> 1")
    show("packed model's rate / fp32 GEMM limit", [work / s for s in packed], limit32, ">= 0.85")
    show("the same in bfloat16 / bf16 GEMM limit", [work / s for s in half], limit16, ">= 0.60")


def seconds(batches: Path, model: str | Path) -> float:
    return float(child("bench_model", "model", batches, model)["seconds"])


def limit(precision: str) -> float:
    return float(child("bench_model", "gemm", precision)["flops"])


def bfloat16() -> Path:
    from transforms.encoder.export.minilm import ensure_minilm
    from transforms.encoder.model.handle import cache_dir

    return ensure_minilm(cache_dir(), precision="bfloat16")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    elif sys.argv[1] == "model":
        run_model(Path(sys.argv[2]), sys.argv[3], in_flight=2)
    else:
        run_gemm(sys.argv[2])
