"""Where known documents are, found by a Flink cluster's shuffle and by one process: time, bytes, memory.

    python -m benchmarks.bench_join [DOCUMENTS]     10,000,000 by default, beside as many of an earlier output

Half of the documents are in the earlier output, in other files and another order. No model runs: the job is
shards -> JoinKnown -> shards. Beside it, in the same run, the same shards are read and no more is done. What
was found is held against the documents themselves and against the index of the one process, shard by shard.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.common import ROOT, WORK, child, peak_kib, show
from benchmarks.synthetic import HEAD, Rows, write_output
from pipeline.options.options import Options
from pipeline.plan.plan import make_plan, read_options
from transforms.blocks import FINGERPRINT, DocumentBlock
from transforms.elements import Shard
from transforms.modality.text import TEXT
from transforms.output import layout, plan_file
from transforms.output.fingerprints import HIGH, LOW, find, halves, index_of
from transforms.output.folder import Folder
from transforms.output.reader import open_output
from transforms.steps.join import JoinKnown, buckets_for
from transforms.steps.reuse import Earlier, ReuseConfig
from transforms.steps.shards import ReadConfig, read_shard

HERE = WORK / "join"
KEY = hashlib.sha256(b"the same choices").digest()
FILES, PARTS, WORKERS = 16, 32, 2
BLOCK = 100_000


def texts(numbers: np.ndarray) -> list[str]:
    """29 bytes each; the last eight are the number."""
    return [f"a short text, number {number:08d}" for number in numbers.tolist()]


def earlier_rows(documents: int) -> Iterator[Iterator[Rows]]:
    """The documents of the earlier output: the first `documents` numbers, in order."""

    def blocks(low: int, high: int) -> Iterator[Rows]:
        for begin in range(low, high, BLOCK):
            numbers = np.arange(begin, min(begin + BLOCK, high))
            payloads = pa.array(texts(numbers))
            yield {
                "doc_id": pa.array(numbers).cast(pa.string()),
                "vectors": np.stack([numbers, -numbers], axis=1),
                "fingerprint": TEXT.fingerprint(payloads, KEY),
            }

    bounds = np.linspace(0, documents, PARTS + 1).astype(int).tolist()
    return (blocks(low, high) for low, high in itertools.pairwise(bounds))


def write_input(folder: Path, documents: int) -> None:
    """As many documents; the first half of their numbers is in the earlier output."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0).permutation(np.arange(documents // 2, documents // 2 + documents))
    for at, some in enumerate(np.array_split(numbers, FILES)):
        with (folder / f"{at:02}.txt").open("w") as file:
            for block in np.array_split(some, -(-len(some) // BLOCK)):
                file.write("\n".join(texts(block)) + "\n")


def new_job(name: str) -> tuple[ReadConfig, tuple[Shard, ...]]:
    """How the new job reads, and its shards, which are planned in a folder of its own."""
    options = Options(input=(str(HERE / "in"),), output=str(HERE / name), input_format="lines")
    shards = make_plan(options, parallelism=WORKERS).shards
    folder = Folder(options.output)
    folder.create_new(layout.PLAN, plan_file.to_bytes(HEAD | {"dim": 2}, shards))
    job = plan_file.job_of(folder) or ""
    return ReadConfig(
        read_options(options, TEXT), output=options.output, job=job, fingerprint_key=KEY
    ), shards


def read_only(shard: Shard, config: ReadConfig) -> Iterator[int]:
    """What the join has to read, and nothing else."""
    yield sum(one.columns.num_rows for one in read_shard(shard, config) if isinstance(one, DocumentBlock))


@contextlib.contextmanager
def peaks(cluster: Any) -> Iterator[dict[str, float]]:
    """MiB that the largest SDK worker and the largest TaskManager held at most, while the context lasts."""
    from processes import descendants

    found, over = {"worker": 0.0, "TaskManager": 0.0}, threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for pid in itertools.chain(*(descendants(one.pid) for one in cluster.task_managers)):
                with contextlib.suppress(OSError, StopIteration):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    kind = "worker" if b"sdk_worker_main" in command else "TaskManager"
                    if kind == "worker" or command.startswith(b"java"):
                        found[kind] = max(found[kind], peak_kib(pid) / 1024)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def run(cluster: Any, config: ReadConfig, reuse: ReuseConfig | None) -> dict[str, Any]:
    """Runs the join on the cluster, or the reading alone; gives what Flink and the system tell of it."""
    import apache_beam as beam

    from pipeline.cluster.cluster import resolve
    from pipeline.cluster.submit import run_pipeline
    from transforms.steps.open import OpenShards

    def build(root: beam.Pipeline) -> Any:
        shards = root | OpenShards(config)
        return shards | (JoinKnown(config, reuse) if reuse else beam.FlatMap(read_only, config))

    _, *arguments = cluster.options()
    arguments += ["--environment_type=PROCESS", f"--parallelism={WORKERS}"]
    to: dict[str, Any] = {"runner": "PortableRunner", "beam_args": tuple(arguments)}
    options = Options(input=(str(HERE),), output=config.output, shared_filesystem=True, **to)
    with peaks(cluster) as memory:
        run_pipeline(resolve(options), build, wait=True)
    job = max(get(cluster, "/jobs/overview")["jobs"], key=lambda one: one["start-time"])
    assert job["state"] == "FINISHED", job
    return get(cluster, f"/jobs/{job['jid']}") | {"memory": memory}


def get(cluster: Any, path: str) -> Any:
    with urllib.request.urlopen(cluster.rest + path, timeout=30) as answer:
        return json.load(answer)


def bytes_of(job: dict[str, Any]) -> collections.Counter[str]:
    """Bytes that tasks wrote for others, by Flink's name of the way they went; prints the larger ones."""
    ways = {e["id"]: e["ship_strategy"] for node in job["plan"]["nodes"] for e in node.get("inputs", ())}
    found: collections.Counter[str] = collections.Counter()
    for vertex in job["vertices"]:
        wrote, way = vertex["metrics"]["write-bytes"], ways.get(vertex["id"], "")
        found[way.partition(" on ")[0]] += wrote
        if wrote > 1 << 20:
            seconds, name = vertex["duration"] / 1000, vertex["name"][:60]
            print(f"  {wrote / 1e6:9.1f} MB {seconds:6.0f} s  {way[:14]:<14}  {name}")
    return found


def one_process() -> None:
    """Finds the same with an index in this process, and compares. Prints JSON."""
    config, shards = new_job("alone")
    output = open_output(str(HERE / "earlier"))
    begun, before = time.perf_counter(), time.process_time()
    index = index_of(output)
    built, built_cpu, after = time.perf_counter() - begun, time.process_time() - before, peak_kib() / 1024
    reuse, known = reuse_of(index.shape[1]), 0
    looking, asked = 0.0, 0
    for shard in shards:
        file = HERE / "new" / layout.KNOWN / reuse.name / f"{shard.shard_id}.npy"
        joined, truth, mine = np.load(file), 0, []
        for block in read_shard(shard, config):
            if isinstance(block, DocumentBlock):
                numbers = pc.utf8_slice_codeunits(block.payloads, -8).cast(pa.int64()).to_numpy()
                truth += int((numbers < index.shape[1]).sum())
                high, low = halves(block.columns.column(FINGERPRINT))
                begun = time.thread_time()
                at = find(index, high, low)
                looking, asked = looking + time.thread_time() - begun, asked + len(at)
                mine.append(index[:, at[at >= 0]])
        found = np.concatenate(mine, axis=1)
        found = found[:, np.lexsort((found[LOW], found[HIGH]))]
        assert joined.shape == (5, truth), (shard.shard_id, joined.shape, truth)
        assert (joined == np.vstack([found, np.zeros(truth, np.uint64)])).all(), shard.shard_id
        known += truth
    made = {"built": built, "built_cpu": built_cpu, "after": after, "looking": looking, "asked": asked}
    print(json.dumps(made | {"peak": peak_kib() / 1024, "known": known}))


def reuse_of(rows: int) -> ReuseConfig:
    """As a job makes it on a cluster."""
    path = str(HERE / "earlier")
    earlier = Earlier(path, open_output(path).plan.job)
    return ReuseConfig((earlier,), joined=True, buckets=buckets_for(2 * rows))


def main() -> None:
    if sys.argv[1:] == ["--one-process"]:
        one_process()
        return
    sys.path.append(str(ROOT / "tools" / "clusters"))
    from flink import FlinkCluster

    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    shutil.rmtree(HERE, ignore_errors=True)
    begun = time.perf_counter()
    write_input(HERE / "in", documents)
    write_output(str(HERE / "earlier"), earlier_rows(documents), dim=2)
    config, shards = new_job("new")
    reuse = reuse_of(documents)
    print(
        f"{documents:,} documents in {len(shards)} shards, {documents:,} earlier ones in {PARTS} parts, "
        f"{reuse.buckets} buckets, {WORKERS} workers; made in {time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    with FlinkCluster(HERE / "flink", task_managers=WORKERS, slots=1) as cluster:
        bare = run(cluster, new_job("bare")[0], None)
        print(f"reading alone: {bare['duration'] / 1000:.0f} s", flush=True)
        join = run(cluster, config, reuse)
        print(f"the join: {join['duration'] / 1000:.0f} s", flush=True)
    went, least = bytes_of(join), documents * (16 + 24 + 40 // 2)
    memory = ", ".join(f"{name} {size:,.0f} MiB" for name, size in join["memory"].items())
    ways = ", ".join(f"{way} {size / 1e6:,.1f} MB" for way, size in went.most_common(4))
    print(f"{ways}; peak memory {memory}")
    alone = child("bench_join", "--one-process")
    assert alone["known"] == documents - documents // 2, alone
    print(f"{alone['known']:,} documents are known, and were found with the index's pointers, shard by shard")
    print(
        f"one process: index in {alone['built']:.1f} s ({alone['built_cpu']:.1f} s of CPU), then "
        f"{alone['asked'] / alone['looking']:,.0f} look-ups/s of CPU; peak memory {alone['after']:,.0f} MiB "
        f"when it was built, {alone['peak']:,.0f} MiB at the end, the mapped index among it"
    )
    show("the join / reading the same shards alone", [join["duration"]], [bare["duration"]], "none")
    grouped = went["Hash Partition"]
    show("bytes grouped / 16, 24 and 40 for each document", [grouped], [least], "<= 1.05")
    show("all bytes sent to other workers / the same", [went.total() - went["Forward"]], [least], "none")
    shutil.rmtree(HERE)


if __name__ == "__main__":
    main()
