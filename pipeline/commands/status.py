"""`embedbeam status`: how far a job is, from its folder alone: while it runs, and after it died."""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import time
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from pipeline.cluster.runners import LOCAL
from pipeline.commands import Result, add_output, open_stores
from pipeline.run.finish import failure_text
from pipeline.run.output import read_run
from pipeline.run.screen import duration
from transforms.output import attempts, layout, ledger
from transforms.output.folder import Folder
from transforms.output.forgotten import begun
from transforms.output.plan_file import PlanFile
from transforms.output.pointer import followed
from transforms.output.reader import Output, open_output

add = add_output


def run(args: argparse.Namespace) -> Result:
    """Tell how far a job is, from any machine, while it runs or after it died."""
    with args.screen.doing("reading the receipts"):
        open_stores(args.output, args.beam_args)
        status = read_status(args.output)
    return Result(status, status_lines(status))


def read_status(path: str) -> dict[str, Any]:
    """The state of the job in a folder.

    Returns:
      state: starting (no plan yet), running, stopped, finished, forgetting (`embedbeam forget` is at work, or
        died), or unknown (the folder is in a store, or workers of a cluster may be at work).
      runner, host, pid, since: of the last run; since in seconds since the epoch, None if there was none.
      shards, committed, failed: how many there are.
      begun: shards at work, or in whose midst a worker died, by host and process.
      begun_again: how many of them were begun before.
      most_attempts: number of attempts and id of the one that was begun most often; None if none is begun.
      input_bytes, done_bytes: of the plan, and of its committed shards.
      documents: committed, dead letters counted.
      dead_letters: by reason.
      forgotten: documents that were taken out afterwards.
      rate, work_seconds: documents a second in the last run, and over which time; None if unknown.
      seconds_left: None if unknown.
      bad_files: what is wrong with each.

    Raises:
      UsageError: there is no job in the folder.
    """
    folder = followed(Folder(path))
    starting = folder.local and _is_locked(folder) and folder.read(layout.PLAN) is None
    output = Output(folder, PlanFile("", {}, ())) if starting else open_output(folder.path)
    plan, receipts = output.plan, output.receipts
    last = read_run(folder, plan.job)
    runner, since = last.get("runner", LOCAL[0]), last.get("time")
    state = "starting" if starting else _state(output, runner)
    sizes = {shard.shard_id: shard.bytes for shard in plan.shards}
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
    return {
        "state": state,
        "runner": runner,
        "host": last.get("host"),
        "pid": last.get("pid"),
        "since": since,
        "model": plan.head.get("model", ""),
        "model_digest": plan.head.get("model_digest", ""),
        "dim": plan.head.get("dim", 0),
        "dtype": plan.head.get("vector_dtype", ""),
        "shards": len(plan.shards),
        "committed": len(receipts),
        "failed": len(failures),
        "begun": dict(hosts.most_common()),
        "begun_again": sum(note.number > 1 for note, _ in notes),
        "most_attempts": max(((note.number, i) for note, i in notes), key=itemgetter(0), default=None),
        "input_bytes": whole,
        "done_bytes": done,
        "documents": documents,
        "dead_letters": ledger.by_reason(receipts),
        "forgotten": sum(r.forgotten for r in receipts),
        "rate": rate,
        "work_seconds": None if rate is None else seconds,
        "seconds_left": (whole - done) * documents / done / rate
        if state == "running" and rate and done
        else None,
        "bad_files": [failure_text(failure) for failure in failures],
    }


def _state(output: Output, runner: str) -> str:
    if output.folder.read(layout.SUCCESS) is not None:
        return "finished"
    if begun(output.folder, output.plan.job) is not None:
        return "forgetting"
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


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The state of a job in words."""
    state, runner = status["state"], status["runner"]
    since = f", started {duration(time.time() - status['since'])} ago" if status["since"] else ""
    away = f"; workers of {runner} may be at work, whether its launcher runs or not"
    words = {
        "starting": "starting: it has no plan yet",
        "running": f"running: process {status['pid'] or '?'} on {status['host'] or '?'}{since}",
        "forgetting": "documents are being forgotten; if no process does it, `embedbeam forget` ends it",
        "stopped": "stopped before its end; run the same command again to go on",
        "unknown": f"not finished{since}{'' if runner in LOCAL else away}",
    }
    yield f"job         {words.get(state, state)}"
    if state == "starting":
        return
    model = f"{status['dim']} {status['dtype']}, digest {status['model_digest'][:16]}"
    yield f"model       {status['model']} ({model})"
    yield f"shards      {status['committed']} of {status['shards']} committed, {status['failed']} failed"
    if begun := status["begun"]:
        where = ", ".join(f"{count} on {host}" for host, count in list(begun.items())[:8])
        yield f"begun       {sum(begun.values())} shards: {where}"
    if again := status["begun_again"]:
        number, shard_id = status["most_attempts"]
        yield f"again       {again} of them were begun before; {shard_id} is in attempt {number}"
    done, whole = status["done_bytes"], status["input_bytes"]
    yield f"input       {done:,} of {whole:,} bytes ({done / whole if whole else 1:.0%})"
    yield f"documents   {status['documents']:,} committed"
    dead = ", ".join(f"{reason} ({count})" for reason, count in status["dead_letters"].items())
    yield f"dead letters {sum(status['dead_letters'].values()):,}{': ' + dead if dead else ''}"
    if status["forgotten"]:
        yield f"forgotten   {status['forgotten']:,} documents"
    if status["rate"] is not None:
        over = duration(status["work_seconds"])
        yield f"rate        {status['rate']:,.1f} documents/s over the last {over} of work"
    if status["seconds_left"] is not None:
        yield f"time left   {duration(status['seconds_left'])}"
    for what in status["bad_files"][:20]:
        yield f"bad file    {what}"
