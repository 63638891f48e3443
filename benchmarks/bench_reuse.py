"""What `--reuse` saves: the time of a run that reuses over that of the first one, by what has changed.

    python -m benchmarks.bench_reuse [DOCUMENTS]     docstrings of the standard library, 40,000 by default

Each run is the real command in a fresh process with minilm. Nothing changed; one document in a hundred,
spread over all files; the same documents, all in other files. Peak memory is the command's own.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
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


def write(folder: Path, records: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True)
    for number in range(FILES):
        lines = (json.dumps(one) + "\n" for one in records[number::FILES])
        (folder / f"{number:02}.jsonl").write_text("".join(lines), encoding="utf-8")


def run(source: Path, output: Path, *flags: str) -> tuple[float, int]:
    """Seconds and peak memory in MiB of a command."""
    shutil.rmtree(output, ignore_errors=True)
    command = ["embed", f"--input={source}", f"--output={output}", "--id-field=id", "--quiet", *flags]
    begun = time.perf_counter()
    whole = [sys.executable, "-c", _CODE, *command]
    done = subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, int(done.stdout.split()[-1]) // 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    base = [json.loads(line) for line in corpus(min(count, 6_000)).read_text(encoding="utf-8").splitlines()]
    # Each text with another first word: as long, and no two the same.
    records = [{"id": f"d{i}", "text": f"{i} {base[i % len(base)]['text']}"} for i in range(count)]
    changed = [
        one | {"text": f"changed {one['text']}"} if i % 100 == 7 else one for i, one in enumerate(records)
    ]
    moved = random.Random(0).sample(records, count)
    folder = WORK / "reuse"
    shutil.rmtree(folder, ignore_errors=True)
    for name, some in {"old": records, "nothing changed": records, "1 % changed": changed}.items():
        write(folder / "in" / name, some)
    write(folder / "in" / "all in other files", moved)
    first, memory = run(folder / "in" / "old", folder / "old")
    print(f"{count:,} documents in {FILES} files; the first run: {first:,.0f} s, {memory:,} MiB")
    for name, goal in GOALS.items():
        seconds, peak = run(folder / "in" / name, folder / "new", f"--reuse={folder / 'old'}")
        print(f"{name}: {seconds / first:.3f} of it (goal {goal}), {seconds:,.1f} s, {peak:,} MiB")


if __name__ == "__main__":
    main()
