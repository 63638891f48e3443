"""Promises about many shards, checked with a few: what is opened and when, how large the plan is."""

import sys

import jobs
import pytest

from pipeline import embed
from pipeline.options.options import Options
from pipeline.plan.plan import make_plan
from transforms.output import layout, ledger, plan_file
from transforms.output.folder import Folder

SHARDS = 40
OPENED = []


@pytest.fixture(scope="module", autouse=True)
def opened():
    """From now on OPENED has the paths that this process opens: an audit hook stays."""
    listening = [True]
    sys.addaudithook(lambda event, given: OPENED.append(given[0]) if event == "open" and listening else None)
    yield
    listening.clear()


def write_lines(path, count):
    """Documents of one length, of which `shard_bytes` of the returned size makes a shard each."""
    jobs.write_jsonl(path, [{"text": f"document {i:07d}"} for i in range(count)])
    return path.stat().st_size // count


@pytest.fixture
def job(tmp_path, model):
    size = write_lines(tmp_path / "docs.jsonl", SHARDS)
    output = tmp_path / "out"
    options = {"input": f"{tmp_path}/docs.jsonl", "output": str(output), "model": model, "shard_bytes": size}
    assert embed(**options).shards == SHARDS
    return options, output


def test_a_resume_opens_no_receipt_before_its_work_begins(job):
    """One shard is left to do: work begins with the note of who is at it, after a listing of the receipts."""
    options, output = job
    receipts = sorted((output / layout.RECEIPTS).iterdir())
    left = receipts[7]
    left.unlink()
    for name in (layout.SUCCESS, layout.MANIFEST):
        (output / name).unlink()
    OPENED.clear()
    embed(**options)
    ours = [path for path in OPENED if isinstance(path, str) and path.startswith(str(output))]
    begun = next(i for i, path in enumerate(ours) if f"attempts-{left.name}" in path)
    read_before = {path for path in ours[:begun] if layout.RECEIPTS in path}
    assert read_before == {str(left)}  # is it committed meanwhile?
    # To balance the books, each is read once; the writer looks for another attempt's commit.
    read_after = sorted(path for path in ours[begun:] if f"{layout.RECEIPTS}/" in path)
    assert read_after == sorted([*map(str, receipts), str(left)])


def test_a_finished_job_opens_no_receipt(job):
    options, output = job
    OPENED.clear()
    embed(**options)
    assert str(output / layout.MANIFEST) in OPENED
    assert [path for path in OPENED if isinstance(path, str) and layout.RECEIPTS in path] == []


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_receipts_are_read_in_their_order(job, count):
    _, output = job
    folder = Folder(str(output))
    all_names = sorted(folder.names(layout.RECEIPTS))
    names = [all_names[i * 7 % SHARDS] for i in range(count)]
    job, ids = plan_file.job_of(folder), [name.removesuffix(".json") for name in names]
    assert [r.shard_id for r in ledger.read_receipts(folder, job, ids)] == sorted(ids)


def test_a_plan_of_2000_shards_is_small(tmp_path):
    """A shard's line holds its file's two names and about a hundred bytes."""
    path = tmp_path / "docs.jsonl"
    size = write_lines(path, 2000)
    plan = make_plan(Options(input=(str(path),), output=str(tmp_path / "out"), shard_bytes=size))
    lines = [shard.to_line() for shard in plan.shards]
    assert len(lines) == 2000
    names = len(str(path)) + len(path.name)
    assert max(map(len, lines)) - names <= 115
