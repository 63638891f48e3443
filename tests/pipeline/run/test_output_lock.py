"""One job in an output folder: a lock keeps a second one out locally, and the plan does so in stores."""

import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.plan import Plan
from pipeline.run import output as run_output
from pipeline.run.finish import JobFailed
from pipeline.run.output import output_lock, read_run, write_plan, write_run
from transforms.elements import Shard, Slice
from transforms.output import layout, plan_file
from transforms.output.folder import Folder

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pipeline.run.finish import JobFailed
from pipeline.run.output import output_lock
from transforms.output.folder import Folder
try:
    with output_lock(Folder(sys.argv[1])):
        print("locked", flush=True)
        sys.stdin.readline()
except JobFailed as e:
    print(e, flush=True)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, text=True, **pipes)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.communicate("\n", timeout=60)


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    first = hold(tmp_path / "out")
    assert said(first) == "locked"
    second = hold(tmp_path / "out")
    assert said(second) == (
        f"--output {tmp_path / 'out'}: another embedbeam is writing to it; wait for it, or stop it"
    )
    end(first, second)
    third = hold(tmp_path / "out")
    assert said(third) == "locked"
    end(third)


def test_a_lock_on_a_folder_that_was_removed_keeps_nobody_out(tmp_path: Path) -> None:
    """A waits for B's lock; B's folder is removed, and C locks the new one: A must not lock the old file."""
    path = tmp_path / "out"
    folder, entered, go = Folder(str(path)), threading.Event(), threading.Event()
    flock = run_output.fcntl.flock

    def flock_later(lock: Any, how: int) -> None:
        entered.set()
        assert go.wait(60)
        flock(lock, how)

    def lock_here() -> str:
        try:
            with output_lock(folder):
                return "locked"
        except JobFailed as e:
            return str(e)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
        patch.setattr(run_output.fcntl, "flock", flock_later)
        here = thread.submit(lock_here)  # it has the file open, and waits
        assert entered.wait(60)
        shutil.rmtree(path)
        there = hold(path)
        assert said(there) == "locked"
        go.set()
        assert "another embedbeam is writing to it" in here.result()
    end(there)
    with output_lock(folder):
        pass


def test_a_lock_is_taken_anew_where_its_folder_was_removed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    flock, calls = run_output.fcntl.flock, []

    def removed_meanwhile(lock: Any, how: int) -> None:
        flock(lock, how)
        if not calls:
            shutil.rmtree(folder.path)
        calls.append(how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_output.fcntl, "flock", removed_meanwhile)
        with output_lock(folder):
            assert os.path.exists(folder.join(layout.LOCK))
            other = hold(Path(folder.path))
            assert "another embedbeam is writing to it" in said(other)
            end(other)
    assert len(calls) == 2


@dataclasses.dataclass(frozen=True)
class AJob:
    """As much of a job as its plan takes."""

    model: str
    identity: str = ""


PLAN = Plan("/in", (Shard("0" * 16, (Slice("/in/a", "a", "jsonl"),)),), 1, 1, 1)


def test_of_two_launchers_one_has_the_folder_and_the_other_is_told(tmp_path: Path) -> None:
    """Both found no plan, as nothing keeps them apart in a store; each writes its own."""
    folder, start = Folder(str(tmp_path)), threading.Barrier(2)

    def launch(model: str) -> Any:
        start.wait()
        try:
            return write_plan(folder, AJob(model), PLAN)  # type: ignore[arg-type]
        except JobFailed as e:
            return str(e)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(launch, "ab"))
    (won,) = (result for result in results if isinstance(result, AJob))
    (told,) = (result for result in results if isinstance(result, str))
    assert "another embedbeam has just begun a job there" in told
    assert "\n" not in told
    plan = plan_file.read(folder)
    assert plan is not None
    assert (plan.job, plan.head["model"]) == (won.identity, won.model)


def test_the_note_of_another_job_s_run_does_not_count(tmp_path: Path) -> None:
    folder, before = Folder(str(tmp_path)), time.time()
    write_run(folder, AJob("a", "1" * 32), "a GPU", "DirectRunner")  # type: ignore[arg-type]
    found = read_run(folder, "1" * 32)
    assert (found["pid"], found["device"], found["runner"]) == (os.getpid(), "a GPU", "DirectRunner")
    assert before <= found["time"] <= time.time()
    assert read_run(folder, "2" * 32) == {}
