"""`embedbeam verify`: reads an output folder back and names every defect."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.commands import Result, add_output, open_stores
from transforms.elements import ShardReceipt
from transforms.output import layout
from transforms.output.defects import check_part, find_defects
from transforms.output.reader import open_output

if TYPE_CHECKING:
    from transforms.output.defects import Checked
    from transforms.output.reader import Output


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.scan.arguments import add_scan

    add_output(parser)
    add_scan(parser)


def run(args: argparse.Namespace) -> Result:
    """Read an output folder back and report every defect."""
    defects: list[str] = []
    done = total = 0

    def check(output: Output, receipts: Sequence[ShardReceipt]) -> Iterator[Checked]:
        nonlocal done, total
        total = len(receipts)
        if args.runner != "DirectRunner":
            yield from _on_cluster(output, receipts, args)
            return
        for receipt in receipts:
            yield check_part(output, receipt)
            done += 1

    with args.screen.doing("reading the output"):
        open_stores(args.output, args.beam_args)
        output = open_output(args.output)
    with args.screen.doing(lambda: f"reading the output: {done:,} of {total:,} parts"):
        for defect in find_defects(output, check):
            defects.append(defect)
            if not args.json:
                print(f"defect: {defect}", flush=True)
    record = {"output": args.output, "defects": defects}
    if defects:
        return Result(record, [f"{args.output}: {len(defects)} defects"], code=1)
    letters = sum(sum(receipt.dead_letters.values()) for receipt in output.receipts)
    counts = {"shards": len(output.receipts), "rows": output.count, "dead_letters": letters}
    if forgotten := sum(receipt.forgotten for receipt in output.receipts):
        counts["forgotten"] = forgotten
    said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return Result(record | counts, [f"{args.output}: {said}: all as committed"])


def _on_cluster(
    output: Output, receipts: Sequence[ShardReceipt], args: argparse.Namespace
) -> Iterator[Checked]:
    """The parts, checked by workers of a cluster; what they found lies in the output meanwhile."""
    from pipeline.scan.run import run_scan
    from pipeline.scan.verify import CheckParts, checked

    target = output.folder.join(layout.CHECKS)
    results = run_scan(output, target, CheckParts(time.time()), args, receipts)
    try:
        yield from checked(results)
    finally:  # not before: refused, since another one is at work, it would delete that one's results
        output.folder.delete_folder(layout.CHECKS)
