"""Child of peers.py, in the peers' environment: one peer embeds one corpus. Imports nothing of embedbeam.

`python peers_others.py PEER CHECKPOINT SOURCE WORK SIZES`: the best of SIZES is found on a part of the
corpus, then the whole is timed. Loading is left out; what a peer does with its vectors is its own way.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

CORES = len(os.sched_getaffinity(0))
SEARCHED = 300  # documents that each size is tried on
WINDOW = 256  # tokens, as sentence-transformers cuts for this model
Embed = Callable[[list[str], int], np.ndarray]


def sentence_transformers(checkpoint: Path, dtype: str) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(CORES)
    kwargs = {"torch_dtype": getattr(torch, dtype)}
    model = SentenceTransformer(str(checkpoint), device="cpu", model_kwargs=kwargs)
    return lambda texts, size: np.asarray(model.encode(texts, batch_size=size), np.float32)


def onnx_file(checkpoint: Path, work: Path, quantized: bool) -> Path:
    """The model as ONNX Runtime's own optimizer for BERT leaves it, and its dynamic int8 form; made once."""
    path, small = work / "minilm.onnx", work / "minilm-int8.onnx"
    if not path.exists():
        import torch
        from onnxruntime.transformers import optimizer
        from transformers import BertModel

        bert = BertModel.from_pretrained(checkpoint, attn_implementation="eager", add_pooling_layer=False)

        class Pooled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bert = bert

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                rows = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                mask = attention_mask.unsqueeze(-1).to(rows.dtype)
                return torch.nn.functional.normalize((rows * mask).sum(1) / mask.sum(1), dim=-1)

        ids = torch.randint(1000, 2000, (2, 17))
        plain, free = work / "minilm-plain.onnx", {0: "n", 1: "l"}
        torch.onnx.export(
            Pooled().eval(),
            (ids, torch.ones_like(ids)),
            str(plain),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "embedding": {0: "n"}},
            dynamo=False,
            opset_version=18,
        )
        fused = optimizer.optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=384)
        fused.save_model_to_file(str(path))
    if quantized and not small.exists():
        from onnx import TensorProto
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # The fused operators tell no types, all of which are this one.
        extra = {"DefaultTensorType": TensorProto.FLOAT}
        quantize_dynamic(
            str(path), str(small), weight_type=QuantType.QInt8, per_channel=True, extra_options=extra
        )
    return small if quantized else path


def onnx_runtime(checkpoint: Path, work: Path, *, quantized: bool, in_flight: int) -> Embed:
    """Sorted by length, padded to the longest of a mini-batch, all cores in one call or a call on each."""
    import onnxruntime as ort
    from tokenizers import Tokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = CORES // in_flight
    path = str(onnx_file(checkpoint, work, quantized))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    takes = {given.name: np.dtype("i4" if "int32" in given.type else "i8") for given in session.get_inputs()}
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.enable_truncation(WINDOW)
    tokenizer.no_padding()

    def run(encodings: list[Any]) -> np.ndarray:
        longest = max(len(e.ids) for e in encodings)
        ids = np.zeros((len(encodings), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask}
        return session.run(None, {name: given[name].astype(dtype) for name, dtype in takes.items()})[0]

    def embed(texts: list[str], size: int) -> np.ndarray:
        encodings = tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i].ids))
        batches = [[encodings[i] for i in order[at : at + size]] for at in range(0, len(order), size)]
        with ThreadPoolExecutor(in_flight) as threads:
            found = np.concatenate(list(threads.map(run, batches)))
        vectors = np.empty_like(found)
        vectors[order] = found
        return vectors

    return embed


class _Rows:
    """What Ray and Daft start in their worker: sentence-transformers on columns of text."""

    def __init__(self, checkpoint: str, size: int) -> None:
        self._embed, self._size = sentence_transformers(Path(checkpoint), "float32"), size
        self._embed(["warm up"], 1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        vectors = self._embed(list(batch["text"]), self._size)
        return {**batch, "embedding": vectors}


def datasets_map(checkpoint: Path, work: Path) -> Embed:
    import datasets

    datasets.disable_progress_bars()
    embed = sentence_transformers(checkpoint, "float32")
    embed(["warm up"], 1)

    def run(texts: list[str], size: int) -> np.ndarray:
        source = datasets.Dataset.from_dict({"text": texts})
        path = work / "datasets.arrow"
        path.unlink(missing_ok=True)
        found = source.map(
            lambda rows: {"embedding": embed(rows["text"], size)},
            batched=True,
            cache_file_name=str(path),
        )
        return np.asarray(found.with_format("numpy")["embedding"][:], np.float32)

    return run


def ray_data(checkpoint: Path, work: Path) -> Embed:
    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = work / "ray-started"

    class Timed(_Rows):
        """Tells when its model is loaded: Ray loads it inside the run."""

        def __init__(self, checkpoint: str, size: int) -> None:
            super().__init__(checkpoint, size)
            started.write_text(str(time.monotonic()))

    def run(texts: list[str], size: int) -> np.ndarray:
        rows = ray.data.from_items([{"n": n, "text": text} for n, text in enumerate(texts)])
        pool = {"compute": ray.data.ActorPoolStrategy(size=1)}
        arguments = {"fn_constructor_kwargs": {"checkpoint": str(checkpoint), "size": size}}
        out = work / "ray"
        shutil.rmtree(out, ignore_errors=True)
        rows.map_batches(Timed, batch_size=1000, num_cpus=CORES, **pool, **arguments).write_parquet(str(out))
        return _from_parquet(out)

    run.started = started  # type: ignore[attr-defined]
    return run


def daft_udf(checkpoint: Path, work: Path) -> Embed:
    import daft

    # Daft may run the function in another process, which loads the model inside the run.
    started = work / "daft-started"

    @daft.cls(max_concurrency=1, use_process=False)
    class Model:
        def __init__(self, size: int) -> None:
            self._rows = _Rows(str(checkpoint), size)
            started.write_text(str(time.monotonic()))

        @daft.method.batch(
            return_dtype=daft.DataType.embedding(daft.DataType.float32(), 384), batch_size=1000
        )
        def embed(self, text: Any) -> Any:
            return daft.Series.from_numpy(self._rows({"text": text.to_pylist()})["embedding"])

    def run(texts: list[str], size: int) -> np.ndarray:
        rows = daft.from_pydict({"n": list(range(len(texts))), "text": texts})
        out = work / "daft"
        shutil.rmtree(out, ignore_errors=True)
        rows.with_column("embedding", Model(size).embed(daft.col("text"))).write_parquet(str(out))
        return _from_parquet(out)

    run.started = started  # type: ignore[attr-defined]
    return run


def _from_parquet(folder: Path) -> np.ndarray:
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(str(folder), format="parquet").to_table().sort_by("n")
    return np.array(table["embedding"].to_pylist(), np.float32)


def _timed(embed: Embed, texts: list[str], size: int) -> tuple[float, np.ndarray]:
    begun, started = time.monotonic(), getattr(embed, "started", None)
    vectors = embed(texts, size)
    ended = time.monotonic()
    return ended - (float(started.read_text()) if started else begun), vectors


PEERS: dict[str, Callable[[Path, Path], Embed]] = {
    "st-float32": lambda checkpoint, work: sentence_transformers(checkpoint, "float32"),
    "st-bfloat16": lambda checkpoint, work: sentence_transformers(checkpoint, "bfloat16"),
    "onnx-float32": lambda c, w: onnx_runtime(c, w, quantized=False, in_flight=1),
    "onnx-float32-each": lambda c, w: onnx_runtime(c, w, quantized=False, in_flight=CORES),
    "onnx-int8": lambda c, w: onnx_runtime(c, w, quantized=True, in_flight=1),
    "onnx-int8-each": lambda c, w: onnx_runtime(c, w, quantized=True, in_flight=CORES),
    "datasets": datasets_map,
    "ray": ray_data,
    "daft": daft_udf,
}


def main(peer: str, checkpoint: str, source: str, work: str, sizes: str) -> None:
    embed = PEERS[peer](Path(checkpoint), Path(work))
    texts = [json.loads(line)["text"] for line in Path(source).read_text(encoding="utf-8").splitlines()]
    part, best = texts[:: max(1, len(texts) // SEARCHED)], json.loads(sizes)
    embed(part[:64], best[0])
    if len(best) > 1:
        best = [min(best, key=lambda size: _timed(embed, part, size)[0])]
    seconds, vectors = _timed(embed, texts, best[0])
    np.save(Path(work) / "vectors.npy", vectors)
    print(json.dumps({"seconds": seconds, "size": best[0]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
