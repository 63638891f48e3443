"""What `embedbeam forget` costs: beside a bare rewrite of the same part files with pyarrow.

    python -m benchmarks.bench_forget [ROWS]     1,000,000 rows of 384 float32 numbers by default

Three sets of ids: one document; a thousand that lie in all shards; and a repetition, which finds them gone.
Peak memory is the command's own.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import ROOT, WORK
from benchmarks.synthetic import clouds, write_output

_COMMAND = """
import sys
from benchmarks.common import peak_kib
from pipeline.cli import main
code = main(sys.argv[1:])
print(int(peak_kib()))
sys.exit(code)
"""
_BARE = """
import glob, os, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
from benchmarks.common import peak_kib
ids = pa.array(open(sys.argv[2]).read().split())
for path in glob.glob(f"{sys.argv[1]}/part-*.parquet"):
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=4 << 20)
    with open(f"{path}.new", "wb") as new:
        how = {"compression": "zstd", "use_dictionary": ["source"]}
        with pq.ParquetWriter(new, file.schema_arrow, **how) as writer:
            for at in range(file.num_row_groups):
                rows = file.read_row_group(at)
                writer.write_table(rows.filter(pc.invert(pc.is_in(rows["doc_id"], ids))))
        os.fsync(new.fileno())
    os.replace(f"{path}.new", path)
print(int(peak_kib()))
"""


def timed(code: str, *arguments: object) -> tuple[float, float, int]:
    """Seconds, of its processors too, and peak memory in MiB of a process."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, busy, int(done.stdout.split()[-1]) // 1024


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = WORK / "forget"
    shutil.rmtree(folder, ignore_errors=True)
    output, copy, ids = folder / "out", folder / "bare", folder / "ids"
    write_output(str(output), clouds(rows, 384), dim=384, kept=[["kind", "int64"]])
    one, many = f"d{rows // 2}\n", "".join(f"d{i}\n" for i in range(0, rows, rows // 1000))
    shutil.copytree(output, copy)
    ids.write_text(many)
    bare, bare_busy, peak = timed(_BARE, copy, ids)
    times = f"{bare:.1f} s, CPU {bare_busy:.1f} s"
    print(f"{rows:,} rows; all part files rewritten with pyarrow: {times}; {peak:,} MiB")
    shutil.rmtree(copy)
    for name, some in {
        "one document": one,
        "a thousand, in all shards": many,
        "the same again": many,
    }.items():
        Path(ids).write_text(some)
        seconds, busy, peak = timed(_COMMAND, "forget", output, f"--ids={ids}", "--quiet")
        times = f"{seconds:.1f} s, {seconds / bare:.2f} of it; CPU {busy:.1f} s, {busy / bare_busy:.2f} of it"
        print(f"{name}: {times}; {peak:,} MiB")


if __name__ == "__main__":
    main()
