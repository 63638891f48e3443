"""What the benchmarks share: a corpus, child processes, and how ratios are printed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
BATCH_TOKENS = 1000

_COLLECTED: list[list[str]] = []


def corpus(documents: int) -> Path:
    """A JSON lines file of so many docstrings of the standard library, from all over it."""
    from tools.demo import write_documents

    everything = WORK / "docs.jsonl"
    write_documents(everything)
    path = WORK / f"docs-{documents}.jsonl"
    if not path.exists():
        lines = everything.read_text(encoding="utf-8").splitlines(keepends=True)
        step = len(lines) / documents
        path.write_text("".join(lines[int(i * step)] for i in range(documents)), encoding="utf-8")
    return path


def texts_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def child(module: str, *arguments: str | Path, **environment: str) -> dict[str, Any]:
    """Runs `python -m benchmarks.MODULE ARGUMENTS` in a fresh process.

    Returns:
      What it printed as JSON on its last line, with `wall_seconds` and `spawned` (monotonic) added.
    """
    spawned = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {arguments}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return result | {"wall_seconds": time.monotonic() - spawned, "spawned": spawned}


def peak_kib(pid: int | str = "self") -> float:
    """KiB that a process held at most since its program began.

    What getrusage tells begins with the peak of whoever started the process, which may be the larger one.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def rounds(count: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Measures in turn, A B A B ..., so that a machine that drifts drifts for all of them."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(count):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure())
    return found


def show(name: str, above: Sequence[float], below: Sequence[float], goal: str) -> None:
    """Prints the median of the ratios round by round, with their range."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    print(
        f"{name:<58} {statistics.median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f}; goal {goal})",
        flush=True,
    )


def collect(runs: Sequence[Any]) -> Iterator[int]:
    from transforms.blocks import Run

    chosen = [run.window.payloads.take(run.chunks).to_pylist() for run in runs if isinstance(run, Run)]
    if chosen:
        _COLLECTED.append([text for texts in chosen for text in texts])
    yield len(chosen)


def mini_batches(path: Path, model: str) -> list[list[str]]:
    """The texts of the very mini-batches that the job makes of a file, in its order."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from pipeline.options.options import Options
    from pipeline.plan.plan import make_plan, read_options
    from transforms.encoder.config import ModelConfig
    from transforms.modality.text import TEXT
    from transforms.steps.batch import BatchByTokens, OrderByLength
    from transforms.steps.chunk import ChunkDocuments
    from transforms.steps.config import EmbedConfig
    from transforms.steps.encoder import SharedEncoder
    from transforms.steps.read import ReadConfig, ReadShards

    options = Options(input=(str(path),), output=str(WORK / "none"))
    shards = list(make_plan(options).shards)
    _COLLECTED.clear()
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = (
            root
            | beam.Create(shards, reshuffle=False)
            | ReadShards(ReadConfig(read_options(options, TEXT)))
            | ChunkDocuments(SharedEncoder(ModelConfig(model)), EmbedConfig(batch_tokens=BATCH_TOKENS))
            | OrderByLength(BATCH_TOKENS)
            | BatchByTokens(BATCH_TOKENS)
            | beam.FlatMap(collect)
        )
    return list(_COLLECTED)
