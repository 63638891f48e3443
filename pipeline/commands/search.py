"""`embedbeam search`: the rows nearest to a question."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_source, number, open_source
from transforms.errors import UsageError


def add_search(parser: argparse.ArgumentParser) -> None:
    """The arguments that `search` and `neighbors` share."""
    parser.add_argument("--k", type=number, default=10, metavar="N", help="how many rows (default: 10)")
    parser.add_argument(
        "--filter", metavar="CONDITION", help="only rows that fulfil it, in SQL: \"module = 'json'\""
    )
    parser.add_argument(
        "--index",
        action="store_true",
        help="ask an index, which finds most of the nearest rows at once; it is built where there is none",
    )
    parser.add_argument(
        "--index-folder", metavar="FOLDER", help="where the index lies (default: _index in OUTPUT)"
    )
    parser.add_argument(
        "--metric", choices=("cosine", "dot"), default="cosine", help="what is near (default: cosine)"
    )


def add_many(parser: argparse.ArgumentParser, *, what: str) -> None:
    """The arguments for many questions at once."""
    from pipeline.scan.arguments import add_scan

    parser.add_argument("--to", metavar="FOLDER", help=f"with {what}: folder for nearest.parquet")
    add_scan(parser)


def check_to(args: argparse.Namespace, *, many: bool, what: str) -> None:
    """Raises UsageError where many questions have no folder for the answers, or one has, or a runner."""
    from pipeline.search.target import check_target
    from transforms.output.folder import Folder

    if many != (args.to is not None):
        raise UsageError(f"{what} and --to FOLDER belong together: the answers become a Parquet file there")
    if not many and (args.runner != "DirectRunner" or args.shared_filesystem):
        raise UsageError(
            f"--runner and --shared-filesystem go with {what}: this is answered here; leave them out",
            argument="runner",
        )
    if args.to is not None:
        check_target(Folder(args.to))


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "question",
        nargs="?",
        metavar="QUESTION",
        help="what is asked; left out, a prompt asks, or standard input",
    )
    add_search(parser)
    parser.add_argument("--model", metavar="HANDLE", help="where the job's model lies now")
    parser.add_argument(
        "--prompt",
        metavar="NAME|TEXT",
        help="what comes before each question (default: the model's for queries)",
    )
    parser.add_argument(
        "--queries",
        metavar="FILE",
        help="many questions: a file that `embed` reads, Parquet with a column embedding, or a job's output",
    )
    parser.add_argument("--text-field", metavar="NAME", help="with --queries: field of the text")
    parser.add_argument("--id-field", metavar="NAME", help="with --queries: field of the id")
    add_many(parser, what="--queries")


def run(args: argparse.Namespace) -> Result:
    """Find the rows nearest to a question; without one, ask for questions.

    Raises:
      UsageError: another model, fewer rows than are asked for, a condition that is none.
    """
    if args.question is not None and args.queries is not None:
        raise UsageError("QUESTION and --queries FILE: give one of the two")
    if args.question is not None and not args.question.strip():
        raise UsageError("the question is empty: expected a few words")
    output = open_source(args)
    check_to(args, many=args.queries is not None, what="--queries FILE")
    if args.queries is not None:
        from pipeline.search.hits import check_k
        from pipeline.search.many import answer, in_words
        from pipeline.search.queries import Queries, find_queries

        check_k(output, args.k)

        def find() -> Queries:
            return find_queries(output, args.queries, args.to, args)

        record = answer(output, find, args.to, args, name="search")
        return Result(record, [in_words(record)])
    from pipeline.search import hits
    from pipeline.search.ask import Finder, ask
    from pipeline.search.model import Questions

    finder = Finder(output, args)
    questions = Questions(output, args.screen, model=args.model, prompt=args.prompt)
    if args.question is None:
        args.screen.rest()
        ask(finder, questions, args)
        return Result(None, [])
    [found] = finder.find(questions.embed(args.question), args.screen)
    record = {"output": args.output, "question": args.question, "results": found}
    return Result(record, hits.in_words(found))
