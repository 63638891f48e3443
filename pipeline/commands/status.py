"""`embedbeam status`: how far a job is."""

from __future__ import annotations

import argparse
import time

from pipeline.cluster.runners import LOCAL
from pipeline.commands.folders import add_output, open_stores
from pipeline.commands.results import print_json
from pipeline.commands.unknown import check_unknown
from pipeline.run.screen import duration
from pipeline.run.state import Status, read_status

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
    if args.json:
        print_json(status)
    else:
        print("\n".join(status_lines(status)))
    return 0


def status_lines(status: Status) -> list[str]:
    """The state of a job in words."""
    lines = [f"job         {_state(status)}"]
    if status.state == "starting":
        return lines
    lines += [
        f"model       {status.model} ({status.dim} {status.dtype}, digest {status.model_digest[:16]})",
        f"shards      {status.committed} of {status.shards} committed, {status.failed} failed",
    ]
    if status.begun:
        hosts = list(status.begun.items())[:8]
        where = ", ".join(f"{count} on {host}" for host, count in hosts)
        lines.append(f"begun       {sum(status.begun.values())} shards: {where}")
    if status.begun_again and status.most_attempts:
        number, shard_id = status.most_attempts
        lines.append(
            f"again       {status.begun_again} of them were begun before; {shard_id} is in attempt {number}"
        )
    done, whole = status.done_bytes, status.input_bytes
    dead = ", ".join(f"{reason} ({count})" for reason, count in status.dead_letters.items())
    lines += [
        f"input       {done:,} of {whole:,} bytes ({done / whole if whole else 1:.0%})",
        f"documents   {status.documents:,} committed",
        f"dead letters {sum(status.dead_letters.values()):,}{': ' + dead if dead else ''}",
    ]
    if status.rate is not None and status.work_seconds is not None:
        over = duration(status.work_seconds)
        lines.append(f"rate        {status.rate:,.1f} documents/s over the last {over} of work")
    if status.seconds_left is not None:
        lines.append(f"time left   {duration(status.seconds_left)}")
    return lines + [f"bad file    {what}" for what in status.bad_files[:20]]


def _state(status: Status) -> str:
    since = f", started {duration(time.time() - status.since)} ago" if status.since else ""
    away = status.runner not in LOCAL
    if status.state == "starting":
        return "starting: it has no plan yet"
    if status.state == "running":
        return f"running: process {status.pid or '?'} on {status.host or '?'}{since}"
    if status.state == "stopped":
        return "stopped before its end; run the same command again to go on"
    if status.state == "unknown":
        workers = f"; workers of {status.runner} may be at work, whether its launcher runs or not"
        return f"not finished{since}{workers if away else ''}"
    return status.state
