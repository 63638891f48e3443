"""Peak memory does not grow with the corpus, nor with a file, a record, or the dead letters."""

import statistics
from pathlib import Path

import jobs
import pytest

from benchmarks import bench_memory

MEASURE = """
import sys
from benchmarks.common import peak_kib
from pipeline.cli import main
code = main(sys.argv[1:])
print(peak_kib())
sys.exit(code)
"""


def peak(folder, model, count, run):
    path = folder / f"{count}.jsonl"
    if not path.exists():
        jobs.write_jsonl(path, [{"text": f"document {i} " + "word " * (i % 40)} for i in range(count)])
    flags = [f"--input={path}", f"--output={folder}/{count}-{run}", f"--model={model}"]
    command = [jobs.PYTHON, "-c", MEASURE, "embed", *flags, "--shard-bytes=300000", "--keep-text", "--quiet"]
    done = jobs.run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    return float(done.stdout)


@pytest.mark.slow
def test_ten_times_the_documents(tmp_path, model):
    small = statistics.median(peak(tmp_path, model, 5000, run) for run in range(3))
    large = statistics.median(peak(tmp_path, model, 50_000, run) for run in range(3))
    assert large / small <= 1.05, f"{small} KiB at 5,000 documents, {large} KiB at 50,000"


# So many MiB more than a job of few may a job of many take; a step that holds its input takes more. Few are
# as many as fill the windows that any job has.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "few", "many", "more"),
    [
        ("bad records of one gz", 2_000, 100_000, 60),
        ("verify of those dead letters", 2_000, 100_000, 30),
        ("documents of 1 MB, truncate", 40, 120, 60),
        ("documents of 1 MB without white space", 20, 60, 80),
        ("megabytes of one document", 1, 12, 130),
        ("megabytes of one line of gz", 100, 400, 60),
        ("records of gz, --keep-field --dry-run", 5_000, 100_000, 40),
    ],
)
def test_nothing_is_held_that_grows(tmp_path, model, shape, few, many, more):
    small, large = (bench_memory.peak(shape, count, Path(model), tmp_path) / 1024 for count in (few, many))
    assert large - small <= more, f"{small:.0f} MiB with {few:,}, {large:.0f} MiB with {many:,}"
