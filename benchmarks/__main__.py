"""`python -m benchmarks`: all of them, one after the other; `make bench`."""

import subprocess
import sys

NAMES = (
    "bench_job",
    "bench_model",
    "bench_chain",
    "bench_ceiling",
    "bench_sinks",
    "bench_memory",
    "bench_search",
    "bench_batches",
)

for name in sys.argv[1:] or NAMES:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
