"""`embedbeam report`: what was embedded and whether the vectors are any good, as one page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.commands import Result, add_seed, add_source, open_source

if TYPE_CHECKING:
    from pipeline.report.findings import Finding
    from transforms.output.manifest import Manifest
    from transforms.output.reader import Output

_MOST = 20_000  # rows whose cosines with each other, and whose dots on a page, are quickly done


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--to", metavar="FILE", help="write the page there (default: OUTPUT/_report.html)")
    parser.add_argument("--sample", metavar="N", type=int, default=5000, help="look at so many rows (5000)")
    add_seed(parser, "the sample")


def run(args: argparse.Namespace) -> Result:
    """Write a page on an output: what was embedded, what looks wrong, charts, a map.

    Raises:
      UsageError: the output has no rows, or is not finished; the sample is too large.
    """
    from pipeline.report.write import columns, drawn_words, make_report
    from pipeline.target import begin
    from transforms.errors import UsageError
    from transforms.output import layout
    from transforms.output.sample import sample_rows

    if not 2 <= args.sample <= _MOST:
        raise UsageError(f"--sample {args.sample}: expected 2 to {_MOST:,}", argument="sample")
    with args.screen.doing("reading the receipts"):
        output = open_source(args, to_folder=False)
        manifest = output.manifest or _so_far(output)
    with args.screen.doing(f"reading {min(args.sample, output.count):,} of {output.count:,} rows"):
        rows = sample_rows(output, args.sample, args.seed, columns(output))
    with args.screen.doing("making the report"):
        drawn = drawn_words(len(rows), output.count)
        made, found, figures = make_report(output, manifest, output.receipts, rows, drawn=drawn)
        path = args.to or output.folder.join(layout.REPORT)
        file = output.folder.create(layout.REPORT) if args.to is None else begin(args.to)
        file.write(made.encode("utf-8", "backslashreplace"))
        file.commit()
    return Result({"report": path} | figures, _words(path, found))


def _words(path: str, found: list[Finding]) -> Iterator[str]:
    for finding in found:
        yield f"warning: {finding.what}"
    yield f"{path}: {len(found) or 'no'} {'warning' if len(found) == 1 else 'warnings'}"


def _so_far(output: Output) -> Manifest:
    """What a manifest would say of the shards that are committed."""
    from pipeline.options.options import Options
    from pipeline.run.finish import Books

    books = Books.of(output.folder, output.plan, Options(input="-", output=output.folder.path))
    return books.make_manifest(output.receipts, 0.0, "unknown")
