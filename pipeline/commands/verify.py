"""`embedbeam verify`: reads an output folder back and names every defect."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_output, open_stores
from transforms.output.defects import find_defects
from transforms.output.reader import open_output

add = add_output


def run(args: argparse.Namespace) -> Result:
    """Read an output folder back and report every defect."""
    defects: list[str] = []
    with args.screen.doing("reading the output"):
        open_stores(args.output, args.beam_args)
        output = open_output(args.output)
        for defect in find_defects(output):
            defects.append(defect)
            if not args.json:
                print(f"defect: {defect}", flush=True)
    record = {"output": args.output, "defects": defects}
    if defects:
        return Result(record, [f"{args.output}: {len(defects)} defects"], code=1)
    letters = sum(sum(receipt.dead_letters.values()) for receipt in output.receipts)
    counts = {"shards": len(output.receipts), "rows": output.count, "dead_letters": letters}
    said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return Result(record | counts, [f"{args.output}: {said}: all as committed"])
