"""`embedbeam verify`: reads an output folder back and names every defect."""

from __future__ import annotations

from transforms.output.defects import find_defects
from transforms.output.reader import Output, open_output


def print_defects(path: str) -> int:
    """Prints one line per defect, or that there is none. Returns the exit code.

    Raises:
      UsageError: there is no job in the folder.
    """
    output = open_output(path)
    defects = 0
    for defect in find_defects(output):
        print(f"defect: {defect}", flush=True)
        defects += 1
    print(f"{path}: {f'{defects} defects' if defects else sound_text(output)}")
    return 1 if defects else 0


def sound_text(output: Output) -> str:
    """What there is in an output without a defect."""
    letters = sum(sum(receipt.dead_letters.values()) for receipt in output.receipts)
    return f"{len(output.receipts)} shards, {output.count:,} rows, {letters:,} dead letters: all as committed"
