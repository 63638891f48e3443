"""Ctrl-C and SIGTERM: stop at once, say what is committed and how to go on."""

import shlex
import signal
from pathlib import Path

import jobs
import psutil
import pytest

pytestmark = pytest.mark.slow


def start(folder, model, *flags):
    arguments = ["--input=in dir/*.jsonl", "--output=out dir", f"--model={model}", "--id-field", "id"]
    return jobs.start(*jobs.EMBED, *arguments, "--shard-bytes=2000", "--batch-tokens=40", *flags, cwd=folder)


def said_by(process):
    """Standard output, and standard error without lines that name a step which took long."""
    out, err = process.communicate(timeout=60)
    return out, jobs.without_steps(err)


@pytest.fixture
def folder(tmp_path):
    jobs.write_jsonl(tmp_path / "in dir" / "a.jsonl", jobs.documents(1500))
    return tmp_path


def committed(folder):
    return len(list((folder / "out dir" / "_embedbeam" / "receipts").glob("*.json")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(number, folder, slow_model, cli):
    flags = ["--overwrite", "--s3_secret_access_key=verysecret"]
    with start(folder, slow_model, *flags) as process:
        jobs.wait_for(lambda: committed(folder) >= 2, process)
        process.send_signal(number)
        out, err = said_by(process)
    assert (process.returncode, out) == (128 + number, "")
    done = committed(folder)
    total = len((folder / "out dir" / "_embedbeam" / "plan.jsonl").read_text().splitlines()) - 1
    assert 2 <= done < total
    said, resume = err.splitlines()  # and no traceback
    assert said == f"embedbeam: stopped; {done} of {total} shards are committed in out dir. To go on:"
    assert jobs.temporaries(folder / "out dir") == []
    assert not (folder / "out dir" / "_SUCCESS").exists()
    assert not [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(folder)]
    assert "verysecret" not in err
    assert "--overwrite" not in err
    text = cli("status", folder / "out dir")[1]
    assert "job         stopped before its end; run the same command again to go on" in text
    assert f"shards      {done} of {total} committed, 0 failed" in text
    before = jobs.files(folder / "out dir")
    again = jobs.run(*shlex.split(resume), cwd=folder)
    assert (again.returncode, again.stderr) == (0, "")
    assert [r["doc_id"] for r in jobs.rows(folder / "out dir")] == sorted(f"d{i}" for i in range(1500))
    assert jobs.files(folder / "out dir").items() >= before.items()
    assert cli("verify", folder / "out dir")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_during_start_up(number, folder, slow_model):
    with start(folder, slow_model) as process:
        jobs.wait_for((folder / "out dir" / "_embedbeam" / "lock").exists, process)
        process.send_signal(number)
        out, err = said_by(process)
    assert (process.returncode, out) == (128 + number, "")
    assert err == "embedbeam: stopped before anything was written\n"
    assert jobs.temporaries(folder / "out dir") == []


def test_status_while_it_runs(folder, slow_model):
    with start(folder, slow_model) as process:
        jobs.wait_for(lambda: committed(folder) >= 2, process)
        done = jobs.run(jobs.PYTHON, "-m", "pipeline", "status", "out dir", cwd=folder)
        process.kill()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"job         running: process {process.pid} on ")
    assert any(line.startswith("rate        ") for line in lines)
    assert any(line.startswith("time left   ") for line in lines)
    died = jobs.run(jobs.PYTHON, "-m", "pipeline", "status", "out dir", cwd=folder)
    assert died.stdout.startswith("job         stopped before its end; run the same command again to go on")


def test_stopping_a_second_start_leaves_the_first_alone(folder, slow_model):
    with start(folder, slow_model) as first:
        jobs.wait_for(lambda: committed(folder) >= 1, first)
        with start(folder, slow_model) as second:
            second.send_signal(signal.SIGINT)
            second.communicate(timeout=60)
        done = committed(folder)
        jobs.wait_for(lambda: committed(folder) > done, first)
        first.kill()
        first.communicate(timeout=60)


def test_stopped_while_tensorflow_loads(folder, slow_model):
    with start(folder, slow_model) as process:
        jobs.wait_for(lambda: committed(folder) >= 1, process)
        process.kill()
        process.communicate(timeout=60)
    with start(folder, slow_model) as again:
        loading = lambda: any("libtensorflow_cc" in m.path for m in psutil.Process(again.pid).memory_maps())  # noqa: E731
        jobs.wait_for(loading, again)
        again.send_signal(signal.SIGTERM)
        _, err = said_by(again)
    assert again.returncode == 143
    assert err.startswith("embedbeam: stopped; ")


def test_overwrite_stopped_before_its_plan(folder, slow_model, model, cli):
    """The old rows are still there, and said to be the old ones; the command that is shown replaces them."""
    old = ["--input=in dir/*.jsonl", "--output=out dir", f"--model={model}", "--id-field", "id", "--limit=20"]
    assert jobs.run(*jobs.EMBED, *old, "--quiet", cwd=folder).returncode == 0
    before = jobs.files(folder / "out dir")
    with jobs.start(*jobs.EMBED, *old, "--overwrite", "--limit=30", cwd=folder) as process:
        jobs.wait_for(lambda: "libtensorflow" in Path(f"/proc/{process.pid}/maps").read_text(), process)
        process.send_signal(signal.SIGINT)
        out, err = said_by(process)
    assert (process.returncode, out) == (130, "")
    said, resume = err.splitlines()
    assert said == (
        "embedbeam: stopped before the new plan was written: nothing of it is committed, and what "
        "the earlier job left in out dir is still there. To begin the new job:"
    )
    assert "--overwrite" in resume.split()
    assert jobs.files(folder / "out dir") == before
    assert jobs.manifest(folder / "out dir")["documents"] == 20
    again = jobs.run(*shlex.split(resume), cwd=folder)
    assert again.returncode == 0
    assert jobs.manifest(folder / "out dir")["documents"] == 30


@pytest.mark.parametrize("milliseconds", [0, 50, 200, 500])
@pytest.mark.parametrize("command", ["embed", "status"])
def test_no_traceback_at_the_very_start(folder, model, milliseconds, command):
    """From our first line on; what Python itself imports before it is not ours."""
    given = ["--input=in dir", "--output=out dir", f"--model={model}"] if command == "embed" else ["out dir"]
    code = (
        "import sys, threading, os, signal, time\n"
        "def kill():\n"
        "    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:\n"
        "        time.sleep(0.001)\n"
        f"    time.sleep({milliseconds / 1000})\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=kill, daemon=True).start()\n"
        f"sys.argv = ['/some/where/embedbeam', {command!r}, *{given!r}]\n"
        "from pipeline.cli import main\n"
        "sys.exit(main())"
    )
    done = jobs.run(jobs.PYTHON, "-c", code, cwd=folder)
    assert "Traceback" not in done.stderr
    assert done.returncode in ((130, 2) if command == "status" else (130,))
    assert not (folder / "out dir").exists() or jobs.temporaries(folder / "out dir") == []
