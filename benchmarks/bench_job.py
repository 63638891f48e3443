"""The whole job: over raw model time, start-up over `import tensorflow`, and a rerun over the first run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import WORK, child, corpus, mini_batches, rounds, show

DOCUMENTS = 1500


def run_job(source: Path, output: Path) -> None:
    """Child: one run of the job, as the command line does it."""
    from pipeline.cli import main
    from transforms import observer

    seen: dict[type, list[float]] = {}
    observer.observe(lambda event: seen.setdefault(type(event), []).append(time.monotonic()))
    code = main(["embed", "--input", str(source), "--output", str(output), "--quiet"])
    assert code == 0, code
    if not seen:  # a rerun of a finished job
        print(json.dumps({"seconds": 0.0, "first": 0.0}))
        return
    seconds = seen[observer.ShardDone][-1] - seen[observer.Read][0]
    print(json.dumps({"seconds": seconds, "first": seen[observer.MiniBatchBegun][0]}))


def run_raw(source: Path) -> None:
    """Child: the model alone on the same mini-batches, one after the other, with all cores for each."""
    from transforms.encoder.hub import import_tensorflow
    from transforms.encoder.model.handle import resolve

    tf = import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(0)
    import tensorflow_hub as hub

    path = WORK / f"{source.stem}-batches.json"
    batches = json.loads(path.read_text())
    model = hub.load(str(resolve("minilm")))
    for texts in batches[:3]:
        model(tf.constant(texts)).numpy()
    started = time.perf_counter()
    for texts in batches:
        model(tf.constant(texts)).numpy()
    print(json.dumps({"seconds": time.perf_counter() - started}))


def make_batches(source: Path) -> None:
    """Child: writes the job's mini-batches to a file."""
    batches = mini_batches(source, "minilm")
    (WORK / f"{source.stem}-batches.json").write_text(json.dumps(batches))
    print(json.dumps({"mini_batches": len(batches)}))


def import_seconds() -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, check=True)
    return time.monotonic() - started


def main() -> None:
    source, output = corpus(DOCUMENTS), WORK / "job"
    child("bench_job", "batches", source)
    jobs: list[dict[str, float]] = []

    def job() -> float:
        shutil.rmtree(output, ignore_errors=True)
        jobs.append(child("bench_job", "job", source, output))
        return jobs[-1]["seconds"]

    whole, raw, imports, reruns = rounds(
        3,
        job,
        lambda: child("bench_job", "raw", source)["seconds"],
        import_seconds,
        lambda: child("bench_job", "job", source, output)["wall_seconds"],
    )
    show("whole job / raw model time, same mini-batches", whole, raw, "<= 0.95")
    starts = [run["first"] - run["spawned"] for run in jobs]
    show("start-up to first mini-batch / import tensorflow", starts, imports, "<= 1.4")
    show("rerun of a finished job / its first run", reruns, [run["wall_seconds"] for run in jobs], "<= 0.03")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "job":
        run_job(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "raw":
        run_raw(Path(sys.argv[2]))
    else:
        make_batches(Path(sys.argv[2]))
