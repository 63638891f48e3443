"""Peak memory at several times the input, with a model so small that the pipeline is what is seen.

Each shape is an input that some step could be tempted to hold: many documents, long ones, bad ones.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import WORK, child, peak_kib, rounds, show

MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True)
class Shape:
    """An input of `few` and of `many` of something, and how it is read.

    Attributes:
      lines: gives that many of them as lines of a JSON file.
      flags: of `embed`.
      suffix: of the file.
      verify: look at `verify` of the output instead of `embed`.
    """

    lines: Callable[[int], Iterator[str]]
    few: int
    many: int
    flags: tuple[str, ...] = ()
    suffix: str = ".jsonl"
    verify: bool = False


def short_documents(count: int) -> Iterator[str]:
    for i in range(count):
        yield json.dumps({"text": " ".join(f"word{(i * 7 + j) % 1000}" for j in range(20 + i % 200))})


def bad_behind_a_good_one(count: int) -> Iterator[str]:
    """Records of 1 KB that are no JSON, after one document."""
    yield json.dumps({"text": "a good document"})
    for i in range(count):
        yield f"{{broken {i} " + "x" * 1000


def megabytes(count: int) -> Iterator[str]:
    for i in range(count):
        yield json.dumps({"text": f"document {i} " + "word " * (MEGABYTE // 5)})


def without_white_space(count: int) -> Iterator[str]:
    for i in range(count):
        yield json.dumps({"text": str(i) + "x" * MEGABYTE})


def one_huge(count: int) -> Iterator[str]:
    """One document of so many megabytes."""
    yield json.dumps({"text": "word " * (count * MEGABYTE // 5)})


def one_line(count: int) -> Iterator[str]:
    """A line of so many megabytes, which is no document, and a document."""
    yield "x" * (count * MEGABYTE)
    yield json.dumps({"text": "a good document"})


def with_a_field(count: int) -> Iterator[str]:
    for i in range(count):
        yield json.dumps({"text": f"document {i}", "n": i, "filler": "abcdefgh" * 100})


ANY = "--max-dead-letters=100%"
ONE_SHARD = "--shard-bytes=4GB"
SHAPES = {
    "documents": Shape(short_documents, 5_000, 50_000, ("--shard-bytes=500000",)),
    "bad records of one gz": Shape(bad_behind_a_good_one, 20_000, 200_000, (ANY,), ".jsonl.gz"),
    "verify of those dead letters": Shape(
        bad_behind_a_good_one, 20_000, 200_000, (ANY,), ".jsonl.gz", verify=True
    ),
    "documents of 1 MB, truncate": Shape(megabytes, 100, 800, ("--long-documents=truncate", ONE_SHARD)),
    "documents of 1 MB, mean": Shape(megabytes, 4, 20, (ONE_SHARD,)),
    "documents of 1 MB without white space": Shape(without_white_space, 20, 200, (ONE_SHARD,)),
    "megabytes of one document": Shape(one_huge, 4, 16),
    "megabytes of one line of gz": Shape(one_line, 100, 1_000, (ANY,), ".jsonl.gz"),
    "records of gz, --keep-field --dry-run": Shape(
        with_a_field, 50_000, 500_000, ("--keep-field=n", "--keep-field=filler", "--dry-run"), ".jsonl.gz"
    ),
}


def make_input(name: str, count: int, folder: Path = WORK) -> Path:
    """The file of a shape, written once."""
    shape = SHAPES[name]
    path = folder / f"shape-{list(SHAPES).index(name)}-{count}{shape.suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pending = path.with_name(f".{path.name}")
        with open(pending, "wb") as raw, gzip.open(raw, "wb", 1) if path.suffix == ".gz" else raw as file:
            file.writelines(f"{line}\n".encode() for line in shape.lines(count))
        pending.rename(path)
    return path


def run_job(name: str, source: Path, model: Path, output: Path) -> None:
    """Child: one run of `embed`, and what it peaked at."""
    print_peak(
        "embed", f"--input={source}", f"--model={model}", f"--output={output}", "--quiet", *SHAPES[name].flags
    )


def print_peak(*arguments: str) -> None:
    import contextlib
    import io

    from pipeline.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    assert code == 0, code
    print(json.dumps({"peak": peak_kib()}))


def peak(name: str, count: int, model: Path, folder: Path = WORK) -> float:
    """KiB at most in memory."""
    output = folder / "memory"
    shutil.rmtree(output, ignore_errors=True)
    found = child("bench_memory", "embed", name, make_input(name, count, folder), model, output)
    if SHAPES[name].verify:
        found = child("bench_memory", "verify", output)
    return found["peak"]


def main() -> None:
    from tests.models import save_hash_model

    model = WORK / "hash-model-16"
    if not model.exists():
        save_hash_model(model)
    for name, shape in SHAPES.items():
        times = 3 if name == "documents" else 1
        many, few = rounds(
            times, lambda n=name: peak(n, SHAPES[n].many, model), lambda n=name: peak(n, SHAPES[n].few, model)
        )
        show(f"peak RSS, {name}: {shape.many:,} / {shape.few:,}", many, few, "<= 1.05")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "verify":
        print_peak("verify", sys.argv[2])
    else:
        run_job(sys.argv[2], *map(Path, sys.argv[3:]))
