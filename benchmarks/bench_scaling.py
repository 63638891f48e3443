"""The job on a real Flink cluster with 1 and with 4 slots, with a model that waits instead of computing.

Waiting needs no core, so the machine's cores are no limit, and what is seen is the job and the cluster.
"""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, WORK, show

SLOTS, SHARDS, DOCUMENTS = 4, 40, 20  # documents of a shard
SECONDS = 0.1  # of waiting for each document
HERE = WORK / "scaling"


def save_sleeping_model(folder: Path) -> None:
    """A SavedModel that waits in its graph; a process of it does one mini-batch at a time, as one GPU would.

    Each op of tf.data that waits has one thread of its own: mini-batches of a process queue there.
    """
    import tensorflow as tf

    class SleepingModel(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, text):
            nothing = tf.data.Dataset.range(0)
            sleeps = tf.raw_ops.SleepDataset(  # once, before it says that nothing comes
                input_dataset=nothing._variant_tensor,
                sleep_microseconds=tf.cast(tf.shape(text)[0], tf.int64) * int(SECONDS * 1e6),
                output_types=[tf.int64],
                output_shapes=[tf.TensorShape([])],
            )
            slept = tf.data.experimental.from_variant(sleeps, nothing.element_spec)
            zero = tf.cast(slept.reduce(tf.constant(0, tf.int64), lambda a, b: a + b), tf.float32)
            return {"embedding": tf.stack([tf.cast(tf.strings.length(text), tf.float32) + zero] * 4, axis=1)}

    module = SleepingModel()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def write_input(path: Path) -> int:
    """Documents of one length, so that shards are alike. Returns the bytes of a shard."""
    lines = [json.dumps({"text": f"document {i:05d}"}) + "\n" for i in range(SHARDS * DOCUMENTS)]
    path.write_text("".join(lines))
    return len(lines[0]) * DOCUMENTS


def first_begun(output: Path, process: subprocess.Popen) -> float:
    """When the first shard was begun, by the note that its worker leaves while it is at work on it."""
    while process.poll() is None:
        for note in (output / "_embedbeam" / "attempts").glob("*.json"):
            with suppress(OSError, ValueError):  # committed meanwhile
                return json.loads(note.read_text())["started"]
        time.sleep(0.02)
    raise RuntimeError(f"the job ended with {process.returncode} before a shard was begun")


def rate(receipts: list[dict[str, Any]]) -> float:
    """Shards a second once each worker has begun: the sum of the workers' own rates."""
    workers = collections.defaultdict(list)
    for receipt in receipts:
        workers[receipt["pid"]].append(receipt["finished"])
    return sum((len(ends) - 1) / (max(ends) - min(ends)) for ends in workers.values())


def run(cluster: Any, model: Path, shard_bytes: int, slots: int) -> tuple[float, float, float]:
    """Returns the seconds in which shards were worked on, those of the whole command, and the rate."""
    output = HERE / f"out-{slots}"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline", "embed", "--quiet"]
    command += [f"--input={HERE / 'docs.jsonl'}", f"--output={output}", f"--model={model}"]
    # A shard is one mini-batch.
    command += [f"--shard-bytes={shard_bytes}", "--batch-tokens=100000"]
    command += [*cluster.options(), "--shared-filesystem", "--environment_type=PROCESS"]
    started = time.time()
    log = HERE / f"job-{slots}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, f"--parallelism={slots}"], cwd=ROOT, stdout=stream, stderr=stream
        )
        try:
            begun = first_begun(output, process)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    if code:
        raise RuntimeError(f"{slots} slots: exit code {code}: {log.read_text()[-2000:]}")
    receipts = [json.loads(p.read_text()) for p in (output / "_embedbeam" / "receipts").glob("*.json")]
    assert sum(r["rows"] for r in receipts) == SHARDS * DOCUMENTS
    assert len(receipts) == SHARDS
    assert len({r["pid"] for r in receipts}) == slots, "a slot did nothing"
    return max(r["finished"] for r in receipts) - begun, time.time() - started, rate(receipts)


def main() -> None:
    sys.path.append(str(ROOT / "tools" / "clusters"))
    from flink import FlinkCluster

    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    model = HERE / "model"
    saving = threading.Thread(target=save_sleeping_model, args=(model,))
    saving.start()  # while the cluster starts
    shard_bytes = write_input(HERE / "docs.jsonl")
    # A slot has a TaskManager, and so an SDK process, of its own: slots of one TaskManager share its model.
    with FlinkCluster(HERE / "flink", task_managers=SLOTS, slots=1) as cluster:
        saving.join()
        work_1, wall_1, rate_1 = run(cluster, model, shard_bytes, 1)
        work_n, wall_n, rate_n = run(cluster, model, shard_bytes, SLOTS)
    show(f"work on shards with 1 slot / with {SLOTS}", [work_1], [work_n], ">= 3.4")
    show(f"rate with {SLOTS} slots, once each has begun / with 1", [rate_n], [rate_1], ">= 3.4")
    show(f"whole command with 1 slot / with {SLOTS}", [wall_1], [wall_n], "none")
    waits = SHARDS * DOCUMENTS * SECONDS
    show("work on shards with 1 slot / the model's waits alone", [work_1], [waits], "<= 1.1")
    show(f"work on shards with {SLOTS} slots / the model's waits alone", [work_n], [waits / SLOTS], "<= 1.2")


if __name__ == "__main__":
    main()
