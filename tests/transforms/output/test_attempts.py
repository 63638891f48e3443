"""Notes of who is at work on a shard, and that a committed shard is nobody's work any more."""

import dataclasses
import json
import os
import signal
import socket
import time

import jobs
import pytest

from transforms.elements import ShardReceipt
from transforms.formats.base import ReadOptions
from transforms.output import attempts, layout, ledger, plan_file
from transforms.output.folder import Folder
from transforms.output.reader import open_output
from transforms.steps.read import ReadConfig, _ReadFn

SHARD, JOB = "0123456789abcdef", "0" * 32


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path / "out"))


def test_attempts_are_counted(folder):
    assert attempts.read(folder, SHARD, JOB) is None
    before = time.time()
    assert [attempts.begin(folder, SHARD, JOB) for _ in range(3)] == [1, 2, 3]
    found = attempts.read(folder, SHARD, JOB)
    assert (found.number, found.host, found.pid) == (3, socket.gethostname(), os.getpid())
    assert before <= found.started <= time.time()
    assert attempts.begin(folder, "f" * 16, JOB) == 1
    attempts.end(folder, SHARD, JOB, 3)
    assert attempts.read(folder, SHARD, JOB) is None
    assert attempts.begin(folder, SHARD, JOB) == 1


def test_a_committed_shard_is_not_begun(folder):
    receipt = ShardReceipt(JOB, SHARD, 0, 0, {}, 0, 0, None, 0, None, None, 0.0, 0.0, "h", 1)
    ledger.write_receipt(folder, receipt)
    assert attempts.begin(folder, SHARD, JOB) is None
    assert list(folder.names(layout.ATTEMPTS)) == []


def test_a_note_of_another_job_does_not_count(folder):
    assert attempts.begin(folder, SHARD, "f" * 32) == 1
    assert attempts.begin(folder, SHARD, "f" * 32) == 2
    assert attempts.read(folder, SHARD, JOB) is None
    assert attempts.begin(folder, SHARD, JOB) == 1


def test_a_process_ends_its_own_attempt_alone(folder):
    attempts.begin(folder, SHARD, JOB)
    note = json.loads(folder.read(layout.attempt(SHARD)))
    assert note["pid"] == os.getpid()
    folder.write(layout.attempt(SHARD), json.dumps(note | {"process": "of a pod with the same pid"}).encode())
    attempts.end(folder, SHARD, JOB, 1)
    assert attempts.read(folder, SHARD, JOB).number == 1


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"null", b"7", b'{"number": 2}', b"\xff\xfe"])
def test_a_broken_note_is_none(note, folder):
    folder.write(layout.attempt(SHARD), note)
    assert attempts.read(folder, SHARD, JOB) is None
    assert attempts.begin(folder, SHARD, JOB) == 1
    assert attempts.read(folder, SHARD, JOB).number == 1


def shards_of(output):
    return open_output(str(output)).plan.shards


def test_a_committed_shard_is_not_read_again(copy_of):
    """A runner that repeats a bundle finds the receipts of what was committed in it."""
    job = plan_file.job_of(Folder(str(copy_of)))
    options = ReadOptions(id_field="id", keep_fields=("n",))
    config = ReadConfig(dataclasses.replace(options, kept=(("n", "int64"),)), output=str(copy_of), job=job)
    first, second, *_ = shards_of(copy_of)
    (copy_of / "_embedbeam" / "receipts" / f"{second.shard_id}.json").unlink()
    read = _ReadFn(config)
    assert list(read.process(first)) == []
    assert len(list(read.process(second))) > 1
    note = json.loads((copy_of / "_embedbeam" / "attempts" / f"{second.shard_id}.json").read_text())
    assert (note["number"], note["pid"]) == (1, os.getpid())
    assert [p.stem for p in (copy_of / "_embedbeam" / "attempts").iterdir()] == [second.shard_id]


def test_status_tells_who_began_what(copy_of, cli):
    (copy_of / "_SUCCESS").unlink()
    folder = Folder(str(copy_of))
    one, two, three = (shard.shard_id for shard in shards_of(copy_of)[:3])
    for shard_id in (one, two):
        folder.delete(layout.receipt(shard_id))
    job = plan_file.job_of(folder)
    attempts.begin(folder, one, job)
    attempts.begin(folder, two, job)
    # A worker that died between the receipt and the note's end: the shard is committed all the same.
    note = json.dumps({"job": job, "number": 9, "host": "h", "pid": 1, "started": 0})
    folder.write(layout.attempt(three), note.encode())
    here = f"{socket.gethostname()} (process {os.getpid()})"
    lines = cli("status", copy_of)[1].splitlines()
    assert lines[3] == f"begun       2 shards: 2 on {here}"
    assert not any(line.startswith("again") for line in lines)
    attempts.begin(folder, two, job)
    lines = cli("status", copy_of)[1].splitlines()
    assert lines[3:5] == [
        f"begun       2 shards: 2 on {here}",
        f"again       1 of them were begun before; {two} is in attempt 2",
    ]


@pytest.mark.kill
@pytest.mark.slow
def test_receipts_tell_the_attempt(corpus, model, finished, tmp_path, cli):
    output = tmp_path / "out"
    command = ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS]
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, "rename receipt", 3, *command)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    committed = {receipt["shard_id"] for receipt in jobs.receipts(output)}
    begun = {path.stem for path in (output / "_embedbeam" / "attempts").iterdir()}
    assert begun - committed
    assert cli(*command)[0] == 0
    found = {receipt["shard_id"]: receipt["attempt"] for receipt in jobs.receipts(output)}
    assert found == {shard: 2 if shard in begun - committed else 1 for shard in found}
    assert list((output / "_embedbeam" / "attempts").iterdir()) == []
    assert jobs.files(output) == jobs.files(finished)
