"""`embedbeam verify`: reads an output folder back and names every defect."""

from __future__ import annotations

import argparse

from pipeline.commands.folders import add_output, open_stores
from pipeline.commands.results import print_json
from pipeline.commands.unknown import check_unknown
from transforms.output.defects import find_defects
from transforms.output.reader import Output, open_output

HELP = "Read an output folder back and report every defect."


def add(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one line per defect, as they are found, or that there is none. Returns the exit code."""
    args.screen.quiet = args.quiet
    check_unknown(args.beam_args, args.parser)
    defects: list[str] = []
    with args.screen, args.screen.doing("reading the output"):
        open_stores(args.output, args.beam_args)
        output = open_output(args.output)
        for defect in find_defects(output):
            defects.append(defect)
            if not args.json:
                print(f"defect: {defect}", flush=True)
        counts = {} if defects else counts_of(output)
    if args.json:
        print_json({"output": args.output, "defects": defects} | counts)
    elif defects:
        print(f"{args.output}: {len(defects)} defects")
    else:
        said = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in counts)
        print(f"{args.output}: {said}: all as committed")
    return 1 if defects else 0


def counts_of(output: Output) -> dict[str, int]:
    """What a sound output holds, from its receipts."""
    letters = sum(sum(receipt.dead_letters.values()) for receipt in output.receipts)
    return {"shards": len(output.receipts), "rows": output.count, "dead_letters": letters}
