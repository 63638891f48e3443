"""The chain beside Beam's own: RunInference and WriteToParquet, with the same model and with a padded one."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.common import WORK, child, corpus, rounds, show, texts_of

DOCUMENTS = 1500
# The better of the usual sizes here; Beam's default grows the mini-batches while it watches the clock.
BATCH_DOCUMENTS = 32

_LOADED_AT: list[float] = []


class HubModelHandler(ModelHandler[str, PredictionResult, Any]):
    """A SavedModel for RunInference, as its documentation has one written."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def load_model(self) -> Any:
        from transforms.encoder.hub import import_tensorflow

        tf = import_tensorflow()
        import tensorflow_hub as hub

        model = hub.load(self._path)
        model.signatures["serving_default"](text=tf.constant(["warm up"]))
        _LOADED_AT.append(time.perf_counter())
        return model

    def run_inference(
        self, batch: Sequence[str], model: Any, inference_args: dict[str, Any] | None = None
    ) -> list[PredictionResult]:
        import tensorflow as tf

        vectors = model.signatures["serving_default"](text=tf.constant(batch))["embedding"].numpy()
        return [PredictionResult(text, vector) for text, vector in zip(batch, vectors, strict=True)]

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": BATCH_DOCUMENTS, "max_batch_size": BATCH_DOCUMENTS}


def run_beam(source: Path, model: str) -> None:
    """Child: seconds from the loaded model to the last row written."""
    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    output = WORK / "beam-chain"
    shutil.rmtree(output, ignore_errors=True)
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = (
            root
            | beam.Create(texts_of(source), reshuffle=False)
            | RunInference(HubModelHandler(model))
            | beam.Map(lambda result: {"text": result.example, "embedding": result.inference.tolist()})
            | beam.io.WriteToParquet(str(output / "part"), schema, file_name_suffix=".parquet")
        )
    print(json.dumps({"seconds": time.perf_counter() - _LOADED_AT[0]}))


def main() -> None:
    source, output = corpus(DOCUMENTS), WORK / "chain"
    child("bench_model", "prepare", source)
    from transforms.encoder.model.handle import resolve

    def ours() -> float:
        shutil.rmtree(output, ignore_errors=True)
        return child("bench_job", "job", source, output)["seconds"]

    chain, same, padded = rounds(
        3,
        ours,
        lambda: child("bench_chain", source, resolve("minilm"))["seconds"],
        lambda: child("bench_chain", source, WORK / "padded")["seconds"],
    )
    show("RunInference + WriteToParquet, same model / the chain", same, chain, ">= 1.2")
    show("RunInference + WriteToParquet, padded model / the chain", padded, chain, ">= 2.5")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        from benchmarks import bench_chain  # so that Beam pickles it by its real name

        bench_chain.run_beam(Path(sys.argv[1]), sys.argv[2])
