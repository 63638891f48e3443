"""Peak memory at ten times the documents, with a model so small that the pipeline is what is seen."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path

from benchmarks.common import WORK, child, rounds, show

DOCUMENTS = 5000


def make_input(documents: int) -> Path:
    path = WORK / f"words-{documents}.jsonl"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as f:
            for i in range(documents):
                text = " ".join(f"word{(i * 7 + j) % 1000}" for j in range(20 + i % 200))
                f.write(json.dumps({"text": text}) + "\n")
    return path


def run_job(source: Path, model: Path, output: Path) -> None:
    """Child: one run, and what it peaked at."""
    from pipeline.cli import main

    arguments = [
        "--input",
        source,
        "--model",
        model,
        "--output",
        output,
        "--shard-bytes",
        "500000",
        "--quiet",
    ]
    code = main(["embed", *map(str, arguments)])
    assert code == 0, code
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def main() -> None:
    from tests.models import save_hash_model

    model, output = WORK / "hash-model", WORK / "memory"
    if not model.exists():
        save_hash_model(model, window=None)

    def peak(documents: int) -> float:
        shutil.rmtree(output, ignore_errors=True)
        return child("bench_memory", make_input(documents), model, output)["peak"]

    many, few = rounds(3, lambda: peak(10 * DOCUMENTS), lambda: peak(DOCUMENTS))
    show(f"peak RSS at {10 * DOCUMENTS:,} documents / at {DOCUMENTS:,}", many, few, "<= 1.05")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        run_job(*map(Path, sys.argv[1:]))
