"""The output folder as one job's own: locked while it runs, cleared when asked."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from typing import IO, Any

from pipeline.run.finish import JobFailed
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder

_PART = re.compile(r"part-[0-9a-f]{16}\.(jsonl|parquet|tfrecord)(\.gz)?")


@contextlib.contextmanager
def output_lock(folder: Folder) -> Iterator[None]:
    """Keeps a second job out of a local output folder; the lock dies with its process."""
    if not folder.local:
        yield
        return
    made, created = not os.path.isdir(folder.path), not os.path.isdir(folder.join(layout.STATE))
    try:
        os.makedirs(folder.join(layout.STATE), exist_ok=True)
        lock = open(folder.join(layout.LOCK), "a")  # noqa: SIM115  closed below
    except OSError as e:
        raise UsageError(f"--output {folder.path}: cannot be written ({e.strerror}); check the path") from e
    try:
        if not _locked(lock):
            raise JobFailed(  # no mistake: a retry helps
                f"--output {folder.path}: another embedbeam is writing to it; wait for it, or stop it"
            )
        try:
            yield
        except UsageError:
            if created and not os.path.exists(folder.join(layout.PLAN)):
                shutil.rmtree(folder.join(layout.STATE), ignore_errors=True)
                if made:  # a mistake found before anything started leaves no trace
                    with contextlib.suppress(OSError):
                        os.rmdir(folder.path)
            raise
    finally:
        lock.close()


def _locked(lock: IO[str]) -> bool:
    """Tries for half a second, since `status` holds the lock for a moment to learn who has it."""
    for _ in range(6):
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.1)
    return False


def clear(folder: Folder) -> None:
    """Deletes what an embedbeam job made, and nothing else.

    First what says that rows are there, last what says whose they are: a kill in between leaves no receipt
    without its part.
    """
    if folder.read(layout.PLAN) is None:
        return
    for name in (layout.SUCCESS, layout.MANIFEST):
        folder.delete(name)
    for sub in (layout.RECEIPTS, layout.FAILURES, layout.ATTEMPTS, layout.TEMPORARY, layout.DEAD_LETTERS, ""):
        for name in folder.names(sub):
            if sub.startswith(layout.STATE) or _PART.fullmatch(name):
                folder.delete(f"{sub}/{name}".lstrip("/"))
    for name in (layout.RUN, layout.PLAN):
        folder.delete(name)


def check_empty(folder: Folder) -> None:
    """An output folder must hold nothing that a reader would take for our rows, save a former job's parts."""
    ours = folder.read(layout.PLAN) is not None
    # Folders too: pandas, pyarrow and Spark read what lies below them.
    there = os.listdir(folder.path) if folder.local else folder.names()
    names = (n for n in there if not n.startswith(("_", ".")))
    foreign = sorted(n for n in names if not (ours and _PART.fullmatch(n)))
    if foreign:
        raise UsageError(
            f"--output {folder.path}: holds {len(foreign)} files or folders that embedbeam did not write, "
            f"e.g. {foreign[0]}; choose an empty or a new folder"
        )


def write_run(folder: Folder, device: str, runner: str) -> None:
    """Notes who is at work, for `status` and the manifest."""
    record = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), "device": device}
    record["runner"] = runner
    folder.write(layout.RUN, json.dumps(record).encode())


def read_run(folder: Folder) -> dict[str, Any]:
    """The note of the last run that did something; empty if there was none."""
    return json.loads(folder.read(layout.RUN) or b"{}")
