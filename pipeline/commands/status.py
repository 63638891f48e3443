"""`embedbeam status`: how far a job is, from its folder alone: while it runs, and after it died."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import fcntl
import time
from collections.abc import Iterator, Mapping

from pipeline.cluster.runners import LOCAL
from pipeline.commands import Result
from pipeline.commands.folders import add, open_stores
from pipeline.run.finish import failure_text
from pipeline.run.output import read_run
from pipeline.run.screen import duration
from transforms.output import attempts, layout, ledger
from transforms.output.folder import Folder
from transforms.output.reader import Output, open_output

__all__ = ["HELP", "add", "run"]

HELP = "Tell how far a job is, from any machine, while it runs or after it died."


def run(args: argparse.Namespace) -> Result:
    """The state of a job; the exit code is 0 whatever it is."""
    with args.screen.doing("reading the receipts"):
        open_stores(args.output, args.beam_args)
        status = read_status(args.output)
    return Result(status, status_lines(status))


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
    plan, receipts = output.plan, output.receipts
    last = read_run(folder, plan.job)
    runner, since = last.get("runner", LOCAL[0]), last.get("time")
    state = _state(output, runner)
    sizes = {s.shard_id: sum(piece.bytes for piece in s.slices) for s in plan.shards}
    done, whole = sum(sizes[r.shard_id] for r in receipts), sum(sizes.values())
    documents = sum(r.documents for r in receipts)
    rate = seconds = None
    recent = [r for r in receipts if r.finished >= (since or 0.0)]
    if len(recent) > 1:  # one shard tells too little
        seconds = max(r.finished for r in recent) - min(r.started for r in recent)
        rate = sum(r.documents for r in recent) / seconds if seconds > 0 else None
    failures = ledger.read_failures(folder, plan.job)
    begun = sorted(folder.shards(layout.ATTEMPTS) - {r.shard_id for r in receipts})
    notes = [(note, i) for i in begun if (note := attempts.read(folder, i, plan.job)) is not None]
    hosts = collections.Counter(f"{note.host} (process {note.pid})" for note, _ in notes)
    return Status(
        state=state,
        runner=runner,
        host=last.get("host"),
        pid=last.get("pid"),
        since=since,
        model=plan.head["model"],
        model_digest=plan.head["model_digest"],
        dim=output.dim,
        dtype=plan.head["vector_dtype"],
        shards=len(plan.shards),
        committed=len(receipts),
        failed=len(failures),
        begun=dict(hosts.most_common()),
        begun_again=sum(note.number > 1 for note, _ in notes),
        most_attempts=max(((note.number, i) for note, i in notes), key=lambda most: most[0], default=None),
        input_bytes=whole,
        done_bytes=done,
        documents=documents,
        dead_letters=ledger.by_reason(receipts),
        rate=rate,
        work_seconds=None if rate is None else seconds,
        seconds_left=(whole - done) * documents / done / rate
        if state == "running" and rate and done
        else None,
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


def status_lines(status: Status) -> Iterator[str]:
    """The state of a job in words."""
    yield f"job         {_state_words(status)}"
    if status.state == "starting":
        return
    yield f"model       {status.model} ({status.dim} {status.dtype}, digest {status.model_digest[:16]})"
    yield f"shards      {status.committed} of {status.shards} committed, {status.failed} failed"
    if status.begun:
        where = ", ".join(f"{count} on {host}" for host, count in list(status.begun.items())[:8])
        yield f"begun       {sum(status.begun.values())} shards: {where}"
    if status.begun_again and status.most_attempts:
        number, shard_id = status.most_attempts
        yield f"again       {status.begun_again} of them were begun before; {shard_id} is in attempt {number}"
    done, whole = status.done_bytes, status.input_bytes
    yield f"input       {done:,} of {whole:,} bytes ({done / whole if whole else 1:.0%})"
    yield f"documents   {status.documents:,} committed"
    dead = ", ".join(f"{reason} ({count})" for reason, count in status.dead_letters.items())
    yield f"dead letters {sum(status.dead_letters.values()):,}{': ' + dead if dead else ''}"
    if status.rate is not None and status.work_seconds is not None:
        over = duration(status.work_seconds)
        yield f"rate        {status.rate:,.1f} documents/s over the last {over} of work"
    if status.seconds_left is not None:
        yield f"time left   {duration(status.seconds_left)}"
    for what in status.bad_files[:20]:
        yield f"bad file    {what}"


def _state_words(status: Status) -> str:
    since = f", started {duration(time.time() - status.since)} ago" if status.since else ""
    away = f"; workers of {status.runner} may be at work, whether its launcher runs or not"
    return {
        "starting": "starting: it has no plan yet",
        "running": f"running: process {status.pid or '?'} on {status.host or '?'}{since}",
        "stopped": "stopped before its end; run the same command again to go on",
        "unknown": f"not finished{since}{'' if status.runner in LOCAL else away}",
    }.get(status.state, status.state)
