"""Peak memory does not grow with the corpus, nor with a file, a record, or the dead letters."""

import statistics
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


@pytest.mark.slow
def test_large_photos_are_decoded_one_after_the_other(tmp_path):
    """Of 24 megapixels each: as many as are in flight would take gigabytes."""
    import image_models
    import pictures

    model = image_models.save_small(tmp_path / "m")
    photo = pictures.photo(1, 600, 400)
    for kind, many in (("PNG", 12), ("JPEG", 12)):
        folder = tmp_path / kind
        folder.mkdir()
        large = pictures.encoded(pictures.Image.fromarray(photo).resize((6000, 4000)), kind)
        for number in range(many):
            (folder / f"{number}.{kind.lower()}").write_bytes(large + bytes(number))
        peaks = [
            peak_of(f"--input={folder}/{pattern}", f"--model={model}", f"--output={tmp_path}/{kind}{run}")
            for run, pattern in enumerate(("0.*", "*"))
        ]
        # Two copies of four bytes a pixel, for each core: 192 MB.
        more = (peaks[1] - peaks[0]) / 1024
        assert more <= 192 * max(4, available_cores()), f"{peaks} KiB with one {kind} and with {many}"
