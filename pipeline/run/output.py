"""The output folder as one job's own: locked while it runs, cleared when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from typing import IO, Any

from pipeline.job import Job, plan_file
from pipeline.plan.plan import Plan
from transforms.errors import JobFailed, UsageError
from transforms.output import layout
from transforms.output import plan_file as plans
from transforms.output.folder import Folder
from transforms.storage.files import full_path, is_local


@contextlib.contextmanager
def output_lock(folder: Folder, flag: str = "--output") -> Iterator[None]:
    """Keeps a second job out of a local output folder; the lock dies with its process.

    Args:
      flag: the option that names the folder, for messages.
    """
    if not folder.local:
        yield
        return
    if os.path.exists(folder.path) and not os.path.isdir(folder.path):
        raise UsageError(f"{flag} {folder.path}: is a file; expected a folder", argument=flag[2:])
    made, created = not os.path.isdir(folder.path), not os.path.isdir(folder.join(layout.STATE))
    try:
        lock = _lock(folder)
    except OSError as e:
        raise UsageError(f"{flag} {folder.path}: cannot be written ({e.strerror}); check the path") from e
    if lock is None:
        raise JobFailed(  # no mistake: a retry helps
            f"{flag} {folder.path}: another embedbeam is writing to it; wait for it, or stop it"
        )
    with lock:
        try:
            yield
        except UsageError:
            # More than the lock is there once a plan is, or what says which scan the files beside it are of.
            if created and folder.names(layout.STATE).keys() <= {os.path.basename(layout.LOCK)}:
                shutil.rmtree(folder.join(layout.STATE), ignore_errors=True)
                if made:  # a mistake found before anything started leaves no trace
                    with contextlib.suppress(OSError):
                        os.rmdir(folder.path)
            raise


def _lock(folder: Folder) -> IO[str] | None:
    """The lock file, locked; None if another process holds it.

    Tries for half a second, since `status` holds the lock for a moment to learn who has it. A lock on a file
    that somebody has removed meanwhile, with the folder, keeps nobody out: it is taken anew.
    """
    for _ in range(6):
        os.makedirs(folder.join(layout.STATE), exist_ok=True)
        lock = open(folder.join(layout.LOCK), "a")  # noqa: SIM115  closed by who gets it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder.join(layout.LOCK))):
                return lock
        except FileNotFoundError:
            pass
        except BlockingIOError:
            time.sleep(0.1)
        lock.close()
    return None


def write_plan(folder: Folder, job: Job, plan: Plan) -> Job:
    """Makes the folder this job's own. Returns the job, with its identity.

    Raises:
      JobFailed: another launcher, which no lock keeps out of an object store, was faster.
    """
    data = plan_file(job, plan)
    if not folder.create_new(layout.PLAN, data):
        raise JobFailed(
            f"--output {folder.path}: another embedbeam has just begun a job there; wait for it, or stop it, "
            "then run the same command again"
        )
    return dataclasses.replace(job, identity=plans.job_in(data) or "")


def clear(folder: Folder) -> None:
    """Deletes what an embedbeam job made, and nothing else.

    First what says that rows are there, last what says whose they are: a kill in between leaves no receipt
    without its part.
    """
    if folder.read(layout.PLAN) is None:
        return
    for name in (layout.SUCCESS, layout.MANIFEST, layout.REPORT):
        folder.delete(name)
    for sub in (layout.ERRANDS, *layout.MADE_LATER):
        folder.delete_folder(sub)
    for sub in (layout.RECEIPTS, layout.FAILURES, layout.ATTEMPTS, layout.TEMPORARY):
        folder.delete_files(sub)
    for sub in (layout.DEAD_LETTERS, layout.DUPLICATES, ""):
        folder.delete_files(sub, which=layout.shard_of_part)
    for sub in (layout.TRACE, layout.KNOWN, layout.COPIES, layout.SHARED):
        folder.delete_folder(sub)
    index = layout.FINGERPRINTS.rpartition("/")[2]
    folder.delete_files(layout.STATE, which=lambda name: name.startswith(index))
    for name in (layout.RUN, layout.FORGET, layout.PLAN):  # the log of what was forgotten stays
        folder.delete(name)


def check_empty(folder: Folder) -> None:
    """An output folder must hold nothing that a reader would take for our rows, save a former job's parts."""
    ours = folder.read(layout.PLAN) is not None
    # Folders too: pandas, pyarrow and Spark read what lies below them.
    there = os.listdir(folder.path) if folder.local else folder.names()
    names = (n for n in there if not n.startswith(("_", ".")))
    foreign = sorted(n for n in names if not (ours and layout.shard_of_part(n)))
    if foreign:
        raise UsageError(
            f"--output {folder.path}: holds {len(foreign)} files or folders that embedbeam did not write, "
            f"e.g. {foreign[0]}; choose an empty or a new folder"
        )


def same_folder(one: str, other: str) -> bool:
    """Whether two paths or URLs are of one folder."""
    if is_local(one) and is_local(other):
        one, other = (os.path.realpath(Folder(full_path(path)).path) for path in (one, other))
    return one.rstrip("/") == other.rstrip("/")


def write_run(folder: Folder, job: Job, device: str, runner: str) -> None:
    """Notes who is at work, for `status` and the manifest."""
    who = {"job": job.identity, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    record = who | {"device": device, "runner": runner}
    folder.write(layout.RUN, json.dumps(record).encode())


def read_run(folder: Folder, job: str) -> dict[str, Any]:
    """The note of the last run of this job that did something; empty if there was none."""
    record = json.loads(folder.read(layout.RUN) or b"{}")
    return record if record.get("job") == job else {}
