"""Peak memory does not grow with the corpus."""

import statistics

import jobs
import pytest

MEASURE = """
import resource, sys
from pipeline.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
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
    return int(done.stdout)


@pytest.mark.slow
def test_ten_times_the_documents(tmp_path, model):
    small = statistics.median(peak(tmp_path, model, 5000, run) for run in range(3))
    large = statistics.median(peak(tmp_path, model, 50_000, run) for run in range(3))
    assert large / small <= 1.05, f"{small} KiB at 5,000 documents, {large} KiB at 50,000"
