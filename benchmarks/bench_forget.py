"""What `embedbeam forget` costs: beside a bare rewrite of the same part files with pyarrow.

    python -m benchmarks.bench_forget [ROWS]     1,000,000 rows of 384 float32 numbers by default

Three sets of ids: one document; a thousand that lie in all shards; and a repetition, which finds them gone.
Peak memory is the command's own.
"""

from __future__ import annotations

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


def timed(code: str, *arguments: object) -> tuple[float, int]:
    """Seconds and peak memory in MiB of a process."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, int(done.stdout.split()[-1]) // 1024


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = WORK / "forget"
    shutil.rmtree(folder, ignore_errors=True)
    output, copy, ids = folder / "out", folder / "bare", folder / "ids"
    write_output(str(output), clouds(rows, 384), dim=384, kept=[["kind", "int64"]])
    one, many = f"d{rows // 2}\n", "".join(f"d{i}\n" for i in range(0, rows, rows // 1000))
    shutil.copytree(output, copy)
    ids.write_text(many)
    bare, peak = timed(_BARE, copy, ids)
    print(f"{rows:,} rows; all part files rewritten with pyarrow: {bare:.1f} s, {peak:,} MiB")
    shutil.rmtree(copy)
    for name, some in {
        "one document": one,
        "a thousand, in all shards": many,
        "the same again": many,
    }.items():
        Path(ids).write_text(some)
        seconds, peak = timed(_COMMAND, "forget", output, f"--ids={ids}", "--quiet")
        print(f"{name}: {seconds:.1f} s, {seconds / bare:.2f} of it, {peak:,} MiB")


if __name__ == "__main__":
    main()
