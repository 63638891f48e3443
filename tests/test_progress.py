"""Progress: plain lines where there is no terminal, one live line where there is one."""

import os
import pty
import re
import subprocess

import jobs
import pytest

from pipeline.run import progress
from pipeline.run.progress import duration

PLAIN = re.compile(
    r"embedbeam: ([\d,]+) documents(, [\d,.]+ documents/s)?(, [\d,]+ tokens/s)?, (\d+)/(\d+) shards, "
    r"[\d,]+ dead letters, (time left unknown yet|\d+[smh].* left)"
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_plain_lines(cli, tmp_path, slow_model, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.05)
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(300))
    flags = [
        f"--input={tmp_path}/a.jsonl",
        f"--model={slow_model}",
        "--shard-bytes=1500",
        "--batch-tokens=100",
    ]
    code, _, err = cli("embed", *flags, f"--output={tmp_path}/out")
    assert code == 0
    lines = [PLAIN.fullmatch(line) for line in err.splitlines()]
    assert len(lines) > 3
    assert all(lines), err
    counts = [int(line[1].replace(",", "")) for line in lines]
    assert counts == sorted(counts)
    shards = len(jobs.receipts(tmp_path / "out"))
    assert {int(line[5]) for line in lines} == {shards}
    assert cli("embed", *flags, f"--output={tmp_path}/quiet", "--quiet") == (0, "", "")


@pytest.mark.slow
def test_one_live_line_on_a_terminal(tmp_path, slow_model):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(400))
    master, slave = pty.openpty()
    flags = [
        "--input=a.jsonl",
        "--output=out",
        f"--model={slow_model}",
        "--batch-tokens=20",
        "--shard-bytes=2000",
    ]
    environment = jobs.environment() | {"TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
    with subprocess.Popen(
        [*jobs.EMBED, *flags],
        cwd=tmp_path,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            shown += block
        out = process.stdout.read().decode()
    os.close(master)
    assert process.returncode == 0
    assert out.startswith("embedded 400 of 400 documents")
    text = shown.decode()
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)
    assert re.search(r"[\d,]+ documents, [\d,.]+ documents/s, \d+/\d+ shards, 0 dead letters, ", plain)
    assert text.count("\n") <= 1  # the one line is drawn over and over, and wiped at the end
    assert text.rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in text
    assert "warning" not in plain.lower()
