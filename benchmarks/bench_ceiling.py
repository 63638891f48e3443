"""How many documents a second one process can do at most: the whole job with a model that costs nothing.

Beside it a bare loop with the same model calls, and Beam's own ReadFromParquet, RunInference, WriteToParquet.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import ROOT, WORK, child, peak_kib, rounds, show

DOCUMENTS = 60_000
FEW = 600  # of a job whose time is start-up
BEAM_DOCUMENTS = 12_000  # Beam's own chain is slow, and its rate does not depend on how many there are
LENGTH = 430  # characters of a document, on average
DIM = 384
MINI_BATCH = 300  # documents
BATCH_TOKENS = MINI_BATCH * LENGTH  # the model counts bytes
MARK = 25_000  # documents/s on two cores
ROUNDS = 3
MODEL = WORK / "nothing-model"


def make_model() -> None:
    """Saves a model whose vectors are zeros, whose tokens are bytes, and whose window is never reached."""
    import tensorflow as tf

    class Nothing(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.max_tokens = tf.Variable(1 << 30, dtype=tf.int32, trainable=False)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(self, text: Any) -> Any:
            return {"embedding": tf.zeros([tf.shape(text)[0], DIM], tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def count(self, text: Any) -> Any:
            return {"tokens": tf.strings.length(text)}

    model = Nothing()
    signatures = {"serving_default": model.serve, "count_tokens": model.count}
    tf.saved_model.save(model, str(MODEL), signatures=signatures)


def descriptions(documents: int) -> Iterator[str]:
    """Texts of 230 to 630 characters."""
    words = [
        f"{stem}{ending}"
        for stem in ("sail", "harbour", "timber", "wind")
        for ending in ("", "s", "ing", "ed")
    ]
    for i in range(documents):
        text = " ".join(words[(i * 7 + j * (1 + i % 5)) % len(words)] for j in range(100))
        yield f"{i} {text}"[: LENGTH - 200 + i * 37 % 401]


def make_input(documents: int, format: str) -> Path:
    path = WORK / f"descriptions-{documents}.{format}"
    if path.exists():
        return path
    WORK.mkdir(parents=True, exist_ok=True)
    if format == "jsonl":
        with open(path, "w") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in descriptions(documents))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": list(descriptions(documents))}), path, row_group_size=5_000)
    return path


def run_job(source: Path, output: Path, *more: str) -> float:
    """One run of the job, as the command line does it; seconds."""
    from pipeline.cli import main

    shutil.rmtree(output, ignore_errors=True)
    flags = ["--quiet", f"--batch-tokens={BATCH_TOKENS}", *more]
    started = time.perf_counter()
    code = main(["embed", f"--input={source}", f"--output={output}", f"--model={MODEL}", *flags])
    assert code == 0, code
    return time.perf_counter() - started


def job(format: str) -> float:
    """Child: seconds of the job less those of one of few documents, in a process that has run one before."""
    few, many = make_input(FEW, format), make_input(DOCUMENTS, format)
    run_job(few, WORK / "ceiling-few")
    start_up = run_job(few, WORK / "ceiling-few")
    seconds = run_job(many, WORK / f"ceiling-{format}") - start_up
    return seconds / (DOCUMENTS - FEW) * DOCUMENTS


def peak(documents: int) -> float:
    """Child: KiB at most in memory."""
    run_job(make_input(documents, "jsonl"), WORK / "ceiling-peak", "--shard-bytes=2000000")
    return peak_kib()


def load() -> Callable[[list[str]], tuple[Any, Any]]:
    """The model's two calls on texts: vectors float32 [n, dim] and tokens int32 [n]."""
    from transforms.encoder.hub import import_tensorflow

    tf = import_tensorflow()
    import tensorflow_hub as hub

    model = hub.load(str(MODEL))
    embed, count = model.signatures["serving_default"], model.signatures["count_tokens"]

    def call(texts: list[str]) -> tuple[Any, Any]:
        tensor = tf.constant(texts)
        tokens = next(iter(count(text=tensor).values())).numpy()
        call.keep = model  # type: ignore[attr-defined]
        return embed(text=tensor)["embedding"].numpy(), tokens

    call(["warm up"])
    return call


def mini_batches(source: Path) -> Iterator[tuple[list[int], list[str]]]:
    """Positions and texts, as a bare loop reads them."""
    if source.suffix == ".parquet":
        import pyarrow.parquet as pq

        row = 0
        for batch in pq.ParquetFile(source).iter_batches(MINI_BATCH, columns=["text"]):
            yield list(range(row, row + batch.num_rows)), batch.column(0).to_pylist()
            row += batch.num_rows
        return
    import orjson

    positions, texts, position = [], [], 0
    with open(source, "rb") as file:
        for line in file:
            positions.append(position)
            texts.append(orjson.loads(line)["text"])
            position += len(line)
            if len(texts) == MINI_BATCH:
                yield positions, texts
                positions, texts = [], []
    if texts:
        yield positions, texts


def same_encoding(written: Path) -> dict[str, Any]:
    """ParquetWriter's options for files like those that the job wrote."""
    import pyarrow.parquet as pq

    def top(column: Any) -> str:
        return column.path_in_schema.partition(".")[0]

    part = next(iter(sorted(written.glob("part-*"))))
    group = pq.ParquetFile(part).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    dictionary = [top(c) for c in columns if any("DICTIONARY" in encoding for encoding in c.encodings)]
    return {
        "compression": {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns},
        "use_dictionary": dictionary,
        "write_statistics": [top(c) for c in columns if c.is_stats_set],
    }


def bare(format: str) -> float:
    """Child: seconds of a loop that reads, calls the model and writes the same columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    call, source, target = load(), make_input(DOCUMENTS, format), WORK / f"bare-{format}.parquet"
    item = pa.field("item", pa.float32(), nullable=False)
    schema = pa.schema(
        [
            pa.field("doc_id", pa.string()),
            pa.field("embedding", pa.list_(item, DIM), nullable=False),
            pa.field("tokens", pa.int32()),
            pa.field("tokens_dropped", pa.int32()),
            pa.field("source", pa.string()),
            pa.field("position", pa.int64()),
        ]
    )
    options = same_encoding(WORK / f"ceiling-{format}")
    known = set(schema.names) | {"embedding.list.element", "embedding.list.item"}
    for key in ("compression", "use_dictionary", "write_statistics", "use_byte_stream_split"):
        if options.get(key):  # columns that the bare loop has, too
            kept = [name for name in options[key] if name in known]
            options[key] = {n: options[key][n] for n in kept} if key == "compression" else kept
    group = (64 << 20) // (DIM * 4 + 64)  # rows of a row group, as the job's
    started = time.perf_counter()
    pending: list[pa.RecordBatch] = []
    rows = 0
    with pq.ParquetWriter(target, schema, **options) as writer:
        for positions, texts in mini_batches(source):
            vectors, tokens = call(texts)
            n = len(texts)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=schema.field(1).type)
            ids = [f"{source.name}:{position}" for position in positions]
            columns = [ids, flat, tokens, np.zeros(n, np.int32), [source.name] * n, positions]
            arrays = [c if c is flat else pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            pending.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            rows += n
            if rows >= group:
                writer.write_table(pa.Table.from_batches(pending), row_group_size=rows)
                pending, rows = [], 0
        if pending:
            writer.write_table(pa.Table.from_batches(pending), row_group_size=rows)
    return time.perf_counter() - started


def run_beam(source: Path) -> float:
    """Beam's own chain over a Parquet file; seconds."""
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    class Handler(ModelHandler[dict, PredictionResult, Any]):
        def load_model(self) -> Any:
            return load()

        def run_inference(
            self, batch: Sequence[dict], model: Any, inference_args: dict[str, Any] | None = None
        ) -> list[PredictionResult]:
            vectors, _ = model([row["text"] for row in batch])
            return [PredictionResult(row["text"], vector) for row, vector in zip(batch, vectors, strict=True)]

        def batch_elements_kwargs(self) -> dict[str, int]:
            return {"min_batch_size": MINI_BATCH, "max_batch_size": MINI_BATCH}

    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    output = WORK / "ceiling-beam"
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = (
            root
            | beam.io.ReadFromParquet(str(source), columns=["text"])
            | RunInference(Handler())
            | beam.Map(lambda result: {"text": result.example, "embedding": result.inference.tolist()})
            | beam.io.WriteToParquet(str(output / "part"), schema, file_name_suffix=".parquet")
        )
    return time.perf_counter() - started


def beam_chain(format: str) -> float:
    """Child: seconds for as many documents as the job has, less those of few documents."""
    few, many = make_input(FEW, format), make_input(BEAM_DOCUMENTS, format)
    run_beam(few)
    start_up = run_beam(few)
    return (run_beam(many) - start_up) / (BEAM_DOCUMENTS - FEW) * DOCUMENTS


def measure(what: str, argument: str) -> float:
    return child("bench_ceiling", what, argument)["value"]


def main() -> None:
    if not MODEL.exists():
        child("bench_ceiling", "model", "")
    for format in ("jsonl", "parquet"):
        for documents in (FEW, DOCUMENTS):
            make_input(documents, format)
    make_input(BEAM_DOCUMENTS, "parquet")
    jsonl, bare_jsonl, parquet, bare_parquet, theirs = rounds(
        ROUNDS,
        lambda: measure("job", "jsonl"),
        lambda: measure("bare", "jsonl"),
        lambda: measure("job", "parquet"),
        lambda: measure("bare", "parquet"),
        lambda: measure("beam", "parquet"),
    )
    show("bare loop with orjson / the job, from JSONL", bare_jsonl, jsonl, ">= 0.5")
    show("bare loop with pyarrow / the job, from Parquet", bare_parquet, parquet, ">= 0.5")
    show("ReadFromParquet | RunInference | WriteToParquet / the job", theirs, parquet, ">= 5")
    for name, seconds in (("JSONL", jsonl), ("Parquet", parquet)):
        rates = sorted(DOCUMENTS / value for value in seconds)
        of = f"({rates[0]:,.0f} to {rates[-1]:,.0f}; mark {MARK:,})"
        print(f"{'documents/s, from ' + name:<58} {median(rates):6,.0f}  {of}", flush=True)
    few, many = 20_000, 200_000  # the few fill all windows and queues
    high, low = rounds(2, lambda: measure("peak", str(many)), lambda: measure("peak", str(few)))
    show(f"peak RSS at {many:,} documents / at {few:,}", high, low, "<= 1.05")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        from benchmarks import bench_ceiling  # so that Beam pickles it by its real name

        sys.path.insert(0, str(ROOT))
        of: dict[str, Callable[[str], Any]] = {
            "model": lambda _: bench_ceiling.make_model(),
            "job": bench_ceiling.job,
            "bare": bench_ceiling.bare,
            "beam": bench_ceiling.beam_chain,
            "peak": lambda documents: bench_ceiling.peak(int(documents)),
        }
        print(json.dumps({"value": of[sys.argv[1]](sys.argv[2])}))
