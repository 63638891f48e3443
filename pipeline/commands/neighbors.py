"""`embedbeam neighbors`: the rows nearest to a document of the output, or to each of them."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_source, open_source
from pipeline.commands.search import add_many, add_search, check_to
from transforms.errors import UsageError


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("doc_id", nargs="?", metavar="DOC_ID", help="id of a document of the output")
    parser.add_argument("--all", action="store_true", help="of every row its nearest ones")
    add_search(parser)
    add_many(parser, what="--all")


def run(args: argparse.Namespace) -> Result:
    """Find the rows nearest to a document of the output, or of every row its nearest ones.

    Raises:
      UsageError: no such document, fewer rows than are asked for, a condition that is none.
    """
    if (args.doc_id is not None) == args.all:
        raise UsageError("expected a DOC_ID, or --all for every row")
    output = open_source(args)
    check_to(args, many=args.all, what="--all")
    from pipeline.search import hits
    from pipeline.search.ask import Finder
    from pipeline.search.many import answer, in_words
    from pipeline.search.queries import queries_of

    if args.all:
        hits.check_k(output, args.k, 1)
        record = answer(output, lambda: queries_of(output), args.to, args, name="neighbors", own=True)
        return Result(record, [in_words(record)])
    with args.screen.doing("looking for the document"):
        places = hits.rows_of(output, args.doc_id)
    hits.check_k(output, args.k, len(places))
    finder = Finder(output, args)
    found = finder.find(hits.vectors_at(output, places), args.screen, besides=places)
    span = [name for name in hits.shown(output) if name in ("doc_id", "chunk", "start", "end")]
    own = hits.take(output, places, span).to_pylist()
    rows = [row | {"results": results} for row, results in zip(own, found, strict=True)]
    words = [line for row in rows for line in hits.of_row(row, alone=len(rows) == 1)]
    return Result({"output": args.output, "rows": rows}, words)
