"""`embedbeam status`: how far a job is, from its plan and receipts: while it runs, and after it died."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import fcntl
import time

from pipeline.cluster.runners import LOCAL
from pipeline.commands.folders import add_output, open_stores
from pipeline.commands.results import print_json
from pipeline.commands.unknown import check_unknown
from pipeline.job import parse_plan
from pipeline.run import finish
from pipeline.run.output import read_run
from pipeline.run.screen import duration
from transforms.errors import UsageError
from transforms.output import attempts, layout
from transforms.output.folder import Folder

HELP = "Tell how far a job is, from any machine, while it runs or after it died."


def add(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the state of a job. Returns the exit code: 0, whatever the state is."""
    args.screen.quiet = args.quiet
    check_unknown(args.beam_args, args.parser)
    with args.screen, args.screen.doing("reading the receipts"):
        open_stores(args.output, args.beam_args)
        status = read_status(args.output)
    print_json(status) if args.json else print_status(status)
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is; all but the state is None or empty where it has no plan yet.

    Attributes:
      state: in words; it begins with starting, running, finished, not finished or stopped.
      begun: shards at work, or left by workers that died, by worker.
      again: how many of these were begun before; (worst, worst_attempt) the one that was begun most often.
      documents_per_second, rate_seconds: of the last run, over so many seconds of work.
      bad_files: what is wrong with the files of failed shards.
    """

    state: str
    model: str | None = None
    model_digest: str | None = None
    dim: int | None = None
    vector_dtype: str | None = None
    shards: int | None = None
    committed: int | None = None
    failed: int | None = None
    begun: dict[str, int] = dataclasses.field(default_factory=dict)
    again: int = 0
    worst: str | None = None
    worst_attempt: int = 0
    bytes: int | None = None
    bytes_done: int | None = None
    documents: int | None = None
    dead_letters: dict[str, int] = dataclasses.field(default_factory=dict)
    documents_per_second: float | None = None
    rate_seconds: float | None = None
    seconds_left: float | None = None
    bad_files: list[str] = dataclasses.field(default_factory=list)


def read_status(output: str) -> Status:
    """Reads how far a job is.

    Raises:
      UsageError: there is no job in the folder.
    """
    folder = Folder(output)
    data = folder.read(layout.PLAN)
    if data is None and folder.local and state_of(folder).startswith("running"):
        return Status(state="starting: it has no plan yet")
    if data is None:
        raise UsageError(f"{output}: no job here: expected the output folder of `embedbeam embed`")
    job, shards = parse_plan(data, folder.join(layout.PLAN))
    receipts = finish.read_receipts(folder)
    failures = finish.read_failures(folder)
    sizes = {s.shard_id: sum(piece.bytes for piece in s.slices) for s in shards}
    done, whole = sum(sizes.get(r.shard_id, 0) for r in receipts), sum(sizes.values())
    documents = sum(r.documents for r in receipts)
    state = state_of(folder)
    rate, seconds = rate_of(folder, receipts) or (None, None)
    left = None
    if rate and done and whole > done and state.startswith("running"):
        left = (whole - done) * (documents / done) / rate
    begun = begun_shards(folder, {r.shard_id for r in receipts})
    worst, number = max(
        ((i, a.number) for i, a in begun.items()), key=lambda item: item[1], default=(None, 0)
    )
    hosts = collections.Counter(f"{a.host} (process {a.pid})" for a in begun.values())
    return Status(
        state=state,
        model=job.model,
        model_digest=job.model_digest,
        dim=job.dim,
        vector_dtype=job.vector_dtype,
        shards=len(shards),
        committed=len(receipts),
        failed=len(failures),
        begun=dict(hosts.most_common()),
        again=sum(a.number > 1 for a in begun.values()),
        worst=worst,
        worst_attempt=number,
        bytes=whole,
        bytes_done=done,
        documents=documents,
        dead_letters=finish.by_reason(receipts),
        documents_per_second=rate,
        rate_seconds=seconds,
        seconds_left=left,
        bad_files=[finish.failure_text(failure) for failure in failures],
    )


def print_status(status: Status) -> None:
    """The same in words."""
    print(f"job         {status.state}")
    if status.shards is None:
        return
    digest = (status.model_digest or "")[:16]
    print(f"model       {status.model} ({status.dim} {status.vector_dtype}, digest {digest})")
    print(f"shards      {status.committed} of {status.shards} committed, {status.failed} failed")
    if status.begun:
        where = ", ".join(f"{n} on {host}" for host, n in list(status.begun.items())[:8])
        print(f"begun       {sum(status.begun.values())} shards: {where}")
    if status.worst_attempt > 1:
        worst = f"{status.worst} is in attempt {status.worst_attempt}"
        print(f"again       {status.again} of them were begun before; {worst}")
    done, whole = status.bytes_done or 0, status.bytes or 0
    print(f"input       {done:,} of {whole:,} bytes ({done / whole if whole else 1:.0%})")
    print(f"documents   {status.documents:,} committed")
    dead = ", ".join(f"{reason} ({count})" for reason, count in status.dead_letters.items())
    print(f"dead letters {sum(status.dead_letters.values()):,}{': ' + dead if dead else ''}")
    if status.documents_per_second is not None and status.rate_seconds is not None:
        seconds = duration(status.rate_seconds)
        print(f"rate        {status.documents_per_second:,.1f} documents/s over the last {seconds} of work")
    if status.seconds_left is not None:
        print(f"time left   {duration(status.seconds_left)}")
    for bad in status.bad_files[:20]:
        print(f"bad file    {bad}")


def begun_shards(folder: Folder, committed: set[str]) -> dict[str, attempts.Attempt]:
    """Who is, or was when it died, at work on which shards."""
    names = [name.removesuffix(".json") for name in sorted(folder.names(layout.ATTEMPTS))]
    found = {shard_id: attempts.read(folder, shard_id) for shard_id in names if shard_id not in committed}
    return {shard_id: attempt for shard_id, attempt in found.items() if attempt is not None}


def state_of(folder: Folder) -> str:
    """finished, running, or stopped."""
    if folder.read(layout.SUCCESS) is not None:
        return "finished"
    run = read_run(folder)
    since = f", started {duration(time.time() - run['time'])} ago" if run else ""
    runner = run.get("runner", LOCAL[0])
    away = (
        f"; workers of {runner} may be at work, whether its launcher runs or not"
        if runner not in LOCAL
        else ""
    )
    if not folder.local:
        return f"not finished{since}{away}"
    try:
        with open(folder.join(layout.LOCK)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"running: process {run.get('pid', '?')} on {run.get('host', '?')}{since}"
    except FileNotFoundError:
        pass
    if away:
        return f"not finished{since}{away}"
    return "stopped before its end; run the same command again to go on"


def rate_of(folder: Folder, receipts: list[finish.ShardReceipt]) -> tuple[float, float] | None:
    """(documents/s, seconds) of the last run, from its receipts; None before its first one."""
    run = read_run(folder)
    recent = [r for r in receipts if r.finished >= run.get("time", 0)]
    if not recent:
        return None
    seconds = max(r.finished for r in recent) - min(r.started for r in recent)
    enough = seconds > 0 and len(recent) > 1  # one shard tells too little
    return (sum(r.documents for r in recent) / seconds, seconds) if enough else None
