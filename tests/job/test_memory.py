"""Peak memory does not grow with the corpus, nor with a file, a record, or the dead letters."""

from pathlib import Path

import jobs
import pytest

from benchmarks import bench_memory
from transforms.encoder.device import available_cores

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
    return peak_of(*flags, "--shard-bytes=300000", "--keep-text")


def peak_of(*flags):
    """KiB at most in memory of a job in a process of its own."""
    done = jobs.run(jobs.PYTHON, "-c", MEASURE, "embed", *flags, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    return float(done.stdout)


@pytest.mark.slow
def test_ten_times_the_documents(tmp_path, model):
    small = min(peak(tmp_path, model, 5000, run) for run in range(2))
    large = min(peak(tmp_path, model, 50_000, run) for run in range(2))
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


@pytest.mark.slow
def test_large_photos_are_decoded_a_few_at_a_time(tmp_path):
    """Of 12 megapixels each: a mini-batch of them would take half a gigabyte, and several are in flight."""
    import image_models
    import pictures

    model = image_models.save_small(tmp_path / "m")
    photo = pictures.Image.fromarray(pictures.photo(1, 600, 450)).resize((4000, 3000))
    large = pictures.encoded(photo, "PNG", compress_level=1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(large + bytes(number))
    one, many = (
        peak_of(f"--input={folder}/{pattern}", f"--model={model}", f"--output={tmp_path}/{run}") / 1024
        for run, pattern in enumerate(("0.*", "*"))
    )
    # Two copies of four bytes a pixel for each core, and what is read.
    most = 100 * available_cores() + 100
    assert many - one <= most, f"{one:.0f} MiB with one photo, {many:.0f} MiB with ten"
