"""What the tests on clusters share: a corpus of 2,000 documents, the job's commands, kills in the middle."""

import contextlib
import json
import os
import random
import signal
from pathlib import Path

import jobs
import psutil

BOOT = str(Path(jobs.PYTHON).parent / "embedbeam-boot")
WORDS = ("water", "time", "house", "light", "river", "paper", "music", "garden", "engine", "window", "letter")
DOCUMENTS = 2000
PROCESS = ["--shared-filesystem", "--environment_type=PROCESS"]


def write_corpus(folder):
    """2,000 documents of 4 to 24 words, which --shard-bytes of `command` cuts into 20 shards."""
    draw = random.Random(1)
    records = [
        {"id": f"d{i:04d}", "text": " ".join(draw.choices(WORDS, k=draw.randint(4, 24)))}
        for i in range(DOCUMENTS)
    ]
    return jobs.write_jsonl(folder / "docs.jsonl", records)


def command(corpus, output, *flags):
    """The same job on any runner, with the default model."""
    size = -(-corpus.stat().st_size // 20)
    flags = [f"--input={corpus}", f"--output={output}", "--id-field=id", f"--shard-bytes={size}", *flags]
    return [*jobs.EMBED, *flags]


def begun(output):
    """Pids of the processes that are at work on shards."""
    pids = []
    for path in Path(output, "_embedbeam", "attempts").glob("*.json"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # committed meanwhile
            pids.append(json.loads(path.read_text())["pid"])
    return sorted(pids)


def wait_for_receipts(output, process, count=3, workers=1):
    """Waits until the job is in the middle, with work of so many processes. Returns receipts by shard."""

    def there():
        receipts = jobs.receipts(output)
        return len(receipts) >= count and len({r["pid"] for r in receipts}) >= workers and begun(output)

    jobs.wait_for(there, process)
    return {receipt["shard_id"]: receipt for receipt in jobs.receipts(output)}


def kill_sdk_worker(output):
    """SIGKILL to a process that has begun a shard."""
    pid = begun(output)[0]
    psutil.Process(pid).send_signal(signal.SIGKILL)
    return pid


def sdk_workers():
    """SDK workers that run, whoever their parent is now; those of another test process are not counted."""
    mine = os.environ.get("PYTEST_XDIST_WORKER")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        with contextlib.suppress(psutil.Error):
            if any("sdk_worker_main" in word or word == BOOT for word in line):
                found += [line] if process.environ().get("PYTEST_XDIST_WORKER") == mine else []
    return found


def check_finished(output, local, cli):
    """As on one machine: every row once, the same bytes, nothing left over."""
    assert jobs.files(output) == jobs.files(local)
    assert [row["doc_id"] for row in jobs.rows(output)] == [f"d{i:04d}" for i in range(DOCUMENTS)]
    assert jobs.temporaries(output) == []
    assert list(Path(output, "_embedbeam", "attempts").glob("*")) == []
    assert cli("verify", output) == (
        0,
        f"{output}: 20 shards, 2,000 rows, 0 dead letters: all as committed\n",
        "",
    )


def check_not_again(before, output):
    """What was committed was not embedded again."""
    after = {receipt["shard_id"]: receipt for receipt in jobs.receipts(output)}
    assert {shard: after[shard] for shard in before} == before
