"""Child of peers.py, in embedbeam's environment: the job, and Beam's own ways to embed with a SavedModel.

`python -m benchmarks.peers_beam PEER MODEL SOURCE WORK SIZES`: as peers_others.py, by the same rules.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import texts_of

SEARCHED = 300  # documents that each size is tried on
_LOADED: list[float] = []


def job(model: str, source: Path, work: Path) -> tuple[float, np.ndarray]:
    """Seconds from the first document read to the last shard committed, and the vectors."""
    from pipeline.cli import main
    from transforms import observer

    seen: dict[type, list[float]] = {}
    observer.observe(lambda event: seen.setdefault(type(event), []).append(time.monotonic()))
    out = work / "job"
    shutil.rmtree(out, ignore_errors=True)
    given = ["--input", str(source), "--output", str(out), "--model", model, "--id-field", "n"]
    # The peers cut long documents; all do the same work.
    assert main(["embed", *given, "--long-documents", "truncate", "--quiet"]) == 0
    return seen[observer.ShardDone][-1] - seen[observer.Read][0], _in_order(out, "doc_id")


def run_inference(model: str, source: Path, work: Path, size: int) -> tuple[float, np.ndarray]:
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from benchmarks import bench_chain

    bench_chain.BATCH_DOCUMENTS = size
    bench_chain._LOADED_AT.clear()
    out = work / "run-inference"
    shutil.rmtree(out, ignore_errors=True)
    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    texts = texts_of(source)
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = (
            root
            | beam.Create(texts, reshuffle=False)
            | RunInference(bench_chain.HubModelHandler(model))
            | beam.Map(lambda result: {"text": result.example, "embedding": result.inference.tolist()})
            | beam.io.WriteToParquet(str(out / "part"), schema, file_name_suffix=".parquet")
        )
    return time.perf_counter() - bench_chain._LOADED_AT[0], _by_text(out, texts)


def ml_transform(model: str, source: Path, work: Path, size: int) -> tuple[float, np.ndarray]:
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.ml.transforms.embeddings import tensorflow_hub as beam_hub
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    load = beam_hub._TensorflowHubModelHandler.load_model

    def timed(self: object) -> object:
        found = load(self)
        _LOADED.append(time.monotonic())
        return found

    beam_hub._TensorflowHubModelHandler.load_model = timed
    out, artifacts = work / "ml-transform", work / "ml-transform-artifacts"
    for folder in (out, artifacts):
        shutil.rmtree(folder, ignore_errors=True)
    embeddings = beam_hub.TensorflowHubTextEmbeddings(
        columns=["embedding"], hub_url=model, min_batch_size=size, max_batch_size=size
    )
    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    texts = texts_of(source)
    _LOADED.clear()
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = (
            root
            | beam.Create([{"text": text, "embedding": text} for text in texts], reshuffle=False)
            | MLTransform(write_artifact_location=str(artifacts)).with_transform(embeddings)
            | beam.Map(lambda row: {"text": row["text"], "embedding": row["embedding"]})
            | beam.io.WriteToParquet(str(out / "part"), schema, file_name_suffix=".parquet")
        )
    seconds = time.monotonic() - _LOADED[0]
    beam_hub._TensorflowHubModelHandler.load_model = load
    return seconds, _by_text(out, texts)


def _by_text(folder: Path, texts: list[str]) -> np.ndarray:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder)
    found = dict(zip(table["text"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    return np.array([found[text] for text in texts], np.float32)


def _in_order(folder: Path, key: str) -> np.ndarray:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder)
    order = np.argsort([int(value) for value in table[key].to_pylist()])
    return np.array(table["embedding"].to_pylist(), np.float32)[order]


Run = Callable[[Path, int], tuple[float, np.ndarray]]


def main(peer: str, model: str, source: str, work: str, sizes: str) -> None:
    from transforms.encoder.hub import import_tensorflow

    import_tensorflow()
    folder, whole, best = Path(work), Path(source), json.loads(sizes)
    runs: dict[str, Run] = {
        "job": lambda path, size: job(model, path, folder),
        "run-inference": lambda path, size: run_inference(model, path, folder, size),
        "ml-transform": lambda path, size: ml_transform(model, path, folder, size),
    }
    run = runs[peer]
    if len(best) > 1:
        lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
        part = folder / "part.jsonl"
        part.write_text("".join(lines[:: max(1, len(lines) // SEARCHED)]), encoding="utf-8")
        best = [min(best, key=lambda size: run(part, size)[0])]
    seconds, vectors = run(whole, best[0])
    np.save(folder / "vectors.npy", vectors)
    print(json.dumps({"seconds": seconds, "size": best[0]}))


if __name__ == "__main__":
    from benchmarks import peers_beam  # so that Beam pickles functions by the module's real name

    peers_beam.main(*sys.argv[1:])
