"""Ctrl-C of commands that are not `embed`: a line that says so, exit code 130, and nothing left."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import jobs
import outputs
import pytest

from pipeline.run import signals

pytestmark = pytest.mark.slow
SCRIPT = Path(sys.executable).with_name("embedbeam")
SAID = "embedbeam: stopped; no file is left half written, and the same command can be run again\n"


@pytest.fixture
def home(tmp_path):
    """A folder with the outputs old and new; whoever reads a row of old waits for ever."""
    outputs.make(tmp_path / "old", **outputs.JOB)
    outputs.make(tmp_path / "new", **outputs.JOB, prompt="new")
    for part in (tmp_path / "old").glob("part-*"):
        part.unlink()
        os.mkfifo(part)
    (tmp_path / "spilled").mkdir()
    return tmp_path


def hears(process):
    """Whether the command line's own handlers are there: SIGTERM is caught."""
    words = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()
    return int(words[0], 16) >> (signal.SIGTERM - 1) & 1


def stopped(home, *command, when=hears):
    """Starts a command, stops it once that is so; what it has said."""
    spilled = home / "spilled"
    with jobs.start("env", f"TMPDIR={spilled}", SCRIPT, *command, cwd=home) as process:
        jobs.wait_for(lambda: when(process), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert list(spilled.iterdir()) == []
    return jobs.without_steps(err)


def spills(home):
    return lambda _: any((home / "spilled").glob("embedbeam-*/*"))


def test_diff(home):
    assert stopped(home, "diff", "old", "new", "--to", "changes.parquet", when=spills(home)) == SAID
    assert sorted(os.listdir(home)) == ["new", "old", "spilled"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [("verify", "old"), ("compare", "old", "new"), ("map", "old", "--quiet")])
def test_readers(home, command, number):
    """The command is in the reading, or before it."""
    before = sorted(home.rglob("*"))
    with jobs.start(SCRIPT, *command, cwd=home) as process:
        jobs.wait_for(lambda: hears(process), process)
        time.sleep(1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, jobs.without_steps(err)) == (128 + number, "", SAID)
    assert sorted(home.rglob("*")) == before


def test_dedup(home):
    words = "text that says more than a few words of which none is said in many others but in this one"
    records = [{"text": f"{words} {i} {words}"} for i in range(100_000)]
    source = jobs.write_jsonl(home / "in.jsonl", records)
    command = ["dedup", "--input", source, "--near-duplicates=0.9", "--to", "double.parquet"]
    assert stopped(home, *command, when=spills(home)) == SAID
    assert sorted(os.listdir(home)) == ["in.jsonl", "new", "old", "spilled"]


def test_rollback_says_what_is_current(home):
    """The same command again may go back twice, so nobody is told to type it again."""
    outputs.make(home / "v1")
    for name in ("v1", "new"):
        assert jobs.run(SCRIPT, "publish", name, "--to", "current", cwd=home).returncode == 0
    plan = home / "v1" / "_embedbeam" / "plan.jsonl"
    shutil.move(plan, home / "plan")
    os.mkfifo(plan)
    held = []

    def reads(_):  # a named pipe takes a writer once somebody reads it
        try:
            held.append(os.open(plan, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    said = stopped(home, "rollback", "current", when=reads)
    os.close(held[0])
    assert said == "embedbeam: stopped; current is new now: look at it before you go back again\n"
    assert os.readlink(home / "current") == "new"


def test_a_job_on_a_cluster_is_cancelled_first(monkeypatch):
    """Of a scan as of `embed`: it would go on without its launcher."""
    from pipeline.cluster import remote

    said = []

    class Job:
        name, remote = "embedbeam-1", True

        def cancel(self):
            said.append("cancel")
            return True

        def stop_servers(self):
            said.append("stop servers")

    monkeypatch.setattr(remote, "current", Job())
    signals.stop_command("the end", said.append)
    assert said == [
        "embedbeam: stopping: job embedbeam-1 is being cancelled\n",
        "cancel",
        "embedbeam: stopped; the end\n",
        "stop servers",
    ]


def test_embed_leaves_no_folder_of_beams(home, slow_model):
    jobs.write_jsonl(home / "in.jsonl", jobs.documents(1500))
    committed = home / "out" / "_embedbeam" / "receipts"
    flags = ["--id-field=id", "--shard-bytes=2000", "--batch-tokens=40"]
    command = ["embed", "--input=in.jsonl", "--output=out", f"--model={slow_model}", *flags]
    said = stopped(home, *command, when=lambda _: any(committed.glob("*.json")))
    assert said.startswith("embedbeam: stopped; ")
