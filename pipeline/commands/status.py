"""How far a job is, from its plan and receipts alone: while it runs, and after it died."""

from __future__ import annotations

import collections
import fcntl
import time

from pipeline.cluster.runners import LOCAL
from pipeline.job import parse_plan
from pipeline.run import finish
from pipeline.run.output import read_run
from pipeline.run.progress import duration
from transforms.errors import UsageError
from transforms.output import attempts, layout
from transforms.output.folder import Folder


def print_status(output: str) -> int:
    """Prints the state of a job. Returns the exit code: 0, whatever the state is.

    Raises:
      UsageError: there is no job in the folder.
    """
    folder = Folder(output)
    data = folder.read(layout.PLAN)
    if data is None and folder.local and state_of(folder).startswith("running"):
        print("job         starting: it has no plan yet")
        return 0
    if data is None:
        raise UsageError(f"{output}: no job here: expected the output folder of `embedbeam embed`")
    job, shards = parse_plan(data, folder.join(layout.PLAN))
    receipts = finish.read_receipts(folder)
    failures = finish.read_failures(folder)
    sizes = {s.shard_id: sum(piece.bytes for piece in s.slices) for s in shards}
    done = sum(sizes.get(r.shard_id, 0) for r in receipts)
    whole = sum(sizes.values())
    documents = sum(r.documents for r in receipts)
    reasons = finish.by_reason(receipts)
    state = state_of(folder)
    print(f"job         {state}")
    print(f"model       {job.model} ({job.dim} {job.vector_dtype}, digest {job.model_digest[:16]})")
    print(f"shards      {len(receipts)} of {len(shards)} committed, {len(failures)} failed")
    print_attempts(folder, {r.shard_id for r in receipts})
    print(f"input       {done:,} of {whole:,} bytes ({done / whole if whole else 1:.0%})")
    print(f"documents   {documents:,} committed")
    dead = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    print(f"dead letters {sum(reasons.values()):,}{': ' + dead if dead else ''}")
    rate = rate_of(folder, receipts)
    if rate is not None:
        documents_rate, seconds = rate
        print(f"rate        {documents_rate:,.1f} documents/s over the last {duration(seconds)} of work")
        done_run = documents_rate * seconds
        if state.startswith("running") and documents and done_run and whole > done:
            left = (whole - done) * (documents / done) / documents_rate if done else 0
            print(f"time left   {duration(left)}")
    for failure in failures[:20]:
        print(f"bad file    {finish.failure_text(failure)}")
    return 0


def print_attempts(folder: Folder, committed: set[str]) -> None:
    """Prints who is, or was when it died, at work on which shards, and which ones were begun again."""
    names = [name.removesuffix(".json") for name in sorted(folder.names(layout.ATTEMPTS))]
    found = {shard_id: attempts.read(folder, shard_id) for shard_id in names if shard_id not in committed}
    begun = {shard_id: attempt for shard_id, attempt in found.items() if attempt is not None}
    if not begun:
        return
    hosts = collections.Counter(f"{attempt.host} (process {attempt.pid})" for attempt in begun.values())
    where = ", ".join(f"{n} on {host}" for host, n in hosts.most_common(8))
    print(f"begun       {len(begun)} shards: {where}")
    worst, attempt = max(begun.items(), key=lambda item: item[1].number)
    if attempt.number > 1:
        again = sum(a.number > 1 for a in begun.values())
        print(f"again       {again} of them were begun before; {worst} is in attempt {attempt.number}")


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
