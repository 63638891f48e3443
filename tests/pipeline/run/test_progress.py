"""Progress: plain lines where there is no terminal, one live line where there is one."""

import os
import pty
import re
import subprocess
import sys
import time

import jobs
import pytest

from pipeline.run import screen
from pipeline.run.progress import Progress
from pipeline.run.screen import duration
from transforms.elements import Shard, ShardReceipt, Slice
from transforms.observer import Chunked, MiniBatchBegun, MiniBatchDone, Read, ShardDone, Written
from transforms.output import ledger
from transforms.output.folder import Folder

PLAIN = re.compile(
    r"embedbeam: ([\d,]+) documents(, [\d,.]+ documents/s)?(, [\d,]+ tokens/s)?, (\d+)% of the input, "
    r"(\d+)/(\d+) shards, [\d,]+ dead letters, (time left unknown yet|\d+[smh].* left)"
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_plain_lines(cli, tmp_path, slow_model, monkeypatch):
    monkeypatch.setattr(screen, "_PLAIN_SECONDS", 0.05)
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
    assert {int(line[6]) for line in lines} == {shards}
    assert cli("embed", *flags, f"--output={tmp_path}/quiet", "--quiet") == (0, "", "")


def on_a_terminal(*arguments, cwd):
    """Runs a command on a terminal; returns exit code, stdout, what was shown, and [(seconds, line)]."""
    master, slave = pty.openpty()
    environment = jobs.environment() | {"TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
    began = time.monotonic()
    with subprocess.Popen(
        [str(a) for a in arguments],
        cwd=cwd,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment,
    ) as process:
        os.close(slave)
        shown, lines = b"", []
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            shown += block
            plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", block.decode(errors="replace"))
            lines += [
                (time.monotonic() - began, line) for line in re.split(r"[\r\n]+", plain) if line.strip()
            ]
        out = process.stdout.read().decode()
    os.close(master)
    return process.returncode, out, shown.decode(), lines


@pytest.mark.slow
def test_one_live_line_on_a_terminal(tmp_path, slow_model):
    """It talks within a second or so, names the steps of the start, and moves although there is one shard."""
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(400))
    flags = ["--input=a.jsonl", "--output=out", f"--model={slow_model}", "--batch-tokens=20"]
    alone = time.monotonic()
    subprocess.run(
        [jobs.PYTHON, "-c", "import rich.live, rich.spinner, dataclasses, argparse, numpy"], check=True
    )
    alone = time.monotonic() - alone
    code, out, text, lines = on_a_terminal(*jobs.EMBED, *flags, "--shard-bytes=1MiB", cwd=tmp_path)
    assert code == 0
    assert out.startswith("embedded 400 of 400 documents into 400 rows of 4 float32 numbers (1 shards")
    first, _ = lines[0]
    assert first < max(1.0, 4 * alone), lines[:3]  # a busy machine takes long for anything
    said = " ".join(line for _, line in lines)
    assert "importing TensorFlow" in said  # to load so small a model may take less than a redrawing
    shown = [match for _, line in lines if (match := PLAIN.search(f"embedbeam: {line[2:].strip()}"))]
    fractions = [int(match[4]) for match in shown]
    assert {match[6] for match in shown} == {"1"}
    middle = [match for match in shown if 0 < int(match[4]) < 100 and match[5] == "0"]
    assert len({match[4] for match in middle}) > 5  # it moves before the only shard is done
    assert fractions == sorted(fractions)
    assert all("unknown" not in match[7] for match in middle)
    documents = [int(match[1].replace(",", "")) for match in middle]
    for count, match in zip(documents, middle, strict=True):
        assert abs(count - 4 * int(match[4])) < 60  # documents and share of the input tell the same
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)
    assert text.count("\n") <= 1  # the one line is drawn over and over, and wiped at the end
    assert text.rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in text
    assert "warning" not in plain.lower()


@pytest.mark.slow
def test_a_mistake_in_the_input_does_not_wait_for_tensorflow(tmp_path, slow_model):
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"body": "x"}] * 3)
    began = time.monotonic()
    subprocess.run([jobs.PYTHON, "-c", "import tensorflow"], capture_output=True, check=True)
    imports = time.monotonic() - began
    began = time.monotonic()
    flags = ["--input=a.jsonl", "--output=out", f"--model={slow_model}", "--modality=text"]
    done = jobs.run(*jobs.EMBED, *flags, cwd=tmp_path)
    took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("embedbeam: error: a.jsonl at 0: missing field")
    assert took < imports / 2
    assert not (tmp_path / "out").exists()


def test_a_step_that_takes_long_is_named_once_without_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(screen, "_LONG_SECONDS", 0.1)
    monkeypatch.setattr(screen, "_PLAIN_SECONDS", 0.05)
    with screen.Screen() as shown, shown.doing("asking the cluster"):
        time.sleep(0.4)
        os.write(2, b"")
    with screen.Screen(quiet=True) as quiet, quiet.doing("listing the input"):
        time.sleep(0.3)
        quiet.say("nothing")
    with screen.Screen() as short, short.doing("reading the plan"):
        pass
    assert capfd.readouterr() == ("", "embedbeam: still asking the cluster\n")


def test_the_screen_speaks_while_standard_error_is_muted(capfd):
    with screen.Screen() as shown:
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        print("a note", file=sys.stderr)
        shown.say("a line")
        os.dup2(kept, 2)
    os.close(kept)
    os.close(null)
    assert capfd.readouterr().err == "a note\nembedbeam: a line\n"


def shard(name, size):
    return Shard(name, (Slice(name, name, "jsonl", size=size, bytes=size),))


def test_progress_is_bytes_read_times_what_is_embedded_of_them(tmp_path):
    told = Progress()
    told.begin(Folder(str(tmp_path)), "job", [shard("a", 600), shard("b", 400)], near=True)
    assert (told.fraction(), told.seconds_left()) == (None, None)
    told.hear(Read(30, 500))
    assert told.fraction() is None  # read is not done
    told.hear(Chunked(30, 1000))
    told.hear(MiniBatchBegun())
    told.hear(MiniBatchDone(10, 90, 250, 300, 0.5, waited=0.1, calls=3))
    assert told.fraction() == pytest.approx(500 / 1000 * 250 / 1000)
    assert told.embedded_documents() == 7
    assert re.match(r"7 documents, .*, 12% of the input, 0/2 shards, 0 dead letters, \d+s left", told.line())
    told.first_mini_batch -= 10
    assert told.seconds_left() == pytest.approx(10 * 7, rel=0.01)
    told.hear(MiniBatchBegun())
    told.hear(MiniBatchDone(20, 600, 750, 800, 0.5, waited=0.1, calls=1))
    told.hear(Written(20, 2))
    told.hear(ShardDone())
    assert (told.fraction(), told.embedded_documents()) == (0.5, 30)
    assert "50% of the input, 1/2 shards, 2 dead letters" in told.line()
    assert (told.retries, told.tokens, told.mini_batches) == (2, 690, 2)
    assert told.padding == pytest.approx(1 - 1000 / 1100)
    told.hear(Read(50, 100))  # what was shown is not taken back
    told.hear(Chunked(50, 4000))
    assert (told.fraction(), told.embedded_documents()) == (0.5, 30)


def test_shards_of_earlier_runs_are_no_work_of_this_one(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write(f"_embedbeam/receipts/{'a' * 16}.json", b"{}")
    told = Progress()
    told.begin(folder, "job", [shard("a" * 16, 600), shard("b" * 16, 400)], near=True)
    told.hear(Read(10, 400))
    told.hear(Written(10, 10))  # nothing but dead letters
    assert told.fraction() == 1.0
    assert "1/2 shards" in told.line()


def test_seconds_in_the_model_are_those_of_at_least_one_thread(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pipeline.run.progress.time.monotonic", lambda: now[0])
    told = Progress()
    done = MiniBatchDone(1, 1, 1, 1, 1.0, waited=0.0, calls=1)
    for at, event in (
        (1, MiniBatchBegun()),
        (2, MiniBatchBegun()),
        (4, done),
        (5, done),
        (7, MiniBatchBegun()),
    ):
        now[0] = 100.0 + at
        told.hear(event)
    assert told.model_seconds == 4
    assert told.first_mini_batch == 101


def test_how_much_the_model_waited(tmp_path):
    told = Progress()
    assert told.waited is None
    assert told.numbers()["model_waited"] is None
    for idle in (0.5, 0.0):
        told.hear(MiniBatchDone(1, 1, 1, 1, 1.0, waited=0.0, calls=1, span=2.0, idle=idle))
    assert told.waited == 0.125
    assert told.numbers()["model_waited"] == 0.125


def test_of_workers_elsewhere_receipts_tell_it(tmp_path):
    folder, far = Folder(str(tmp_path)), Progress()
    far.begin(folder, "job", [shard("a" * 16, 600)], near=False)
    sums = {"mini_batches": 7, "retries": 2, "model_span": 8.0, "model_idle": 1.0}
    made = ShardReceipt("job", "a" * 16, 5, 5, {}, 50, 0, None, 0, None, None, 0.0, 1.0, "far", 7, **sums)
    ledger.write_receipt(folder, made)
    far.end()
    assert (far.mini_batches, far.retries, far.waited) == (7, 2, 0.125)
