"""How far a job is, from its folder alone: while it runs, and after it died."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
from collections.abc import Mapping

from pipeline.cluster.runners import LOCAL
from pipeline.run.finish import failure_text
from pipeline.run.output import read_run
from transforms.output import attempts, layout, ledger
from transforms.output.folder import Folder
from transforms.output.reader import Output, open_output


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
      state: starting (no plan yet), running, stopped, finished, or unknown (the folder is in a store, or
        workers of a cluster may be at work).
      runner, host, pid, since: of the last run; since in seconds since the epoch, None if there was none.
      shards, committed, failed: how many there are.
      begun: shards at work, or in whose midst a worker died, by host and process.
      begun_again: how many of them were begun before.
      most_attempts: number of attempts and id of the one that was begun most often; None if none is begun.
      input_bytes, done_bytes: of the plan, and of its committed shards.
      documents: committed, dead letters counted.
      dead_letters: by reason.
      rate, work_seconds: documents a second in the last run, and over which time; None if unknown.
      seconds_left: None if unknown.
      bad_files: what is wrong with each.
    """

    state: str
    runner: str = LOCAL[0]
    host: str | None = None
    pid: int | None = None
    since: float | None = None
    model: str = ""
    model_digest: str = ""
    dim: int = 0
    dtype: str = ""
    shards: int = 0
    committed: int = 0
    failed: int = 0
    begun: Mapping[str, int] = dataclasses.field(default_factory=dict)
    begun_again: int = 0
    most_attempts: tuple[int, str] | None = None
    input_bytes: int = 0
    done_bytes: int = 0
    documents: int = 0
    dead_letters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rate: float | None = None
    work_seconds: float | None = None
    seconds_left: float | None = None
    bad_files: tuple[str, ...] = ()


def read_status(path: str) -> Status:
    """The state of the job in a folder.

    Raises:
      UsageError: there is no job in the folder.
    """
    folder = Folder(path)
    if folder.local and _is_locked(folder) and folder.read(layout.PLAN) is None:
        return Status("starting")
    output = open_output(path)
    job, receipts = output.job, output.receipts
    run = read_run(folder, output.plan.job)
    state = _state(output, run.get("runner", LOCAL[0]))
    sizes = {s.shard_id: sum(piece.bytes for piece in s.slices) for s in output.plan.shards}
    done, whole = sum(sizes[r.shard_id] for r in receipts), sum(sizes.values())
    documents = sum(r.documents for r in receipts)
    rate, seconds = _rate(output, run.get("time", 0.0))
    left = None
    if state == "running" and rate and done:
        left = (whole - done) * (documents / done) / rate
    failures = ledger.read_failures(folder, output.plan.job)
    notes = _begun(output)
    most = max(notes.items(), key=lambda item: item[1].number, default=None)
    hosts = collections.Counter(f"{note.host} (process {note.pid})" for note in notes.values())
    return Status(
        state=state,
        runner=run.get("runner", LOCAL[0]),
        host=run.get("host"),
        pid=run.get("pid"),
        since=run.get("time"),
        model=job["model"],
        model_digest=job["model_digest"],
        dim=output.dim,
        dtype=job["vector_dtype"],
        shards=len(output.plan.shards),
        committed=len(receipts),
        failed=len(failures),
        begun=dict(hosts.most_common()),
        begun_again=sum(note.number > 1 for note in notes.values()),
        most_attempts=None if most is None else (most[1].number, most[0]),
        input_bytes=whole,
        done_bytes=done,
        documents=documents,
        dead_letters=ledger.by_reason(receipts),
        rate=rate,
        work_seconds=seconds,
        seconds_left=left,
        bad_files=tuple(map(failure_text, failures)),
    )


def _state(output: Output, runner: str) -> str:
    if output.folder.read(layout.SUCCESS) is not None:
        return "finished"
    if not output.folder.local:
        return "unknown"
    if _is_locked(output.folder):
        return "running"
    return "unknown" if runner not in LOCAL else "stopped"


def _is_locked(folder: Folder) -> bool:
    try:
        with contextlib.suppress(FileNotFoundError), open(folder.join(layout.LOCK)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _begun(output: Output) -> dict[str, attempts.Attempt]:
    """By shard who is, or was when it died, at work on it; without the committed ones."""
    begun = output.folder.shards(layout.ATTEMPTS) - {r.shard_id for r in output.receipts}
    notes = {i: attempts.read(output.folder, i, output.plan.job) for i in sorted(begun)}
    return {shard_id: note for shard_id, note in notes.items() if note is not None}


def _rate(output: Output, since: float) -> tuple[float | None, float | None]:
    """Documents/s of the last run and over how many seconds, from its receipts."""
    recent = [r for r in output.receipts if r.finished >= since]
    if len(recent) < 2:  # one shard tells too little
        return None, None
    seconds = max(r.finished for r in recent) - min(r.started for r in recent)
    return (sum(r.documents for r in recent) / seconds, seconds) if seconds > 0 else (None, None)
