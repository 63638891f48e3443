"""What `--reuse` saves: the time of a run that reuses over that of the first one, by what has changed.

    python -m benchmarks.bench_reuse [DOCUMENTS]     docstrings of the standard library, 40,000 by default
    python -m benchmarks.bench_reuse memory          peak memory of 100,000 and of 1,000,000 documents

Each run is the real command in a fresh process: with minilm where time counts, with a model so small that the
pipeline is what is seen where memory does. Nothing changed; one document in a hundred, spread over all files;
the same documents, all in other files.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, WORK, corpus

FILES = 20
GOALS = {"nothing changed": 0.03, "1 % changed": 0.06, "all in other files": 0.10}
_CODE = """
import sys
from benchmarks.common import peak_kib
from pipeline.cli import main
code = main(sys.argv[1:])
print(int(peak_kib()))
sys.exit(code)
"""
_Records = Sequence[dict[str, str]]


def write(folder: Path, records: _Records) -> None:
    """Files of records; those that hold the same already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        lines = "".join(json.dumps(one) + "\n" for one in records[number::FILES])
        path = folder / f"{number:02}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != lines:
            path.write_text(lines, encoding="utf-8")


def changed(records: _Records, name: str) -> _Records:
    """The corpus a day later."""
    if name == "1 % changed":
        return [
            one | {"text": f"new {one['text']}"} if i % 100 == 7 else one for i, one in enumerate(records)
        ]
    if name == "all in other files":
        return random.Random(0).sample(records, len(records))
    return records


def run(source: Path, output: Path, *flags: str) -> tuple[float, int]:
    """Seconds and peak memory in MiB of a command."""
    shutil.rmtree(output, ignore_errors=True)
    command = ["embed", f"--input={source}", f"--output={output}", "--id-field=id", "--quiet", *flags]
    begun = time.perf_counter()
    whole = [sys.executable, "-c", _CODE, *command]
    done = subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, int(done.stdout.split()[-1]) // 1024


def corpus_of(count: int) -> _Records:
    """Texts, each with another first word: as long as they were, and no two the same."""
    base = [json.loads(line) for line in corpus(min(count, 6_000)).read_text(encoding="utf-8").splitlines()]
    return [{"id": f"d{i}", "text": f"{i} {base[i % len(base)]['text']}"} for i in range(count)]


def days(records: _Records, *flags: str) -> dict[str, tuple[float, int]]:
    """Seconds and peak memory of the first run, and of one after each change."""
    folder = WORK / "reuse"
    shutil.rmtree(folder, ignore_errors=True)
    write(folder / "in", records)
    found = {"the first run": run(folder / "in", folder / "old", *flags)}
    for name in GOALS:
        write(folder / "in", changed(records, name))
        found[name] = run(folder / "in", folder / "new", f"--reuse={folder / 'old'}", *flags)
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    first, *rest = days(corpus_of(count)).items()
    print(f"{count:,} documents in {FILES} files; {first[0]}: {first[1][0]:,.0f} s, {first[1][1]:,} MiB")
    for name, (seconds, peak) in rest:
        ratio = seconds / first[1][0]
        print(f"{name}: {ratio:.3f} of it (goal {GOALS[name]}), {seconds:,.1f} s, {peak:,} MiB")


def memory() -> None:
    from tests.models import save_hash_model

    model = WORK / "hash-model-16"
    if not model.exists():
        save_hash_model(model)
    few, many = (days(corpus_of(count), f"--model={model}") for count in (100_000, 1_000_000))
    for name, (_, peak) in many.items():
        ratio = peak / few[name][1]
        print(f"peak RSS, {name}: 1,000,000 / 100,000: {ratio:.3f} (goal 1.05), {peak:,} MiB")


if __name__ == "__main__":
    memory() if sys.argv[1:] == ["memory"] else main()
